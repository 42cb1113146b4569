"""Several runs from one place, one after the other: a multirun, a sweep, a cell run again.

Each scenario is a process of its own, with a real store, and is read back from MLflow.
"""

from __future__ import annotations

import asyncio
import os
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

import trackside
from tests.ends.harness import wait_until_delivered
from tests.support import recorder
from tests.support.program import run_python
from trackside.errors import RunActiveError
from trackside.event_bus.bus import Bus
from trackside.lifecycle.call_site import CallSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# As Hydra's: jobs in turn in one process, failures kept until all are done, then turned into an exit code.
MULTIRUN = f"""
import sys
{recorder.IN_A_SCRIPT}
import trackside

def run_job(job, number):
    try:
        return job(number)
    except Exception as error:
        return error

def multirun(job, count):
    try:
        results = [run_job(job, number) for number in range(count)]
        for result in results:
            if isinstance(result, Exception):
                raise result
    except Exception:
        sys.exit(1)

def setup(number):
    return trackside.start("series", run_name=str(number))

"""

SCENARIOS = {
    "never finished": (
        """
        def job(number):
            setup(number)
            trackside.log({"loss": number}, step=0)
            if number == 1:
                raise ValueError("boom")

        multirun(job, 3)
        """,
        [
            ("0", "FINISHED", "next start()"),
            ("1", "FAILED", "ValueError: boom"),
            ("2", "FINISHED", "finished"),
        ],
    ),
    "the last fails, too": (
        """
        def job(number):
            trackside.start("series", run_name=str(number))
            trackside.log({"loss": number}, step=0)
            if number != 1:
                raise ValueError(f"boom {number}")

        multirun(job, 3)
        """,
        [("0", "FAILED", "boom 0"), ("1", "FINISHED", ""), ("2", "FAILED", "boom 2")],
    ),
    "finally: finish()": (
        """
        def job(number):
            run = trackside.start("series", run_name=str(number))
            try:
                trackside.log({"loss": number}, step=0)
                if number == 0:
                    raise ValueError("boom")
            finally:
                run.finish()

        multirun(job, 2)
        """,
        [("0", "FAILED", "ValueError: boom"), ("1", "FINISHED", "finished")],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_multirun(tmp_path: Path, name: str) -> None:
    """Each job has a run, each run the status of its own job, and no job is stopped by the one before."""
    script, wanted = SCENARIOS[name]
    journals, records = tmp_path / "journals", tmp_path / "records"
    environment = {**os.environ, **recorder.environment(records), "TRACKSIDE_DIR": str(journals)}
    done = run_python("-c", MULTIRUN + textwrap.dedent(script), cwd=tmp_path, env=environment)
    assert done.returncode == 1, done.stderr
    wait_until_delivered(journals)
    runs = recorder.read_runs(records)
    assert [run.status for run in runs] == [status for _, status, _ in wanted], (runs, done.stderr)
    for run, (number, _, part) in zip(runs, wanted, strict=True):
        assert f"-{number}-" in run.journal
        assert part in run.reason


# Which calls are the same place


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus whose last run is finished at the end."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    bus = Bus()
    yield bus
    trackside.finish(bus=bus)


def begin(bus: Bus) -> trackside.Run:
    """Start a run, as a helper of the user's would."""
    return trackside.start("x", bus=bus)


def test_a_loop_that_forgets_finish(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The run before is finished, with a warning that says what to write instead."""
    runs = [begin(bus) for _ in range(3)]
    assert [run.status for run in runs] == ["FINISHED", "FINISHED", "RUNNING"]
    assert caplog.text.count("was not finished") == 2
    assert "with trackside.start(...) as run" in caplog.text


def test_a_run_within_a_run_is_refused(bus: Bus) -> None:
    """A function that is called within the training is no next job. The run continues."""

    def train() -> None:
        begin(bus)

    run = begin(bus)
    with pytest.raises(RunActiveError, match=r"trackside\.finish\(\)"):
        train()
    assert run.status == "RUNNING"


def test_another_thread_is_refused(bus: Bus) -> None:
    """The first thread's training may still run."""
    raised: list[BaseException] = []

    def job() -> None:
        try:
            begin(bus)
        except RunActiveError as error:
            raised.append(error)

    for _ in range(2):
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
    assert len(raised) <= 1  # a thread's number may be given to the next
    sites: list[CallSite] = []
    both = threading.Barrier(2)

    def note() -> None:
        sites.append(CallSite())
        both.wait()

    threads = [threading.Thread(target=note) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not sites[0].is_again(sites[1])


def test_a_coroutine_is_refused(bus: Bus) -> None:
    """It may be suspended while another one of its kind starts."""

    async def job() -> str:
        try:
            begin(bus)
        except RunActiveError:
            return "refused"
        await asyncio.sleep(0)
        return "started"

    async def main() -> list[str]:
        return list(await asyncio.gather(job(), job()))

    assert asyncio.run(main()) == ["started", "refused"]


def test_an_exception_that_was_handled_within_the_job_does_not_count(bus: Bus) -> None:
    """It is kept, but it did not leave the function that started the run."""
    kept: list[BaseException] = []

    def job() -> trackside.Run:
        run = begin(bus)
        try:
            int("no number")
        except ValueError as error:
            kept.append(error)
        return run

    runs = [job() for _ in range(2)]
    assert kept
    assert runs[0].status == "FINISHED"


# Public names


def test_the_current_run_can_be_ended_by_name(bus: Bus) -> None:
    """As in a notebook whose cell failed with the run in a local variable. Without a run, nothing happens."""
    assert trackside.current_run(bus) is None
    trackside.finish(bus=bus)
    run = begin(bus)
    assert trackside.current_run(bus) is run
    trackside.finish("KILLED", bus=bus)
    assert run.status == "KILLED"
    assert trackside.current_run(bus) is None
    with pytest.raises(ValueError, match="Use FINISHED, FAILED or KILLED"):
        trackside.finish("DONE", bus=bus)  # type: ignore[arg-type]


def test_the_no_op_run_is_the_current_one_too(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that asks for the run works on every rank."""
    monkeypatch.setenv("TRACKSIDE_MODE", "disabled")
    run = begin(bus)
    assert trackside.current_run(bus) is run
    trackside.finish(bus=bus)
    assert trackside.current_run(bus) is None
