"""Which run a training logs into, and how that run ends."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import trackside
from tests.ends.harness import wait_until_delivered
from tests.parts import kinds_of, records_of
from tests.support import recorder
from tests.support.program import run_python
from trackside.event_bus.bus import Bus
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.session.run import Run


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus whose runs are kept in a folder of the test, without a shipper."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    bus = Bus()
    yield bus
    trackside.finish(bus=bus)


def end_of(run: Run) -> tuple[str, str]:
    """The status, and the reason that was given."""
    return run.status, records_of(run)[-1].message or ""


def test_a_run_of_the_program_is_used_and_not_ended(bus: Bus) -> None:
    """Its configuration grows by that of the training."""
    mine = trackside.start("mine", config={"seed": 1}, bus=bus)
    training = TrainingRun(bus)
    assert training.begin(experiment_name="theirs", config={"lr": 0.1}) is mine
    assert not training.is_ours
    training.finish("FAILED")
    training.complete()
    TrainingRun(bus).begin()
    assert mine.is_recording
    configs = [record.params for record in records_of(mine) if hasattr(record, "params")]
    assert [{**one} for one in configs] == [{"seed": "1"}, {"lr": "0.1"}]


def test_a_run_of_ours_stays_open_after_the_training(bus: Bus) -> None:
    """What is logged after it, an evaluation, is in it. The next training ends it."""
    first, second = TrainingRun(bus), TrainingRun(bus)
    run = first.begin(experiment_name="ours")
    first.complete()
    run.log({"eval/loss": 0.5}, step=3)
    assert first.is_open
    later = second.begin()
    assert later is not run
    assert not first.is_open
    assert end_of(run) == ("FINISHED", "")
    second.finish()
    assert later.status == "FINISHED"


def test_a_training_that_was_cut_short_has_failed(bus: Bus) -> None:
    """The program caught the exception and began the next training."""
    first, second = TrainingRun(bus), TrainingRun(bus)
    run = first.begin()
    second.begin()
    assert end_of(run) == ("FAILED", "the training did not reach its end")


def test_a_retry_while_the_exception_is_handled_knows_it(bus: Bus) -> None:
    """The run that failed says why."""
    first, second = TrainingRun(bus), TrainingRun(bus)
    run = first.begin()
    try:
        bytes(-1)
    except ValueError:
        second.begin()
    second.finish()
    assert run.status == "FAILED"
    assert "crashed" in kinds_of(run)


def test_one_training_begins_again(bus: Bus) -> None:
    """Each time it gets a run of its own."""
    training = TrainingRun(bus)
    first = training.begin()
    training.complete()
    second = training.begin()
    training.complete()
    assert first is not second
    assert second.is_recording


def test_a_run_that_was_ended_is_left_alone(bus: Bus) -> None:
    """The program may end a run that it did not start."""
    training = TrainingRun(bus)
    run = training.begin()
    trackside.finish("KILLED", bus=bus)
    assert not training.is_open
    TrainingRun(bus).begin()
    training.finish("FAILED")
    assert run.status == "KILLED"


def test_finish_takes_an_exception_that_is_not_in_flight(bus: Bus) -> None:
    """The run ends as if the exception had left its block. A reason goes to the run's page."""
    failed = trackside.start(bus=bus)
    failed.finish(error=ValueError("boom"))
    assert failed.status == "FAILED"
    assert "crashed" in kinds_of(failed)
    interrupted = trackside.start(bus=bus)
    interrupted.finish("FAILED", error=KeyboardInterrupt())
    assert interrupted.status == "KILLED"
    clean = trackside.start(bus=bus)
    clean.finish(error=SystemExit(0), reason="requeued, with password=hunter2hunter2")
    assert clean.status == "FINISHED"
    assert "requeued" in end_of(clean)[1]
    assert "hunter2" not in end_of(clean)[1]


def test_finish_takes_an_expected_exception(bus: Bus) -> None:
    """It means what the program said it means."""
    run = trackside.start(bus=bus, expected={StopIteration: "FINISHED"})
    run.finish(error=StopIteration("enough"))
    assert run.status == "FINISHED"


def test_other_ranks_end_alike(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The no-op run has the same status."""
    monkeypatch.setenv("RANK", "1")
    training = TrainingRun(bus)
    run = training.begin(config={"lr": 1})
    assert training.is_open
    training.finish(error=ValueError("boom"))
    assert run.status == "FAILED"
    assert not training.is_open


def test_the_error_names_the_extra() -> None:
    """A framework that is not installed is named, and what brings it."""
    told = pytest.raises(ImportError, match=r"no_such_framework.*pip install 'trackside\[keras\]'")
    with told as info, needs_extra("keras"):
        import no_such_framework  # type: ignore[import-not-found]  # noqa: F401
    assert info.value.name == "no_such_framework"


@pytest.mark.parametrize("framework", ["accelerate", "ignite", "keras", "transformers"])
def test_a_framework_that_is_not_installed(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing its file says what to install."""
    module = f"trackside.integrations.{framework}"
    monkeypatch.setitem(sys.modules, framework, None)  # as if it were not there
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=rf"{module} needs .* pip install 'trackside\[{framework}\]'"):
        importlib.import_module(module)


EXITS = {
    "complete, clean return": ("training.complete()", 0, "FINISHED", "exit code 0"),
    "complete, then an exception": ("training.complete(); 1 / 0", 1, "FAILED", "ZeroDivisionError"),
    "cut short, and the program goes on": (
        "try: 1 / 0\nexcept ZeroDivisionError: pass",
        0,
        "FAILED",
        "the training did not reach its end",
    ),
    "cut short by an exception": ("1 / 0", 1, "FAILED", "ZeroDivisionError: division by zero"),
    "cut short by sys.exit(0)": ("import sys; sys.exit(0)", 0, "FINISHED", "exit code 0"),
    "cut short by Ctrl-C": ("raise KeyboardInterrupt", 130, "KILLED", "Ctrl-C"),
    "cut short by SIGTERM": (
        "import os, signal; signal.signal(15, lambda *_: None); os.kill(os.getpid(), 15)",
        0,
        "KILLED",
        "SIGTERM",
    ),
    "the program's own run": (
        "training.finish('FAILED')",
        0,
        "FINISHED",
        "exit code 0",
    ),
}


@pytest.mark.process
@pytest.mark.parametrize("case", EXITS)
def test_the_end_of_the_program(tmp_path: Path, case: str) -> None:
    """A run of ours ends as every run does, but a training that was cut short is no success."""
    code, exit_code, status, reason = EXITS[case]
    program = textwrap.dedent(
        f"""
        {recorder.IN_A_SCRIPT.replace(chr(10), "; ")}
        import trackside
        from trackside.integrations.training_run import TrainingRun
        training = TrainingRun()
        if {case == "the program's own run"}:
            trackside.start()
        training.begin()
        trackside.log({{"loss": 1.0}}, step=0)
        """
    )
    (tmp_path / "train.py").write_text(program + code)
    done = run_python(
        "train.py", cwd=tmp_path, env={**os.environ, **recorder.environment(tmp_path / "records")}
    )
    assert done.returncode == exit_code or (exit_code == 130 and done.returncode == -2), done.stderr
    wait_until_delivered(tmp_path / ".trackside")
    run = recorder.only_run(tmp_path / "records")
    assert (run.status, run.steps("loss")) == (status, {0: 1})
    assert reason in run.reason
