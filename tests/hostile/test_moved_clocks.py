"""A shipper that dies is replaced by one other, even if the program's clocks jump and many threads ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.odd_program import play

if TYPE_CHECKING:
    from pathlib import Path

OFTEN = "import trackside.sinks.mlflow; trackside.sinks.mlflow.WATCH_EVERY = 0.1"

HELPERS = """
import psutil
shipper, step = run._assembly.shipper, 50

def kill():
    assert run.flush(60)
    os.kill(shipper.pid, signal.SIGKILL)
    while shipper.is_running():
        time.sleep(0.01)

def log(**more):
    global step
    trackside.emit(trackside.MetricsSample(step=step, metrics={"loss": 0.5}, **more))
    step += 1

def is_replaced(**more):
    before, tries = shipper.restarts, 0
    kill()
    while shipper.restarts == before and tries < 300:
        log(**more)
        tries += 1
        time.sleep(0.01)
    return shipper.restarts == before + 1
"""

CLOCKS = (
    HELPERS
    + """
seconds, nanoseconds, monotonic = time.time, time.time_ns, time.monotonic
time.time, time.time_ns = lambda: seconds() - 3600, lambda: nanoseconds() - 3600 * 10**9
assert is_replaced(), "with a clock that was set back"
assert is_replaced(timestamp_ms=0), "with replayed data"
time.time, time.time_ns = seconds, nanoseconds

frozen = monotonic()  # as a library that freezes the time does it for a test
time.monotonic = lambda: frozen
log()
assert run.flush(60)
os.kill(shipper.pid, signal.SIGSTOP)
while psutil.Process(shipper.pid).status() != psutil.STATUS_STOPPED:
    time.sleep(0.01)
log()
assert not run.flush(0.5), "with a clock that stands still"
os.kill(shipper.pid, signal.SIGCONT)
time.monotonic = monotonic

"""
)

THREADS = (
    HELPERS
    + """
kill()
log()
sys.setswitchinterval(1e-5)  # as if each thread had a core of its own
together = threading.Barrier(8)
answers = []

def flush():
    together.wait()
    answers.append(run.flush(60))

threads = [threading.Thread(target=flush) for _ in range(8)]
for thread in threads:
    thread.start()
alive = set()
while any(thread.is_alive() for thread in threads):
    for process in psutil.Process().children():
        try:
            if str(run.journal.path) in process.cmdline():
                alive.add(process.pid)
        except psutil.Error:
            pass
    time.sleep(0.01)
assert answers == [True] * 8, answers
assert (shipper.restarts, alive) == (1, {shipper.pid}), (shipper.restarts, alive)
"""
)


def test_clocks_that_are_set_back_or_stand_still(tmp_path: Path) -> None:
    """The shipper is replaced though no clock nor timestamp gets to the next look, and a wait has its end."""
    played = play(tmp_path, before=OFTEN, during=CLOCKS)
    assert played.code == 0, played.said
    assert played.said.count("died. Starting another") == 2
    assert sorted(set(played.steps)) == list(range(max(played.steps) + 1))


def test_eight_threads_wait_for_a_shipper_that_has_died(tmp_path: Path) -> None:
    """One of them starts one other, and all of them wait for it."""
    played = play(tmp_path, during=THREADS)
    assert played.code == 0, played.said
    assert played.said.count("died. Starting another") == 1
    assert sorted(set(played.steps)) == list(range(51))
