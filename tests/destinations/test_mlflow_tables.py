"""Tables in a real store, beside those that ``mlflow.log_table`` writes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from tests.destinations.tools import context
from tests.ends.harness import new_database
from trackside.destinations.mlflow.artifacts import growing_table
from trackside.destinations.mlflow.artifacts import tables as tables_
from trackside.destinations.mlflow.artifacts.tables import Tables
from trackside.destinations.mlflow.destination import MLflowDestination
from trackside.encoding.tables import ROWS, Rows
from trackside.errors import RejectedError, RetryableError
from trackside.journal.format import ArtifactRecord
from trackside.journal.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.destinations.context import DestinationContext

# mlflow.log_table makes pandas warn, of 3.x and of 2.x.
pytestmark = [
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str' dtypes"),
    pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation"),
]


class Store:
    """A sqlite store with one run, and the destination that writes to it."""

    def __init__(self, place: Path) -> None:
        self.uri = new_database(place)
        self.client = MlflowClient(self.uri)
        self.notices: list[str] = []
        self._made = context(place)
        self._kept: dict[str, Any] | None = None
        self.destination = self._opened()

    def _opened(self, **changes: Any) -> MLflowDestination:
        given: DestinationContext = replace(self._made, notice=self.notices.append, **changes)
        made = MLflowDestination(given, self.uri, outbox=Outbox(given.journal))
        if self._kept is not None:
            made.restore(self._kept)
        made.open()
        self._kept = made.state()
        return made

    @property
    def folder(self) -> Path:
        """Where its tables wait."""
        return self._made.journal / f"tables-for-{self._made.name}"

    def restart(self) -> None:
        """Go on as a shipper that is started again."""
        self.destination = self._opened(restarted=True)

    def add(self, seq: int, *rows: dict[str, Any], place: str = "t.json") -> None:
        """Deliver the record ``seq`` with these rows."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        values = [[row.get(name) for name in columns] for row in rows]
        details = {"rows": msgspec.to_builtins(Rows(columns, values))}
        record = ArtifactRecord(seq, 0, "table", place, form=ROWS, details=details)
        self.destination.write_artifact(record, None)

    def send(self) -> None:
        """Upload everything."""
        assert self.destination.write_postponed(everything=True) is None

    @property
    def run(self) -> Any:
        """The only run."""
        (experiment,) = [e for e in self.client.search_experiments() if e.name == "digits"]
        (run,) = self.client.search_runs([experiment.experiment_id])
        return run

    def table(self, place: str = "t.json") -> Any:
        """The file of the table in the run."""
        path = self.client.download_artifacts(self.run.info.run_id, place)
        return json.loads(Path(path).read_text("utf-8"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """In a folder of its own, where MLflow's own calls find it, too."""
    monkeypatch.chdir(tmp_path)
    made = Store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    yield made
    made.destination.close()


@pytest.mark.filterwarnings("ignore:The 'convert_dates' keyword")  # MLflow 3.18 uses it in log_table()
def test_the_table_is_the_one_that_mlflow_writes(store: Store) -> None:
    """The same file, the same tag, and ``mlflow.load_table`` reads both."""
    rows: list[dict[str, Any]] = [
        {"a": 1, "b": 0.5, "c": "ü", "d": None},
        {"a": 2, "b": None, "c": "y", "d": None},
    ]
    store.add(1, rows[0])
    store.add(2, rows[1])
    store.send()
    other = store.client.create_run("0").info.run_id
    for row in rows:
        store.client.log_table(other, pd.DataFrame([row]), "t.json")
    theirs = store.client.get_run(other)
    ours = store.run
    assert ours.data.tags[tables_.TAG] == theirs.data.tags[tables_.TAG]
    path = Path(store.client.download_artifacts(other, "t.json"))
    assert store.table() == json.loads(path.read_text("utf-8"))
    loaded = store.client.load_table(ours.info.experiment_id, "t.json", [ours.info.run_id])
    assert loaded["a"].tolist() == [1, 2]
    assert loaded["c"].tolist() == ["ü", "y"]


def test_the_first_rows_go_up_at_once_and_the_next_ones_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause between two uploads doubles, so a thousand rows are not a thousand uploads."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    uploads = []
    for second in range(1000):
        now = float(second)
        store.add(second + 1, {"a": second})
        before = store.destination.write_postponed(everything=False)
        if before is None:
            uploads.append(second)
    assert uploads == [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]
    store.send()
    assert [row[0] for row in store.table()["data"]] == list(range(1000))


def test_the_tag_is_set_once_for_each_table(store: Store) -> None:
    """And keeps what others have named in it."""
    store.client.set_tag(store.run.info.run_id, tables_.TAG, '[{"path": "theirs.json", "type": "table"}]')
    for seq in range(1, 5):
        store.add(seq, {"a": 1}, place=f"t{seq % 2}.json")
        store.send()
    assert [item["path"] for item in json.loads(store.run.data.tags[tables_.TAG])] == [
        "theirs.json",
        "t1.json",
        "t0.json",
    ]


@pytest.mark.parametrize("tag", ['[{"path": "cut', "{}", json.dumps(["x" * 7990])])
def test_a_tag_that_is_full_or_damaged_stays(store: Store, tag: str) -> None:
    """Servers of old have cut it. The table itself is there, and the user is told."""
    store.client.set_tag(store.run.info.run_id, tables_.TAG, tag)
    store.add(1, {"a": 1})
    store.send()
    assert store.table()["data"] == [[1]]
    assert store.run.data.tags[tables_.TAG] == tag
    assert "can't compare the table 't.json'" in store.notices[-1]


def test_a_restarted_shipper_continues_the_table(store: Store) -> None:
    """Rows that were added and not uploaded arrive, and a record that comes again is there once."""
    store.add(1, {"a": 1})
    store.send()
    store.add(2, {"a": 2})
    store.restart()
    store.add(2, {"a": 2})
    store.add(3, {"b": 3})
    store.send()
    assert store.table() == {"columns": ["a", "b"], "data": [[1, None], [2, None], [None, 3]]}


def test_a_restarted_shipper_sends_what_waits_without_a_new_row(store: Store) -> None:
    """The end of the run asks for everything."""
    store.add(1, {"a": 1})
    store.restart()
    store.send()
    assert store.table()["data"] == [[1]]


def test_what_is_uploaded_is_not_uploaded_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a flush nor by a restart."""
    store.add(1, {"a": 1})
    store.send()
    store.restart()
    monkeypatch.setattr(growing_table.GrowingTable, "write", lambda *_: pytest.fail("it was written again"))
    store.send()


def test_a_resumed_run_continues_the_table_that_it_has(store: Store) -> None:
    """A table by mlflow.log_table is read back once."""
    store.client.log_table(store.run.info.run_id, {"a": [1, 2], "b": ["x", "y"]}, "t.json")
    store.add(1, {"b": "z", "c": 3.5})
    store.send()
    assert store.table() == {
        "columns": ["a", "b", "c"],
        "data": [[1, "x", None], [2, "y", None], [None, "z", 3.5]],
    }


def test_a_file_that_is_no_table_is_left_alone(store: Store) -> None:
    """The rows are rejected with advice, and the other tables are written."""
    store.client.log_text(store.run.info.run_id, "hello", "t.json")
    with pytest.raises(RejectedError, match="under another name"):
        store.add(1, {"a": 1})
    store.add(2, {"a": 1}, place="other.json")
    store.send()
    assert store.table("other.json")["data"] == [[1]]


def test_a_table_that_mlflow_refuses_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the dead letters, and holds up neither the other tables nor the end."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RejectedError("too large")

    store.add(1, {"a": 1})
    store.add(2, {"a": 2}, place="other.json")
    with monkeypatch.context() as patch:
        patch.setattr(type(store.destination._files), "upload", refuse)
        with pytest.raises(RejectedError, match="too large") as raised:
            store.destination.write_postponed(everything=True)
    refused = raised.value
    assert json.loads(Path(refused.file or "").read_text("utf-8"))["columns"] == ["a"]
    store.send()
    (arrived,) = {"t.json", "other.json"} - {refused.place}
    assert store.table(arrived)["columns"] == ["a"]


def test_a_store_that_is_away_keeps_the_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go up with the next try."""

    def fail(*_: Any, **__: Any) -> None:
        raise RetryableError("away")

    store.add(1, {"a": 1})
    with monkeypatch.context() as patch:
        patch.setattr(type(store.destination._files), "upload", fail)
        with pytest.raises(RetryableError):
            store.destination.write_postponed(everything=True)
    store.send()
    assert store.table()["data"] == [[1]]


def test_a_secondary_writer_has_a_table_of_its_own(store: Store) -> None:
    """The last upload would win. The name stays when the shipper is restarted, whoever owns the run then."""
    store.destination._tables = Tables(store.folder, name_for=lambda _place: "t.mine.json")
    store.destination._files.tables = store.destination._tables
    store.client.log_table(store.run.info.run_id, {"a": [1]}, "t.json")
    store.add(1, {"a": 2})
    store.send()
    store.restart()
    store.add(2, {"a": 3})
    store.send()
    assert store.table()["data"] == [[1]]
    assert store.table("t.mine.json")["data"] == [[2], [3]]
