"""W&B offline. There is no W&B server here: nothing in this file says that online works."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from wandb.proto import wandb_internal_pb2

from tests.destinations.tools import START_MS, begun, config, context, metrics, records, run_and_kill
from tests.support.program import run_python
from trackside.destinations.wandb import log as wandb_log
from trackside.destinations.wandb.destination import WandbDestination
from trackside.destinations.wandb.log import TransactionLog
from trackside.destinations.wandb.rows import row_of
from trackside.errors import ConfigurationError, DestinationFailedError, RetryableError
from trackside.events import RunEnd
from trackside.testing.destinations import DestinationContract, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.protocols import Destination

pytestmark = [
    pytest.mark.timeout(110),
    # wandb forgets its process without having waited for it.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
proto: Any = wandb_internal_pb2


@pytest.fixture(autouse=True)
def no_core_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a wandb-core of its own, and no settings of the developer's."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    yield
    import wandb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        wandb.teardown()
        for process in [each for each in gc.get_objects() if type(each) is subprocess.Popen]:
            if "wandb" in str(process.args):  # an error may still hold it, and a later test would be blamed
                process.kill()
                process.wait()
        gc.collect()


def opened(directory: Path, state: dict[str, Any] | None = None, **options: Any) -> WandbDestination:
    """A destination as the shipper has it after a start, or a restart with ``state``."""
    return begun(WandbDestination(context(directory), **{"mode": "offline", **options}), state)


def tell_end(made: WandbDestination, status: Any = "FINISHED", *, final: bool = True) -> None:
    """End the run."""
    made.write_end(RunEnd(status=status, reason="why", final=final))


def logs(directory: Path) -> list[Path]:
    """The transaction logs there, as `wandb sync` would find them."""
    return sorted(directory.glob("wandb/*run-*/*.wandb"))


def raw(directory: Path) -> list[Any]:
    """All records of the one transaction log."""
    (path,) = logs(directory)
    return [proto.Record.FromString(data) for data in TransactionLog(path)._new_records()]


def rows(directory: Path) -> list[dict[str, Any]]:
    """All rows of the one transaction log."""
    (path,) = logs(directory)
    found = list(TransactionLog(path).new_rows())
    assert [row.number for row in found] == list(range(len(found)))
    return [row.values for row in found]


def steps(directory: Path) -> list[int]:
    """The training's step of each row."""
    return [row["trainer/global_step"] for row in rows(directory)]


class TestContract(DestinationContract):
    """W&B, offline, keeps to what every destination does."""

    def destination(self, context: DestinationContext) -> WandbDestination:
        return WandbDestination(context, mode="offline")

    def points(self, context: DestinationContext) -> Iterator[Point]:
        for row in rows(context.path(".")):
            step = row.pop("trainer/global_step", None)
            yield from (
                (name, step, value)
                for name, value in row.items()
                if not name.startswith("_") and not isinstance(value, dict)
            )

    def crash(self, destination: Destination) -> None:
        assert isinstance(destination, WandbDestination)
        destination._abandon()


def test_rows_are_in_the_transaction_log(tmp_path: Path):
    """Names, exact values, steps and the time of the emit. Samples of one step stay apart."""
    made = opened(tmp_path)
    made.write_metrics([metrics(5, epoch=1.0, loss=0.1 + 0.2), metrics(5, prefix="val", größe=1e-300)])
    made.write_metrics([metrics(3, a=math.nan, b=math.inf, c=-math.inf)])
    tell_end(made)
    first, second, third = rows(tmp_path)
    assert (first["loss"], first["epoch"], first["trainer/global_step"]) == (0.1 + 0.2, 1.0, 5)
    assert first["_timestamp"] == (START_MS + 50) / 1000
    assert (second["val/größe"], second["trainer/global_step"]) == (1e-300, 5)
    assert math.isnan(third["a"])
    assert (third["b"], third["c"], third["trainer/global_step"]) == (math.inf, -math.inf, 3)


def test_the_training_step_is_the_x_axis(tmp_path: Path):
    """Of every metric: W&B's own step only numbers the rows."""
    tell_end(opened(tmp_path))
    (metric,) = (
        r.metric for r in raw(tmp_path) if r.WhichOneof("record_type") == "metric" and r.metric.glob_name
    )
    assert (metric.glob_name, metric.step_metric) == ("*", "trainer/global_step")


def test_the_run_is_described(tmp_path: Path):
    """By the experiment, the run and what the options add. Nothing about the shipper's program is kept."""
    tell_end(opened(tmp_path, entity="team", tags=["a", "b"], notes="why", group="g", job_type="train"))
    found = raw(tmp_path)
    (run,) = (record.run for record in found if record.WhichOneof("record_type") == "run")
    assert (run.run_id, run.project, run.entity) == ("0123456789abcdef0123456789abcdef", "digits", "team")
    assert (run.display_name, list(run.tags), run.notes) == ("a run", ["a", "b"], "why")
    assert (run.run_group, run.job_type) == ("g", "train")
    kinds = {record.WhichOneof("record_type") for record in found}
    assert not kinds & {"stats", "environment", "output", "output_raw", "files", "artifact"}


def test_the_configuration_is_the_runs_config(tmp_path: Path):
    """Nested, as it is. Changed values are replaced. A restarted shipper knows it too."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 0.1, "model": {"depth": 3}}))
    made.write_config(config({"lr": 0.2}))
    made._abandon()
    tell_end(opened(tmp_path, made.state()))
    values = {}
    for record in raw(tmp_path):
        for item in (*record.config.update, *record.run.config.update):
            values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    values.pop("_wandb", None)
    assert values == {"lr": 0.2, "model": {"depth": 3}}


@pytest.mark.parametrize(("status", "code"), [("FINISHED", 0), ("FAILED", 1), ("KILLED", 255)])
def test_the_exit_code_tells_how_it_ended(tmp_path: Path, status: str, code: int):
    """Once, and only when it is final."""
    made = opened(tmp_path)
    tell_end(made, "KILLED", final=False)
    tell_end(made, status)
    made.close()
    (exited,) = (record.exit for record in raw(tmp_path) if record.WhichOneof("record_type") == "exit")
    assert exited.exit_code == code


def test_a_delivered_batch_is_on_the_disk(tmp_path: Path):
    """When write_metrics returns, the row is in the file, whatever happens to wandb-core."""
    made = opened(tmp_path)
    for step in range(3):
        made.write_metrics(records(step))
        assert steps(tmp_path) == list(range(step + 1))


def test_killed_while_the_rows_were_logged_again(tmp_path: Path):
    """Both files are known then, and either may hold any of the rows."""
    made = opened(tmp_path)
    made.write_metrics(records(1, 2))
    old = logs(tmp_path)
    keep = old[0].read_bytes()
    made._abandon()
    again = opened(tmp_path, made.state())
    again._abandon()
    old[0].parent.mkdir()
    old[0].write_bytes(keep)
    again._remember([*old, *again._files()])
    tell_end(opened(tmp_path, again.state()))
    assert steps(tmp_path) == [1, 2]


def test_a_core_that_died_is_replaced(tmp_path: Path):
    """The batch fails, is sent again as the worker does, and is there once."""
    made = opened(tmp_path)
    made.write_metrics(records(1, 2))
    for child in psutil.Process().children(recursive=True):
        if "wandb-core" in child.name():
            child.kill()
            child.wait(10)
    with pytest.raises(RetryableError, match="W&B"):
        made.write_metrics(records(3))
    made.write_metrics(records(3))
    tell_end(made)
    assert steps(tmp_path) == [1, 2, 3]


KILLED = """
import json, sys
from pathlib import Path
from tests.destinations.test_wandb import opened, records
made = opened(Path(sys.argv[1]))
for first in range(0, 10_000_000, 20):
    print(json.dumps(made.state()))
    made.write_metrics(records(*range(first, first + 20)))
"""


def cores_of(directory: Path) -> list[psutil.Process]:
    """The wandb-cores that have a file open below ``directory``."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "wandb-core":
            try:
                if any(file.path.startswith(str(directory)) for file in process.open_files()):
                    found.append(process)
            except psutil.Error:
                continue
    return found


@pytest.mark.parametrize("then", [0.0, 0.03])
def test_killed_in_the_middle(tmp_path: Path, then: float):
    """What was acknowledged is there, what was sent since then is there once, and no process stays behind."""
    said = run_and_kill(KILLED, tmp_path, lines=5, then=then)
    state = json.loads(said[-1])
    first = state["rows"]
    again = opened(tmp_path, state)
    again.write_metrics(records(*range(first, first + 30)))
    tell_end(again)
    assert steps(tmp_path) == list(range(first + 30))
    import wandb

    wandb.teardown()
    deadline = time.monotonic() + 20
    while cores_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert cores_of(tmp_path) == []


@pytest.mark.parametrize("state", [{"rows": 2}, None], ids=["acknowledged", "first batch"])
def test_the_files_are_found_by_the_note_of_a_development_version(
    tmp_path: Path, state: dict[str, Any] | None
):
    """It kept the files' names beside the cursor. The rows are there once, in one directory."""
    made = opened(tmp_path)
    made.write_metrics(records(1, 2))
    (path,) = logs(tmp_path)
    made.close()
    (made.context.journal / f"{made.name}-files.json").write_text(json.dumps([str(path)]))
    again = opened(tmp_path, state)
    again.write_metrics(records(*([3] if state else [1, 2, 3])))
    tell_end(again)
    assert steps(tmp_path) == [1, 2, 3]


def test_removed_files_are_reported(tmp_path: Path):
    """What is gone is gone: it is said, and the rest continues."""
    base = context(tmp_path)
    said: list[str] = []
    made = WandbDestination(type(base)(base.name, base.meta, base.journal, said.append), mode="offline")
    made.restore({"rows": 7, "logs": []})
    made.open()
    made.write_metrics(records(8))
    tell_end(made)
    (path,) = logs(tmp_path)
    assert [row.number for row in TransactionLog(path).new_rows()] == [7]
    assert "7 rows are missing" in said[0]


def test_nothing_is_printed(tmp_path: Path):
    """Not a word on standard output or error, and the process ends by itself."""
    script = """
import sys
from pathlib import Path
from tests.destinations.test_wandb import opened, records, tell_end
made = opened(Path(sys.argv[1]))
made.write_metrics(records(1))
tell_end(made)
"""
    done = run_python("-c", script, str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_online_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """There is no terminal to ask for one. The message says what to do."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(DestinationFailedError, match="WANDB_API_KEY, or use mode='offline'"):
        opened(tmp_path, mode="online")


def test_a_server_out_of_reach_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As long as it takes: the worker tries again."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    with pytest.raises(RetryableError, match="W&B"):
        opened(tmp_path, mode="online")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    """wandb itself would write to /tmp and say nothing."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationFailedError, match=r"file cannot be written: .*\. Choose another place"):
        opened(tmp_path, dir="file")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`sync` may run where the package isn't. The message says what to type."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "wandb", None)
        with pytest.raises(DestinationFailedError, match=r"pip install 'trackside\[wandb\]'"):
            opened(tmp_path)


@pytest.mark.parametrize("options", [{"mode": "ofline"}, {"tags": "one"}, {"dir": "{nothing}"}])
def test_values_that_cannot_work(options: dict[str, Any]):
    """Said at start()."""
    with pytest.raises(ConfigurationError):
        WandbDestination.check_options(**options)


def test_names_that_are_wandbs_own_are_kept_apart():
    """A metric called _step must not renumber the rows."""
    row = row_of(metrics(1, _step=5.0, _timestamp=6.0, loss=7.0))
    assert row == {
        "metrics/_step": 5.0,
        "metrics/_timestamp": 6.0,
        "loss": 7.0,
        "trainer/global_step": 1,
        "_timestamp": (START_MS + 10) / 1000,
    }


def test_the_log_is_read_at_every_length(tmp_path: Path):
    """Cut anywhere, it gives the whole records before the cut, and continues when the rest comes."""
    made = opened(tmp_path)
    wide: Any = {f"m{i}": float(i) for i in range(60)}
    made.write_metrics([metrics(step, **wide) for step in range(60)])
    tell_end(made)
    (path,) = logs(tmp_path)
    data = path.read_bytes()
    assert len(data) > 2 * wandb_log._BLOCK
    grown = tmp_path / "grown.wandb"
    reader = TransactionLog(grown)
    numbers: list[int] = []
    assert list(reader.new_rows()) == []
    for end in [*range(0, len(data), 997), len(data)]:
        grown.write_bytes(data[:end])
        numbers += [row.number for row in reader.new_rows()]
    assert numbers == list(range(60))


def test_sigterm_is_not_wandbs_business(tmp_path: Path):
    """The shipper's own signal handling stays as it is."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    tell_end(opened(tmp_path))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
