"""Sinks that start() is given: objects, names, mappings. What becomes of them when it fails."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import trackside
from tests.faults.proxy import free_port
from trackside.errors import ConfigurationError, JournalError
from trackside.event_bus.bus import Bus
from trackside.session.sinks import plan_sinks
from trackside.sinks import MemorySink, TransformedSink
from trackside.transform import Transform


class Closing:
    """Counts."""

    def __init__(self) -> None:
        self.closed = 0

    def on_metrics(self, _sample: Any) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def taken(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_names_mappings_and_objects() -> None:
    """In the order given. A single name is one, too."""
    mine = Closing()
    plan = plan_sinks(["memory", mine, {"type": "memory", "transform": {"every_n_steps": 2}}], 0)
    first, second, third = plan.sinks
    assert isinstance(first, MemorySink)
    assert second is mine
    assert isinstance(third, TransformedSink)
    assert plan.made == (first, third)
    assert len(plan_sinks("memory", 0).sinks) == 1


def test_other_ranks_have_only_what_names_them() -> None:
    """An object counts as for rank 0, unless it is transformed for others. No rank makes one in vain."""
    everywhere = TransformedSink(Closing(), Transform(ranks=(0, 1)))
    port = free_port()
    plan = plan_sinks([Closing(), everywhere, {"type": "prometheus", "port": port}, "memory"], 1)
    assert plan.sinks == (everywhere,)
    assert not taken(port)
    with pytest.raises(ConfigurationError, match="memory"):
        plan_sinks(["memoryy"], 1)


def test_a_failed_plan_gives_back_what_it_took() -> None:
    """The second sink is a mistake: the first one's port is free again."""
    port = free_port()
    with pytest.raises(ConfigurationError):
        plan_sinks([{"type": "prometheus", "port": port}, "memoryy"], 0)
    assert not taken(port)


def test_a_failed_start_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user made is the user's."""
    monkeypatch.setenv("TRACKSIDE_DIR", "/dev/null/nowhere")
    port, mine = free_port(), Closing()
    with pytest.raises(JournalError):
        trackside.start(sinks=[mine, {"type": "prometheus", "port": port}], bus=Bus())
    assert not taken(port)
    assert mine.closed == 0
