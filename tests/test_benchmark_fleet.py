"""What a fleet is watched with: the server's log, processor time, and the pages of runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.fleet_watch import AccessLog, CpuMeter, PageReader

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

LINES = """\
2026/11/27 22:05:00 INFO mlflow.server: 127.0.0.1:1 - "POST /api/2.0/mlflow/runs/log-batch HTTP/1.1" 200
2026/11/27 22:05:00 INFO:     127.0.0.1:2 - "GET /api/2.0/mlflow/runs/get?run_id=7 HTTP/1.1" 200
Traceback (most recent call last):
2026/11/27 22:05:01 INFO:     127.0.0.1:1 - "POST /api/2.0/mlflow/experiments/create HTTP/1.1" 400
"""


def test_requests_are_counted_by_what_was_asked(tmp_path: Path) -> None:
    """Also when a line is only half written at first."""
    path = tmp_path / "server.log"
    log = AccessLog(path)
    assert log.read() == 0
    path.write_text(LINES[:150])
    log.read()
    path.write_text(LINES)
    assert log.read() == 3
    assert log.requests == {"runs/log-batch": 1, "runs/get": 1, "experiments/create": 1}
    assert log.refused == {"experiments/create 400": 1}


def test_the_time_of_a_process_that_has_ended_still_counts() -> None:
    """A server is killed in the outage, and a new one started."""

    def process(pid: int, seconds: float) -> Any:
        times = SimpleNamespace(user=seconds, system=0.0)
        return SimpleNamespace(pid=pid, cpu_times=lambda: times, create_time=lambda: 1.0)

    processes = [process(1, 5.0)]
    meter = CpuMeter(lambda: processes)
    assert meter.read() == 5.0
    processes[:] = [process(2, 1.0)]
    assert meter.read() == 6.0


def test_a_server_that_is_gone_uses_nothing() -> None:
    """Between the two."""

    def find() -> list[psutil.Process]:
        raise psutil.NoSuchProcess(1)

    assert CpuMeter(find).read() == 0


def test_the_age_of_points_that_become_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step that an answer is the first to show, from when it was logged; nothing at the first look."""
    shown = {"key": "loss", "step": 4, "timestamp": 1000}
    reader = PageReader("http://localhost:1", dict, "loss")
    monkeypatch.setattr(reader, "_get", lambda _path: {"run": {"data": {"metrics": [shown]}}})
    monkeypatch.setattr("benchmarks.fleet_watch.time", SimpleNamespace(time=lambda: 3.0))
    reader._look("7")
    shown |= {"step": 6, "timestamp": 2500}
    reader._look("7")
    assert [sight.ages for sight in reader.sights] == [[], [0.5, 1.5]]
