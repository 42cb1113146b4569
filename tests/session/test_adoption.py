"""A run that MLflow's own API has made, and start() beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import trackside
from trackside.session.adoption import AdoptedRun, adopt
from trackside.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.session.recording import RecordingRun


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingRun]:
    """A run on the default bus."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    run = adopt(AdoptedRun("a" * 32, "7", f"sqlite:///{tmp_path}/a.db", "made", experiment_name="digits"))
    yield run
    run.finish("FINISHED", wait=False)


def test_a_start_that_raises_leaves_nothing_on_the_run(
    adopted: RecordingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sinks before the wrong one are off the bus, and closed if start() has made them."""
    closed: list[object] = []

    def close(sink: MemorySink) -> None:
        closed.append(sink)

    monkeypatch.setattr(MemorySink, "close", close, raising=False)
    before = adopted.bus.sinks
    with pytest.raises(TypeError):
        trackside.start(sinks=["memory", object()])  # type: ignore[list-item]
    assert adopted.bus.sinks == before
    assert [type(sink) for sink in closed] == [MemorySink]
    own = MemorySink()
    assert trackside.start(sinks=[own]) is adopted
    assert adopted.bus.sinks == (*before, own)


def test_a_start_for_another_address_is_another_run(adopted: RecordingRun, tmp_path: Path) -> None:
    """Only one without an address, or with the run's own in either form, logs into the run."""
    assert trackside.start(tracking_uri=f"journal+sqlite:///{tmp_path}/a.db") is adopted
    assert not adopted.takes_starts(f"sqlite:///{tmp_path}/b.db")
