"""Many runs in one process: shippers that are forked, take turns, and survive whoever dies.

Each scenario is a process of its own, with real shippers that deliver to files in place of MLflow.
"""

from __future__ import annotations

import signal
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import wait_until_delivered
from tests.session import sweeps
from tests.session.sweeps import ends
from tests.support import recorder

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "darwin", reason="shippers are not forked there"),
]

MORE = """
import multiprocessing, signal, threading
import psutil
from trackside.session.further_shippers import further_shippers
from trackside.shipper.forked import ForkedShipper

def shipper_of(run):
    return run._assembly.shipper

def until(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.02)

def fork_server():
    return further_shippers._server._server

def processes():
    return len(psutil.Process().children(recursive=True))
"""


def play(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a program that makes runs and looks at their shippers."""
    return sweeps.play(folder, MORE + textwrap.dedent(script))


def test_a_sweep_has_few_processes(tmp_path: Path) -> None:
    """The first run's shipper, the fork server, and as many shippers as may run at once."""
    done = play(
        tmp_path,
        """
        from trackside.shipper.fork_server import AT_ONCE
        most = 0
        for number in range(30):
            run = trial(number)
            most = max(most, processes())
        assert isinstance(shipper_of(run)._process, ForkedShipper)
        used = descriptors()
        assert undelivered_runs.flush(100)
        assert most <= AT_ONCE + 2, most
        assert used < 150, used
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ends(tmp_path) == {str(number): "FINISHED" for number in range(30)}


def test_runs_in_threads(tmp_path: Path) -> None:
    """Twelve at the same time, each on a bus of its own, none of which waits for the end of another."""
    done = play(
        tmp_path,
        """
        both = threading.Barrier(12)
        failed = []

        def work(number):
            run = begin(number, Bus())
            if not run.flush(90):
                failed.append(number)
            both.wait(90)
            run.finish("FAILED" if number == 3 else "FINISHED", wait=False)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not failed
        """,
    )
    assert done.returncode == 0, done.stderr
    wanted = {str(number): "FINISHED" for number in range(12)} | {"3": "FAILED"}
    assert ends(tmp_path) == wanted


@pytest.mark.parametrize("held", [True, False], ids=["nothing delivered yet", "deliveries under way"])
def test_a_training_that_is_killed(tmp_path: Path, held: bool) -> None:
    """What had ended stays so, what was alive has failed, and what waited for its turn is delivered."""
    done = play(
        tmp_path,
        f"""
        {"hold.touch()" if held else ""}
        for number in range(15):
            trial(number)
        alive = begin(15)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "records" / recorder.HOLD).unlink(missing_ok=True)
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == {str(number): "FINISHED" for number in range(15)} | {"15": "FAILED"}


def test_a_fork_server_that_is_killed(tmp_path: Path) -> None:
    """Before it has started anything, and with shippers under way and others in its queue."""
    done = play(
        tmp_path,
        """
        hold.touch()
        trial(0), trial(1)
        fork_server().kill()
        for number in range(2, 14):
            run = trial(number)
        until(lambda: processes() >= 4)
        fork_server().kill()
        trial(14)
        hold.unlink()
        assert undelivered_runs.flush(100)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "lost" not in done.stderr
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == {str(number): "FINISHED" for number in range(15)}


def test_a_forked_shipper_that_is_killed(tmp_path: Path) -> None:
    """It is replaced, in a run that lives and in one that is over, and the others do not notice."""
    done = play(
        tmp_path,
        """
        hold.touch()
        trial(0)
        over, alive = trial(1), begin(2)
        until(lambda: shipper_of(over).pid is not None and shipper_of(alive).pid is not None)
        until(lambda: shipper_of(alive).is_ready and shipper_of(over).is_ready)
        for run in (over, alive):
            os.kill(shipper_of(run).pid, signal.SIGKILL)
        trial(3, bus=Bus())
        hold.unlink()
        assert alive.flush(90)
        alive.finish(wait=False)
        assert undelivered_runs.flush(90)
        assert shipper_of(alive).restarts == 1 == shipper_of(over).restarts
        """,
    )
    assert done.returncode == 0, done.stderr
    assert ends(tmp_path) == dict.fromkeys("0123", "FINISHED")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_with_runs_of_its_own(tmp_path: Path, method: str) -> None:
    """It has a fork server of its own, and leaves the parent's alone."""
    done = play(
        tmp_path,
        f"""
        def work():
            for number in (10, 11, 12):
                trial(number)

        if __name__ == "__main__":
            trial(0), trial(1)
            mine = fork_server().pid
            child = multiprocessing.get_context({method!r}).Process(target=work)
            child.start()
            trial(2)
            child.join()
            assert child.exitcode == 0, child.exitcode
            assert fork_server().pid == mine
        """,
    )
    assert done.returncode == 0, done.stderr
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == {str(number): "FINISHED" for number in (0, 1, 2, 10, 11, 12)}


def test_a_program_that_closes_all_descriptors(tmp_path: Path) -> None:
    """As a daemon does. The next run has a fork server again, and nothing is lost."""
    done = play(
        tmp_path,
        """
        trial(0), trial(1)
        assert undelivered_runs.flush(90)
        alive = begin(4)
        os.closerange(3, 4096)
        alive.finish(wait=False)
        trial(2), trial(3)
        assert undelivered_runs.flush(90)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "lost" not in done.stderr
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == dict.fromkeys("01234", "FINISHED")


def test_descriptors_that_are_closed_after_the_ends(tmp_path: Path) -> None:
    """The process has no way left to hear of its shippers. What they leave on disk proves the delivery."""
    done = play(
        tmp_path,
        """
        hold.touch()
        runs = [trial(number) for number in range(4)]
        until(lambda: shipper_of(runs[3]).pid is not None)
        os.closerange(3, 4096)
        hold.unlink()
        until(lambda: not any(run.journal.meta.exists() for run in runs))
        assert undelivered_runs.flush(90)
        assert [run.delivery.phase for run in runs] == ["delivered"] * 4
        assert [run.counts.shipped for run in runs] == [10] * 4
        assert not any(run.journal.path.exists() for run in runs)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ends(tmp_path) == dict.fromkeys("0123", "FINISHED")
    assert not list((tmp_path / "journals").iterdir())


def test_a_fork_server_that_is_killed_with_many_ends_to_deliver(tmp_path: Path) -> None:
    """More than keep a channel to their shipper. Whoever delivers them, nothing is called lost."""
    done = play(
        tmp_path,
        """
        from trackside.session.undelivered import MANY
        from trackside.shipper.fork_server import AT_ONCE
        hold.touch()
        runs = [trial(number) for number in range(MANY + 10)]
        until(lambda: sum(shipper_of(run).pid is not None for run in runs) > AT_ONCE)
        fork_server().kill()
        hold.unlink()
        until(lambda: sum(run.journal.meta.exists() for run in runs) < len(runs) - AT_ONCE)
        assert undelivered_runs.flush(100)
        assert all(run.counts.shipped == 10 for run in runs)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "lost" not in done.stderr
    assert len(ends(tmp_path)) == 42
    wait_until_delivered(tmp_path / "journals")


def test_where_no_shipper_can_be_forked_an_end_waits_for_others(tmp_path: Path) -> None:
    """So that a sweep does not have a process with MLflow for each of its runs."""
    done = play(
        tmp_path,
        """
        from trackside.session.undelivered import FROM_SCRATCH
        further_shippers._server._broken = True
        runs, most = [], 0
        for number in range(FROM_SCRATCH + 6):
            runs.append(trial(number))
            at_work = [run for run in runs if run.journal.meta.exists() and shipper_of(run).is_running()]
            most = max(most, len(at_work))  # one that has delivered may take a moment to leave
        assert all(shipper_of(run).is_from_scratch for run in runs)
        assert most <= FROM_SCRATCH, most
        """,
    )
    assert done.returncode == 0, done.stderr
    assert len(ends(tmp_path)) == 14
    wait_until_delivered(tmp_path / "journals")
