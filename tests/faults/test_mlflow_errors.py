"""What MLflow's own errors are taken for: each is raised by a real call, none is made by hand."""

from __future__ import annotations

import email.utils
import math
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.proxy import FaultProxy, Reply, answer, cut, cut_behind_commit, free_port
from trackside.destinations.mlflow.address import require_server
from trackside.destinations.mlflow.database import alone_with, probe_database
from trackside.destinations.mlflow.errors import Answer, _retry_after, translate, translate_opening
from trackside.errors import DeliveryError, RejectedError, RetryableError, UnauthorisedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATER, NEVER, LOGIN = RetryableError, RejectedError, UnauthorisedError


@pytest.fixture
def client(proxy: FaultProxy) -> MlflowClient:
    """A client that talks through the proxy."""
    return MlflowClient(proxy.url)


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    """A run."""
    return str(client.create_run("0").info.run_id)


def error_of(call: Callable[[], Any]) -> Exception:
    """What ``call`` raises."""
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def log(client: MlflowClient, run_id: str, key: str = "loss") -> Callable[[], Any]:
    """Log one point."""
    return lambda: client.log_batch(run_id, metrics=[Metric(key, 1.0, 1, 1)])


PLAIN = [
    (400, LATER),
    (401, LOGIN),
    (403, LOGIN),
    (404, LATER),
    (405, LATER),
    (408, LATER),
    (409, LATER),
    (413, NEVER),
    (422, NEVER),
    (429, LATER),
    (500, LATER),
    (502, LATER),
    (503, LATER),
    (504, LATER),
]


@pytest.mark.parametrize("body", [b"<html>no</html>", b'{"message": "no"}', b""])
def test_words_of_something_in_between(
    proxy: FaultProxy, client: MlflowClient, run_id: str, body: bytes
) -> None:
    """A load balancer's answer is about the moment, except where its status speaks of the body."""
    for status, kind in PLAIN:
        proxy.add(answer(Reply(status, {}, body)), times=1)
        found = translate(error_of(log(client, run_id)))
        assert type(found) is kind, f"{status} {body!r}: {found!r}"


def test_a_login_page_is_no_answer(proxy: FaultProxy, client: MlflowClient, run_id: str) -> None:
    """A 200 with HTML stores nothing, and is tried again."""
    proxy.add(answer(Reply(200, {}, b"<html>log in</html>")), times=1)
    assert type(translate(error_of(log(client, run_id)))) is LATER


OWN = [
    (400, "INVALID_PARAMETER_VALUE", NEVER),
    (400, "BAD_REQUEST", NEVER),
    (404, "RESOURCE_DOES_NOT_EXIST", NEVER),
    (403, "PERMISSION_DENIED", LOGIN),
    (401, "UNAUTHENTICATED", LOGIN),
    (429, "REQUEST_LIMIT_EXCEEDED", LATER),
    (500, "INTERNAL_ERROR", LATER),
    (503, "TEMPORARILY_UNAVAILABLE", LATER),
]


def test_words_of_mlflow(proxy: FaultProxy, client: MlflowClient, run_id: str) -> None:
    """A server's own ``error_code`` is taken at its word."""
    for status, code, kind in OWN:
        proxy.add(answer(Reply.error(status, code, "so it is")), times=1)
        found = translate(error_of(log(client, run_id)))
        assert type(found) is kind, f"{status} {code}: {found!r}"


def test_half_a_surrogate_pair_is_spelt_out(proxy: FaultProxy, client: MlflowClient, run_id: str) -> None:
    """JSON may hold one. The state, the log and the user's terminal can't."""
    for code in ("INTERNAL_ERROR", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"):
        proxy.add(answer(Reply.error(400, code, "an emoji, cut: \ud83d")), times=1)
        text = str(translate(error_of(log(client, run_id))))
        assert "\\ud83d" in text
        assert text.encode()


DATABASE_WORDS = [
    ("QueuePool limit of size 5 overflow 10 reached (Background: https://sqlalche.me/e/20/3o7r)", LATER),
    ("(psycopg2.InterfaceError) connection already closed (https://sqlalche.me/e/20/rvf5)", LATER),
    ("(psycopg2.DataError) value out of range (https://sqlalche.me/e/20/9h9h)", NEVER),
    ("(sqlite3.IntegrityError) NOT NULL (https://sqlalche.me/e/21/gkpj)", NEVER),
]


def test_a_database_in_distress_is_no_bad_request(
    proxy: FaultProxy, client: MlflowClient, run_id: str
) -> None:
    """MLflow calls every SQLAlchemy error but one BAD_REQUEST, an exhausted pool too."""
    for text, kind in DATABASE_WORDS:
        proxy.add(answer(Reply.error(400, "BAD_REQUEST", text)), times=1)
        found = translate(error_of(log(client, run_id)))
        assert type(found) is kind, f"{text}: {found!r}"


def test_retry_after_is_read_where_mlflow_hides_it(
    proxy: FaultProxy, client: MlflowClient, run_id: str
) -> None:
    """As seconds, as a date, or not at all."""
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    odd = [(text, None, None) for text in ("soon", "-3", "\xb2", "Mon, 99 Zzz 0000", "1e9", "")]
    for text, low, high in (("7", 7, 7), (date, 60, 91), ("9" * 400, math.inf, math.inf), *odd):
        for status in (429, 503):
            proxy.add(answer(Reply(status, {"Retry-After": text})), times=1)
            found = translate(error_of(log(client, run_id)))
            assert isinstance(found, RetryableError)
            if low is None or high is None:
                assert found.retry_after is None
            else:
                assert found.retry_after is not None
                assert low <= found.retry_after <= high


def test_a_date_to_retry_after_is_by_the_servers_clock() -> None:
    """Ours may be an hour behind: set back, or never set. Without a ``Date``, it is all there is."""
    behind = email.utils.formatdate(time.time() + 3600, usegmt=True)
    until = email.utils.formatdate(time.time() + 3690, usegmt=True)
    headers = {"Retry-After": until, "Date": behind}
    assert _retry_after(Answer(503, headers)) == 90
    assert _retry_after(Answer(503, {**headers, "Date": "soon"})) == pytest.approx(3690, abs=60)
    assert _retry_after(Answer(503, {**headers, "Retry-After": behind, "Date": until})) == 0
    assert _retry_after(None) is None


@pytest.mark.parametrize("fault", ["cut", "cut behind commit", "hang", "dead"])
def test_connections_that_fail(
    proxy: FaultProxy, client: MlflowClient, run_id: str, fault: str, monkeypatch: Any
) -> None:
    """Reset, cut in the middle of the answer, silent, refused: all pass."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    if fault == "dead":
        client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    else:
        actions = {"cut": cut, "cut behind commit": cut_behind_commit, "hang": proxy.hang}
        proxy.add(actions[fault], times=1)
    assert type(translate(error_of(log(client, run_id)))) is LATER


def test_what_a_real_server_refuses(client: MlflowClient, run_id: str) -> None:
    """Runs that are gone, names it does not take, params that changed, experiments there are."""
    client.log_param(run_id, "p", "1")
    experiment = client.create_experiment(f"gone-{run_id}")
    client.delete_experiment(experiment)
    gone = str(client.create_run("0").info.run_id)
    client.delete_run(gone)
    calls: dict[str, Callable[[], Any]] = {
        "no such run": log(client, "f" * 32),
        "deleted run": log(client, gone),
        "tag of a deleted run": lambda: client.set_tag(gone, "a", "b"),
        "status of a deleted run": lambda: client.set_terminated(gone),
        "bad name": log(client, run_id, "a@b"),
        "changed param": lambda: client.log_batch(run_id, params=[Param("p", "2")]),
        "experiment there is": lambda: client.create_experiment("Default"),
        "experiment there was": lambda: client.create_experiment(f"gone-{run_id}"),
        "run in a deleted experiment": lambda: client.create_run(experiment),
        "no such experiment": lambda: client.get_experiment("99999999"),
    }
    found = {name: type(translate(error_of(call))) for name, call in calls.items()}
    assert found == dict.fromkeys(calls, NEVER)


def test_a_locked_database_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store in this process: sqlite's busy timeout is over, and another writer still holds the lock."""
    client = MlflowClient(new_database(tmp_path))
    run_id = str(client.create_run("0").info.run_id)
    connect = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    with _impatient_sqlite(monkeypatch):
        connect.execute("BEGIN EXCLUSIVE")
        error = error_of(log(client, run_id))
        connect.execute("ROLLBACK")
        connect.close()
    assert "locked" in str(error)
    assert type(translate(error)) is LATER


class _impatient_sqlite:  # noqa: N801 - a context manager
    """MLflow's 20 s of patience with a locked sqlite file are not waited out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __enter__(self) -> None:
        import sqlalchemy

        real = sqlalchemy.sql.text
        self._monkeypatch.setattr(
            sqlalchemy.sql, "text", lambda s: real(s.replace("busy_timeout = 20000", "busy_timeout = 50"))
        )

    def __exit__(self, *_: object) -> None:
        self._monkeypatch.undo()


def test_a_value_the_database_cannot_hold_is_refused(tmp_path: Path) -> None:
    """The store in this process: the data's fault, though SQLAlchemy reports it."""
    client = MlflowClient(new_database(tmp_path))
    run_id = str(client.create_run("0").info.run_id)
    error = error_of(lambda: client.log_batch(run_id, metrics=[Metric("a", 1.0, 2**70, 1)]))
    assert type(translate(error)) is NEVER, repr(error)


ADDRESSES = [
    ("htp://x", NEVER, "MLflow can't use this address"),
    ("http://", NEVER, "names no server"),
    ("http://:5000", NEVER, "names no server"),
    ("http://[::1", NEVER, "names no server"),
    ("http://127.0.0.1:99999", NEVER, "names no server"),
    ("sqlite:////proc/nope/x.db", NEVER, "cannot be made"),
    ("sqlite://x/y", NEVER, "MLflow can't use this address"),
    ("mysql://u:p@h/d", NEVER, "driver is not installed"),
    ("postgresql+nope://h/d", NEVER, "MLflow can't use this address"),
    ("postgresql://u:p@h:port/d", NEVER, "MLflow can't use this address"),
    ("oracle+nope://x", NEVER, "MLflow can't use this address"),
    ("http://no.such.host.invalid:1", LATER, "no.such.host.invalid"),
    ("http://127.0.0.1:1", LATER, "refused"),
    ("postgresql+psycopg2://u:s3cret@127.0.0.1:1/db", LATER, "refused"),
]


@pytest.mark.parametrize(("uri", "kind", "words"), ADDRESSES, ids=lambda v: v if isinstance(v, str) else "")
def test_addresses(uri: str, kind: type[DeliveryError], words: str) -> None:
    """One that can never work is refused with what to change. One that may is tried again."""
    if "psycopg2" in uri:
        pytest.importorskip("psycopg2")

    def connect() -> None:
        require_server(uri)
        with alone_with(uri):
            probe_database(uri)
        MlflowClient(uri).get_experiment_by_name("x")

    started = time.monotonic()
    found = translate_opening(error_of(connect))
    assert type(found) is kind, repr(found)
    assert words in str(found)
    assert "s3cret" not in str(found)
    assert time.monotonic() - started < 30, "MLflow tries a database for 100 s"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It is named as such, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("notes " * 1000)
    found = translate_opening(error_of(lambda: probe_database(f"sqlite:///{path}")))
    assert type(found) is NEVER
    assert "something else" in str(found)
    assert path.read_text() == "notes " * 1000


def test_the_folder_of_a_new_sqlite_file_is_made(tmp_path: Path) -> None:
    """MLflow 3.6 fails without it."""
    with alone_with(f"sqlite:///{tmp_path / 'new' / 'folder' / 'mlflow.db'}"):
        pass
    assert (tmp_path / "new" / "folder").is_dir()


def test_one_at_a_time_makes_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits. If the first takes for ever, it tells, and tries again later."""
    monkeypatch.setattr("trackside.destinations.mlflow.database.LOCK_TIMEOUT", 0.3)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with alone_with(uri):
        with pytest.raises(RetryableError, match="another job"), alone_with(uri):
            pass
        with alone_with(f"sqlite:///{tmp_path / 'elsewhere' / 'mlflow.db'}"):
            pass
    with alone_with(uri):
        pass


def test_hopeless_words_are_a_passing_fault_once_it_worked(tmp_path: Path) -> None:
    """A file server that hiccups says "unable to open database file" too."""
    folder = tmp_path / "store"
    folder.mkdir()
    client = MlflowClient(new_database(folder))
    run_id = str(client.create_run("0").info.run_id)
    client._tracking_client.store.engine.dispose()
    folder.rename(tmp_path / "away")
    error = error_of(log(client, run_id))
    assert "unable to open database file" in str(error)
    assert type(translate(error)) is LATER
    assert type(translate_opening(error)) is NEVER


def test_credentials_are_masked(proxy: FaultProxy) -> None:
    """MLflow puts the whole address into its errors."""
    proxy.add(cut)
    client = MlflowClient(proxy.url.replace("//", "//user:s3cret@"))
    error = error_of(lambda: client.get_run("f" * 32))
    assert isinstance(error, MlflowException)
    assert "s3cret" in str(error)
    assert "s3cret" not in str(translate(error))
    assert "s3cret" not in str(translate_opening(error))


def test_our_own_errors_pass_through() -> None:
    """Nothing is translated twice."""
    error = RejectedError("no")
    assert translate(error) is error
    assert translate_opening(error) is error
