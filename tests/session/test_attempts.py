"""The run's page: what an end puts there, and what the next attempt takes off again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import Delivery, delivery
from trackside.destinations.mlflow.attempts import attempt_line
from trackside.destinations.mlflow.tags import (
    counts_in,
    describe_end,
    end_tags,
    stale_tags,
    summary_tags,
    without_end,
)
from trackside.destinations.mlflow.upload import ATTEMPTS_ARTIFACT, RunArtifacts, upload_attempts
from trackside.lifecycle.evidence import Crash, Evidence
from trackside.lifecycle.verdict import decide, run_end
from trackside.names import MAX_TAG_VALUE_LENGTH

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.events import RunEnd

BOOM = Evidence(crash=Crash("ValueError", "boom", "Traceback ...\nValueError: boom\n"), dead=True)
CLEAN = Evidence(exited=True, exit_code=0, dead=True)


def end_of(evidence: Evidence) -> RunEnd:
    """What a destination is told."""
    return run_end(decide(evidence), evidence, {})


@pytest.mark.parametrize("description", ["", "A *try*.", "A *try*.\n\n> quoted"])
def test_the_description_gets_a_paragraph_and_loses_it_again(description: str) -> None:
    """The user's own stays as it was, what was written behind the paragraph too."""
    told = describe_end(description, end_of(BOOM))
    assert "> **FAILED** (trackside): `ValueError: boom`\n>\n> ```text\n> Traceback" in told
    assert describe_end(told, end_of(BOOM)) == told
    assert without_end(told) == describe_end(told, end_of(CLEAN)) == description
    assert without_end(told + "\n\nmine") == f"{description}\n\nmine"


def test_a_description_without_room_stays_as_it_is() -> None:
    """MLflow takes 8000 characters of a tag. The traceback goes first, then the reason."""
    evidence = Evidence(crash=Crash("ValueError", "boom", "x" * 9000))
    assert describe_end("", end_of(evidence)) == "> **FAILED** (trackside): `ValueError: boom`"
    full = "x" * (MAX_TAG_VALUE_LENGTH - 3)
    assert describe_end(full, end_of(evidence)) == full


def test_what_would_break_out_of_the_paragraph_does_not() -> None:
    """An exception's message may be any text."""
    evidence = Evidence(crash=Crash("ValueError", "a `b`\n# c", "```\n# d"))
    lines = describe_end("", end_of(evidence)).splitlines()
    assert all(line.startswith(">") for line in lines)
    assert lines[0] == "> **FAILED** (trackside): `ValueError: a 'b' # c`"
    assert lines[3] == "> '''"


def test_tags_have_content() -> None:
    """No zeros. What is lost has a tag of its own. All of it is known to be stale later."""
    counts = {"emitted": 3, "shipped": 2, "merged": 0, "dropped": 1, "rejected": 0, "damaged": 0}
    tags = summary_tags(counts, host="h", started_ms=0, ended_ms=60_000, status="FAILED", attempt=2)
    assert json.loads(tags["trackside.summary"]) == {
        **counts_in(tags),
        "host": "h",
        "started": "1970-01-01T00:00:00Z",
        "ended": "1970-01-01T00:01:00Z",
        "status": "FAILED",
        "attempt": 2,
    }
    assert tags["trackside.dropped"] == "1"
    assert counts_in(tags) == {"emitted": 3, "shipped": 2, "dropped": 1}
    assert set(end_tags(end_of(CLEAN))) == {"trackside.end.reason"}
    assert set(stale_tags([*tags, *end_tags(end_of(BOOM)), "trackside.journal", "team"])) >= set(tags)
    assert stale_tags(["trackside.journal", "team", "trackside.attempt"]) == []


def test_files_that_were_not_kept_are_named() -> None:
    """The first reasons, one a line. A later attempt removes them."""
    end = run_end(decide(CLEAN), CLEAN, {}, ("a file: there is no file at 'a'", "an image: it is closed"))
    tags = end_tags(end)
    assert tags["trackside.end.files_not_kept"] == "a file: there is no file at 'a'\nan image: it is closed"
    assert "trackside.end.files_not_kept" in stale_tags(tags)
    long = run_end(decide(CLEAN), CLEAN, {}, ("x" * 2 * MAX_TAG_VALUE_LENGTH,))
    assert len(end_tags(long)["trackside.end.files_not_kept"]) == MAX_TAG_VALUE_LENGTH
    assert counts_in({"trackside.summary": "of somebody else"}) == {}


def crash(rig: Delivery) -> None:
    """Two points, then a crash."""
    rig.configure({"lr": "0.1"})
    rig.emit(2)
    rig.worker.start()
    rig.evidence = Evidence(crash=Crash("ValueError", "boom", "the traceback"), finished="FAILED")
    rig.worker.calls.wake.set()
    rig.join(90)


def test_an_attempt_begins_with_a_clean_page(store: str, tmp_path: Path) -> None:
    """Nothing of the crash is left. It is kept in an artifact, and the counts are those of the whole run."""
    client = MlflowClient(store)
    with delivery(tmp_path, store, tags={"mlflow.note.content": "mine"}) as first:
        crash(first)
    run = client.get_run(first.run_id)
    assert run.info.status == "FAILED"
    assert "ValueError: boom" in run.data.tags["mlflow.note.content"]
    assert "traceback.txt" in {a.path for a in client.list_artifacts(first.run_id)}
    for number in (2, 3):
        with delivery(tmp_path, store, run_id=first.run_id, required_run=True) as rig:
            rig.configure({"lr": "0.1"})
            rig.emit(3)
            rig.deliver()
        run = client.get_run(first.run_id)
        ours = {key for key in run.data.tags if key.startswith("trackside.")}
        wanted = {"attempt", "journal", "end.reason", "summary"}
        assert (run.info.status, ours) == ("FINISHED", {f"trackside.{name}" for name in wanted})
        assert run.data.tags["mlflow.note.content"] == "mine"
        emitted = 2 + 3 * (number - 1)
        assert counts_in(run.data.tags) == {"emitted": emitted, "shipped": emitted}
    names = {a.path for folder in (None, "trackside") for a in client.list_artifacts(first.run_id, folder)}
    assert names == {"config.yaml", "trackside", ATTEMPTS_ARTIFACT}
    path = client.download_artifacts(first.run_id, ATTEMPTS_ARTIFACT, str(tmp_path))
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert [(line["attempt"], line["status"], line["reason"]) for line in lines] == [
        (1, "FAILED", "ValueError: boom"),
        (2, "FINISHED", "finished"),
    ]
    assert lines[0]["traceback"] == "the traceback"
    assert lines[0]["points"] == {"emitted": 2, "shipped": 2}


def test_an_attempt_that_vanished_has_a_line() -> None:
    """All that is known of it is its last heartbeat."""
    tags = {"trackside.journal": "a", "trackside.heartbeat": "2026-11-27T12:00:00+00:00 node7"}
    run = SimpleNamespace(
        data=SimpleNamespace(tags=tags), info=SimpleNamespace(status="RUNNING", end_time=None)
    )
    assert attempt_line(run) == {
        "attempt": 1,
        "journal": "a",
        "host": "node7",
        "last_heartbeat": "2026-11-27T12:00:00+00:00",
        "status": "unknown",
    }


class FakeArtifacts(dict[str, str], RunArtifacts):
    """Artifacts in a dictionary. The store may be away."""

    away = False

    def read(self, name: str) -> str | None:
        """Read one."""
        return self.get(name)

    def write(self, name: str, text: str) -> None:
        """Write one."""
        if self.away:
            raise OSError
        self[name] = text

    def remove(self, name: str) -> None:
        """Remove one."""
        del self[name]


def test_an_upload_that_is_tried_again_adds_one_line() -> None:
    """The traceback goes only once its text is safe."""
    artifacts = FakeArtifacts({"traceback.txt": "the traceback"})
    artifacts.away = True
    line = json.dumps({"journal": "b", "attempt": 1})
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        upload_attempts(line, artifacts)
    assert artifacts == {"traceback.txt": "the traceback"}
    artifacts.away = False
    upload_attempts(line, artifacts)
    upload_attempts(line, artifacts)
    (kept,) = map(json.loads, artifacts[ATTEMPTS_ARTIFACT].splitlines())
    assert kept == {"journal": "b", "attempt": 1, "traceback": "the traceback"}
    assert "traceback.txt" not in artifacts
