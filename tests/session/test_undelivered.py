"""Runs that end without waiting for delivery. The process waits at its exit, once for all of them.

Each scenario is a process of its own, and is read back from what the shippers have delivered.
"""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import new_database, only_run, wait_until_delivered
from tests.session.sweeps import ends, play
from tests.support import recorder
from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path


def test_an_end_does_not_wait_and_the_exit_does(tmp_path: Path) -> None:
    """The loop passes while nothing can be delivered. At the exit everything is, each with its own status."""
    done = play(
        tmp_path,
        """
        hold.touch()
        runs = [trial(0), trial(1, "FAILED"), trial(2)]
        assert [run.status for run in runs] == ["FINISHED", "FAILED", "FINISHED"]
        assert [run.flush(0.0) for run in runs] == [False] * 3
        assert trackside.current_run() is None
        hold.unlink()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ends(tmp_path) == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED"}
    wait_until_delivered(tmp_path / "journals")


def test_what_is_delivered_is_waited_for_by_who_reads(tmp_path: Path) -> None:
    """One run, or all that are over. Then nothing of them is left in the process."""
    done = play(
        tmp_path,
        """
        first, second = trial(0), trial(1)
        assert first.flush(100)
        assert first.delivery.phase == "delivered", first.delivery
        third = trial(2)
        assert undelivered_runs.flush(100)
        assert second.flush(0.0) and third.flush(0.0)
        assert not undelivered_runs._runs
        before = descriptors()
        trial(3)
        assert undelivered_runs.flush(100)
        after = descriptors()
        assert after <= before, (before, after)
        assert undelivered_runs.flush(0.0)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert set(ends(tmp_path).values()) == {"FINISHED"}


def test_one_warning_tells_of_all_that_is_left(tmp_path: Path) -> None:
    """And the exit waits as long as for one run."""
    done = play(
        tmp_path,
        """
        hold.touch()
        runs = [trial(number) for number in range(3)]
        """,
        TRACKSIDE_EXIT_TIMEOUT="1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "3 runs are not delivered entirely" in done.stderr
    assert str(tmp_path / "journals") in done.stderr
    (tmp_path / "records" / recorder.HOLD).unlink()
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == dict.fromkeys("012", "FINISHED")


def test_a_run_that_is_alive_at_the_exit_is_waited_for_with_the_rest(tmp_path: Path) -> None:
    """Two live runs and one that is over: one limit, one warning."""
    done = play(
        tmp_path,
        """
        hold.touch()
        trial(0)
        for number in (1, 2):
            begin(number, bus=Bus())
        """,
        TRACKSIDE_EXIT_TIMEOUT="1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "3 runs are not delivered" in done.stderr
    (tmp_path / "records" / recorder.HOLD).unlink()
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == dict.fromkeys("012", "FINISHED")


@pytest.mark.parametrize(
    ("handled", "statuses"),
    [(True, {"0": "FINISHED", "1": "FINISHED"}), (False, {"0": "FAILED"})],
    ids=["handled", "not handled"],
)
def test_an_exception_on_its_way_decides(tmp_path: Path, handled: bool, statuses: dict[str, str]) -> None:
    """As with finish(): the run is over, and what becomes of the exception says how."""
    done = play(
        tmp_path,
        f"""
        def one():
            run = begin(0)
            try:
                raise ValueError("boom")
            finally:
                run.finish(wait=False)

        try:
            one()
        except ValueError:
            if not {handled}:
                raise
        trial(1)
        """,
    )
    assert done.returncode == (0 if handled else 1), done.stderr
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == statuses


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_waits_for_none_of_them(tmp_path: Path) -> None:
    """They are the parent's. The child's own are waited for in the child."""
    done = play(
        tmp_path,
        """
        hold.touch()
        trial(0)
        pid = os.fork()
        if pid == 0:
            assert not undelivered_runs._runs
            assert undelivered_runs.flush(0.0)
            trial(1)
            assert len(undelivered_runs._runs) == 1
            hold.unlink()
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert len(undelivered_runs._runs) == 1
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ends(tmp_path) == dict.fromkeys("01", "FINISHED")


def test_an_end_behind_the_wait_at_the_exit_is_waited_for(tmp_path: Path) -> None:
    """A library's own exit function ends its runs later than we wait."""
    done = play(
        tmp_path,
        """
        import atexit
        late = []

        @atexit.register
        def end_it():
            late[0].finish(wait=False)

        late.append(begin(0))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    wait_until_delivered(tmp_path / "journals")
    assert ends(tmp_path) == {"0": "FINISHED"}


@pytest.mark.process
def test_what_is_read_after_the_journal_has_gone(tmp_path: Path) -> None:
    """The run's id and its counts stay as they were, though no one read them during the delivery."""
    script = """
    import os, sys, time
    import trackside

    run = trackside.start("sweep", wait=False)
    run.log({"loss": 0.5, "lr": 0.1}, step=0)
    run.finish("FAILED", wait=False)
    os.closerange(3, 4096)
    deadline = time.monotonic() + 120
    while run.journal.meta.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.counts.shipped == 2, run.counts
    assert run.flush(60)
    assert run.counts.shipped == 2, run.counts
    assert not run.journal.path.exists()
    print(run.run_id, run.status)
    """
    address = new_database(tmp_path)
    done = run_python(
        "-c",
        textwrap.dedent(script),
        cwd=tmp_path,
        env={**os.environ, "TRACKSIDE_DIR": str(tmp_path / "journals"), "MLFLOW_TRACKING_URI": address},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = only_run(address)
    assert found is not None
    assert done.stdout.split() == [found.info.run_id, found.info.status] == [found.info.run_id, "FAILED"]
