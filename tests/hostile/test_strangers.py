"""Another user's journal is never used by itself. You see what it would do before you deliver it."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.destinations.tools import context
from tests.ends.harness import new_database
from tests.hostile.strangers import CODE, files_in, plant
from tests.support.journals import ALIVE, make
from tests.support.program import run_python
from tests.support.refusing_server import RefusingServer
from trackside.cli.main import main
from trackside.destinations import registry
from trackside.destinations.mlflow import credentials as mlflow_credentials
from trackside.destinations.mlflow.credentials import keep_credentials_for
from trackside.errors import ConfigurationError
from trackside.journal import trust
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.files import read_json, write_atomically
from trackside.journal.meta import Meta
from trackside.journal.provenance import why_untrusted
from trackside.shipper import grants
from trackside.shipper import sync as sync_
from trackside.shipper.inventory import report
from trackside.shipper.leftovers import leftovers_of
from trackside.shipper.protocol import EXIT_UNFINISHED
from trackside.shipper.sync import sync_journal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

TOKEN = "t0ken-of-the-victim"

TRAIN = """
import trackside

with trackside.start("digits", checkpoint_dir="checkpoints") as run:
    trackside.log({"loss": 1.0}, step=0)
print(run.status, run.counts.shipped)
"""

OFFLINE = """
import trackside

mine = {"type": "own_destination:Own", "path": "own.txt", "transform": {"ranks": [1]}}
lines = {"type": "jsonl", "path": "metrics.jsonl", "transform": {"ranks": [1]}}
with trackside.start("digits", destinations=[mine, lines]) as run:
    trackside.log({"loss": 1.0}, step=0)
print(run.journal.path)
"""

OWN_DESTINATION = """
from trackside.protocols import Destination

class Own(Destination):
    def __init__(self, context, path):
        super().__init__(context)
        self.path = context.path(path)
    def open(self): self.path.write_text("opened")
    def write_metrics(self, batch): self.path.write_text("written")
"""


@pytest.fixture(autouse=True)
def nothing_vouched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test vouches for is forgotten after it."""
    monkeypatch.setattr(trust, "_vouched", set())


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    """A server of the stranger's."""
    made = RefusingServer()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def run(directory: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in ``directory``."""
    return run_python(*command, cwd=directory, env={**os.environ, "TRACKSIDE_DIR": "", **environment})


def test_a_training_beside_planted_journals(tmp_path: Path, server: RefusingServer) -> None:
    """They came with a cloned repository, so they belong to the victim and claim the victim's checkpoints.

    The next attempt runs no code of theirs, empties no file, sends no token, leaves them as they were, and
    is delivered. Its log names them.
    """
    marker, file, checkpoints = tmp_path / "marker", tmp_path / "thesis.txt", tmp_path / "checkpoints"
    file.write_text("years of work")
    (tmp_path / "planted_module.py").write_text(CODE.format(marker=str(marker)))
    uri = new_database(tmp_path)
    code = {"name": "a", "kind": "planted_module:run"}
    truncate = {"name": "a", "kind": "jsonl", "options": {"path": str(file), "mode": "truncate"}}
    root = tmp_path / ".trackside"
    planted = []
    for name, address, destination in (
        ("planted-1", uri, code),
        ("planted-2", uri, truncate),
        ("planted-3", server.address, truncate),
    ):
        target = {"tracking_uri": address, "checkpoint_dir": str(checkpoints)}
        claims: dict[str, Any] = {"target": target, "destinations": [destination]}
        planted.append(plant(root, name, working_directory=str(tmp_path), **claims))
    before = files_in(root)
    (tmp_path / "train.py").write_text(TRAIN)
    done = run(tmp_path, "train.py", MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_TOKEN=TOKEN)
    assert done.stdout == "FINISHED 1\n", done.stderr
    assert not marker.exists()
    assert file.read_text() == "years of work"
    assert server.seen == []
    assert files_in(root) == before
    for folder in planted[:2]:  # the third is for another address: no earlier attempt of this one
        assert f"{folder} is not used, because it was copied here, or another user made it" in done.stderr


def test_a_destination_of_ones_own_and_a_copied_journal(tmp_path: Path, server: RefusingServer) -> None:
    """``sync`` imports a dotted name only if told to, and delivers a copy only if told to trust it.

    Trust is not enough for an address in somebody else's journal to be sent the user's token.
    """
    (tmp_path / "own_destination.py").write_text(OWN_DESTINATION)
    (tmp_path / "train.py").write_text(OFFLINE)
    other_rank = {"RANK": "1", "WORLD_SIZE": "2", "PYTHONPATH": str(tmp_path)}  # no MLflow run: quick
    made = run(tmp_path, "train.py", TRACKSIDE_MODE="offline", **other_rank)
    assert made.returncode == 0, made.stderr
    journal = Path(made.stdout.strip())
    copy = tmp_path / "handed-over"
    shutil.copytree(journal, copy)
    before = files_in(copy)

    def sync(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(tmp_path), "MLFLOW_TRACKING_TOKEN": TOKEN}
        return run(tmp_path, "-m", "trackside", "sync", *arguments, **environment)

    refused = sync(str(copy))
    assert refused.returncode == 1
    assert "handed-over: untrusted (it was copied here, or another user made it" in refused.stdout
    assert 'It delivers to jsonl with {"path":"metrics.jsonl"}.' in refused.stderr
    assert f"Relative paths of its destinations start in {tmp_path}." in refused.stderr
    assert "run this again with --trust" in refused.stderr
    assert "It does not import own_destination:Own: that needs --allow-import" in refused.stderr
    assert files_in(copy) == before
    assert not (tmp_path / "own.txt").exists()

    planted = plant(tmp_path, target={"tracking_uri": server.address})
    options = ("--trust", "--allow-import", "own_destination:Own", "--give-up-after", "1")
    allowed = sync(*options, str(journal), str(copy), str(planted))
    assert [line.split(" (")[0].split(": ")[1] for line in allowed.stdout.splitlines()][:2] == [
        "delivered",
        "delivered",
    ], allowed.stdout
    assert server.seen, "the planted journal was tried"
    assert set(server.seen) == {None}
    assert allowed.stderr.count("Your credentials are not sent there.") == 1
    assert allowed.stderr.count("It imports own_destination:Own") == 1, "of the copy only"
    assert (tmp_path / "own.txt").read_text() == "written"
    assert (tmp_path / "metrics.jsonl").read_text().count('"loss": 1.0') == 2
    assert not journal.exists()
    assert not copy.exists()


# What counts as somebody else's


def test_whose_a_journal_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One's own is used, also behind a linked folder of journals. A link, a copy, others' are not."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "scratch")
    journal = make(tmp_path / "linked", points=2)
    assert why_untrusted(journal) is None
    moved = JournalDirectory(tmp_path / "scratch" / "moved")
    journal.path.rename(moved.path)
    assert why_untrusted(moved) is None
    link = JournalDirectory(tmp_path / "link")
    link.path.symlink_to(moved.path)
    assert why_untrusted(link) == "it is a link"
    assert read_json(link.meta, Meta) is None
    copy = JournalDirectory(tmp_path / "copy")
    shutil.copytree(moved.path, copy.path)
    assert "copied here" in (why_untrusted(copy) or "")
    for path in (moved.path, moved.meta):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        assert "other users can write to it" in (why_untrusted(moved) or "")
        assert read_json(moved.meta, Meta) is None
        path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert why_untrusted(moved) == f"it belongs to {trust._name_of(os.getuid())}"
    assert read_json(moved.meta, Meta) is None
    trust.vouch_for(moved.path)
    assert why_untrusted(moved) is None
    assert read_json(moved.meta, Meta) is not None


def test_what_is_said_of_an_untrusted_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``status`` shows it with what to do, ``sync`` leaves it alone, and the next attempt does not wait."""
    own = make(tmp_path, points=2, checkpoint_dir="/checkpoints")
    copy = JournalDirectory(tmp_path / "copy")
    shutil.copytree(own.path, copy.path)
    found = report(copy)
    assert found is not None
    assert (found.condition, found.tracking_uri, found.emitted) == ("untrusted", "", 0)
    assert f"trackside sync {copy.path}" in (found.error or "")
    assert sync_journal(copy).result == "untrusted"
    assert leftovers_of(tmp_path, "/checkpoints", "sqlite:///mlflow.db") == [own.path]
    assert str(copy.path) in caplog.text


def test_names_that_lead_out_of_the_journal(tmp_path: Path) -> None:
    """A destination's name, or an id, that is a path makes ``meta.json`` unreadable."""
    claims: list[dict[str, Any]] = [
        {"destinations": [{"name": "../../x", "kind": "jsonl"}]},
        {"destinations": [{"name": "mlflow", "kind": "jsonl"}]},
        {"journal_id": "../../../x"},
        {"job": "../x"},
    ]
    for number, fields in enumerate(claims):
        folder = plant(tmp_path, f"planted-{number}", **fields)
        assert read_json(folder / "meta.json", Meta) is None, fields
    assert read_json(plant(tmp_path) / "meta.json", Meta) is not None


def test_a_new_journal_on_a_disk_without_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is used for this run, because this process made it. One warning says what will be different."""
    assert grants.grants(create_directory(tmp_path, "x"), ()) == ()
    monkeypatch.setattr(trust, "why_suspect", lambda _: "others own it")  # as such file systems say of all
    journal = create_directory(tmp_path, "x")
    assert grants.grants(journal, ()) == (grants.TRUST,)
    write_atomically(journal.meta, b"1")
    assert read_json(journal.meta, int) == 1
    assert "`trackside sync` will ask for --trust" in caplog.text


# What is granted


class Shipper:
    """Remembers how it was started, and has left."""

    def __init__(self) -> None:
        self.returncode: int | None = EXIT_UNFINISHED
        self.command: list[str] = []

    def __call__(self, command: list[str], **_: object) -> Shipper:
        self.command = command
        return self

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        """It has left."""


RECORDED, MINE = "http://recorded:5000", "http://mine"


@pytest.mark.parametrize(
    ("environment", "vouched", "named", "granted"),
    [
        ("", False, None, []),
        (f"{RECORDED}/", False, None, []),
        ("http://me:pw@mine", False, None, ["--credentials-for", "http://***@mine"]),
        (MINE, False, RECORDED, []),
        ("", True, None, ["--trust", "--credentials-for", ""]),
        (MINE, True, None, ["--trust", "--credentials-for", MINE]),
        (RECORDED, True, None, ["--trust", "--credentials-for", RECORDED]),
        ("", True, RECORDED, ["--trust", "--credentials-for", RECORDED]),
        ("", True, "sqlite:///mine.db", ["--trust", "--credentials-for", ""]),  # not a second server's
    ],
)
def test_whom_credentials_are_for(
    tmp_path: Path, environment: str, vouched: bool, named: str | None, granted: list[str]
) -> None:
    """For the server that the environment or the command names. Else for the one in one's own journal."""
    journal = make(tmp_path, tracking_uri=RECORDED)
    if vouched:
        trust.vouch_for(journal.path)
    shipper = Shipper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", environment)
        sync_journal(journal, give_up_after=1, tracking_uri=named, start=shipper)
    assert shipper.command[3:] == [str(journal.path), "--linger", "1", *granted]


def test_credentials_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server gets them, the journal's second one neither."""
    monkeypatch.setattr(mlflow_credentials, "_homes", set())
    keep_credentials_for([""])
    assert mlflow_credentials._homes
    assert mlflow_credentials._is_foreign("http://recorded:5000/api")
    keep_credentials_for(["http://mine"])
    assert not mlflow_credentials._is_foreign("http://mine/api")
    assert mlflow_credentials._is_foreign("http://recorded:5000/api")


def test_a_journal_within_a_trusted_one(tmp_path: Path) -> None:
    """The person did not look at it. Its shipper's credentials are bound as the trusted one's are."""
    outer = plant(tmp_path)
    inner = JournalDirectory(plant(outer, "inner"))
    trust.vouch_for(outer)
    assert why_untrusted(JournalDirectory(outer)) is None
    assert "copied here" in (why_untrusted(inner) or "")
    told = grants.for_earlier("http://planted", importable=(), bound=[""])
    assert told == ["--credentials-for", ""]


def test_a_dotted_name_needs_a_grant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nothing is imported. ``start()`` grants the names of its own arguments."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "granted_once.py").write_text(CODE.format(marker=str(tmp_path / "marker")))
    kind = "granted_once:run"
    with pytest.raises(ConfigurationError, match=f"sync --allow-import {kind}"):
        registry.make(kind, context(tmp_path), {})
    assert not (tmp_path / "marker").exists()
    with pytest.raises(ConfigurationError, match="derive its class from"):  # called, and then found unfit
        registry.make(kind, context(tmp_path), {}, importable=[kind])
    assert (tmp_path / "marker").read_text() == "called"


def test_trust_is_for_named_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for whatever lies in a folder. A journal of one's own needs none. A "no" is one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".trackside").mkdir()
    general = CliRunner().invoke(main, ["sync", "--trust"])
    assert general.exit_code == 2
    assert "name the JOURNALS that you trust" in general.output
    own = make(tmp_path, ALIVE)
    assert "may be another user's" not in CliRunner().invoke(main, ["sync", "--trust", str(own.path)]).output
    copy = tmp_path / "copy"
    shutil.copytree(own.path, copy)
    monkeypatch.setattr(sync_, "ForkServer", None)  # nothing is started
    monkeypatch.setattr("trackside.cli.sync._deliver", lambda *_: [])
    CliRunner().invoke(main, ["sync", str(copy)])
    assert not trust.is_vouched_for(copy)
    (copy / "artifacts").symlink_to(tmp_path)
    assert "It holds artifacts" in CliRunner().invoke(main, ["sync", "--trust", str(copy)]).output
    assert not trust.is_vouched_for(copy)
    (copy / "artifacts").unlink()
    CliRunner().invoke(main, ["sync", "--trust", str(copy)])
    assert trust.is_vouched_for(copy)


def test_an_address_in_a_journal_is_shown_masked(tmp_path: Path) -> None:
    """What ``sync`` shows before it asks is masked like everything else, and does nothing to the terminal."""
    owner = {"host": "\x1b[2Jclean\nx", "pid": 1, "started": 0.0, "boot_id": "b"}
    planted = plant(tmp_path, target={"tracking_uri": "http://me:hunter22@host"}, owner=owner)
    result = CliRunner().invoke(main, ["sync", str(planted)])
    assert "It says that process 1 on \\x1b[2Jclean\\nx made it." in result.output
    assert "MLflow at http://" in result.output
    assert "hunter22" not in result.output
    assert "Your credentials are not sent there." in result.output
    assert msgspec.json.decode((planted / "meta.json").read_bytes())["target"]
