"""What the status is, given what was seen: the table 'How a run ends', and its order of evidence."""

from __future__ import annotations

import dataclasses
import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside.events import FINAL, checked_status
from trackside.lifecycle.evidence import Crash, Evidence, signal_name
from trackside.lifecycle.verdict import INTERRUPT_MEMORY_MS, Verdict, decide

INT, TERM, KILL = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGKILL)
BOOM = Crash("ValueError", "boom", at_ms=5_000)
CTRL_C = Crash("KeyboardInterrupt", "", at_ms=5_000)
SEVERITY = {"RUNNING": 0, "FINISHED": 1, "KILLED": 2, "FAILED": 2}

TABLE = {
    "nothing yet": (Evidence(), "RUNNING", "running"),
    "returns": (Evidence(exited=True, exit_code=0, dead=True), "FINISHED", "exit code 0"),
    "returns, the code unknown": (Evidence(exited=True, dead=True), "FINISHED", "exited"),
    "finish()": (Evidence(finished="FINISHED"), "FINISHED", "finished"),
    "finish() while an exception passes": (Evidence(finishing=True), "FINISHED", "finished"),
    "finish() while an exception passes, which is handled": (
        Evidence(finishing=True, finished="FINISHED", dead=True, killed_by=KILL),
        "FINISHED",
        "finished",
    ),
    "finish() while an exception passes, which crashes": (
        Evidence(finishing=True, crash=BOOM, exited=True, exit_code=1, dead=True),
        "FAILED",
        "ValueError: boom",
    ),
    "finish() while an exception passes, exit code 1": (
        Evidence(finishing=True, exited=True, exit_code=1, dead=True),
        "FAILED",
        "exit code 1",
    ),
    "finish() while an exception passes, then killed": (
        Evidence(finishing=True, dead=True, killed_by=KILL),
        "FAILED",
        "died without a word (SIGKILL)",
    ),
    "finish('FAILED')": (Evidence(finished="FAILED"), "FAILED", "finished"),
    "finish('KILLED')": (Evidence(finished="KILLED", dead=True), "KILLED", "finished"),
    "exec": (Evidence(replaced=True), "RUNNING", "running"),
    "exec, exit code 0": (
        Evidence(replaced=True, dead=True, exit_code=0),
        "FINISHED",
        "replaced by another program (exec): exit code 0",
    ),
    "exec, exit code 3": (
        Evidence(replaced=True, dead=True, exit_code=3),
        "FAILED",
        "replaced by another program (exec): exit code 3",
    ),
    "exec, the kernel does not tell": (
        Evidence(replaced=True, dead=True),
        "FINISHED",
        "replaced by another program (exec): exit code not known",
    ),
    "exec, killed": (
        Evidence(replaced=True, dead=True, killed_by=KILL),
        "FAILED",
        "died without a word (SIGKILL)",
    ),
    "exec, another run": (
        Evidence(replaced=True, succeeded=True),
        "FINISHED",
        "replaced by another program (exec), which has its own run",
    ),
    "uncaught exception": (
        Evidence(crash=BOOM, exited=True, exit_code=1, dead=True),
        "FAILED",
        "ValueError: boom",
    ),
    "exception in a thread": (
        Evidence(crash=Crash("ValueError", "boom", where="in a thread"), exited=True, exit_code=0, dead=True),
        "FAILED",
        "ValueError in a thread: boom",
    ),
    "exception, then finish()": (Evidence(crash=BOOM, finished="FINISHED"), "FAILED", "ValueError: boom"),
    "sys.exit(1)": (Evidence(exited=True, exit_code=1, dead=True), "FAILED", "exit code 1"),
    "sys.exit('text')": (
        Evidence(exited=True, exit_code=1, exit_message="no data", dead=True),
        "FAILED",
        "exit code 1: no data",
    ),
    "Ctrl-C": (Evidence(crash=CTRL_C, signals={INT: 5_000}, dead=True), "KILLED", "Ctrl-C"),
    "Ctrl-C, answered with an exit code": (
        Evidence(signals={INT: 5_000}, exited=True, exit_code=130, dead=True),
        "KILLED",
        "Ctrl-C, then exit code 130",
    ),
    "Ctrl-C survived, clean return": (
        Evidence(signals={INT: 5_000}, exited=True, exit_code=0, dead=True),
        "FINISHED",
        "exit code 0",
    ),
    "SIGTERM": (Evidence(signals={TERM: 5_000}, dead=True, killed_by=TERM), "KILLED", "SIGTERM"),
    "SIGTERM without a handler": (Evidence(dead=True, killed_by=TERM), "KILLED", "SIGTERM"),
    "hangup without a handler": (Evidence(dead=True, killed_by=1), "KILLED", "SIGHUP"),
    "another signal that means stop": (
        Evidence(frozenset({10}), {10: 5_000}, dead=True),
        "KILLED",
        "SIGUSR1",
    ),
    "SIGTERM where it does not mean stop": (
        Evidence(frozenset({10}), {TERM: 5_000}, exited=True, exit_code=0, dead=True),
        "FINISHED",
        "exit code 0",
    ),
    "SIGTERM, graceful stop": (
        Evidence(signals={TERM: 5_000}, terminating_ms=5_000, exited=True, exit_code=0, dead=True),
        "KILLED",
        "SIGTERM",
    ),
    "SIGTERM, graceful stop, finish()": (
        Evidence(signals={TERM: 5_000}, terminating_ms=5_000, finished="FINISHED"),
        "KILLED",
        "SIGTERM",
    ),
    "asked to stop by a framework": (
        Evidence(terminating="preempted", terminating_ms=5_000, exited=True, exit_code=0, dead=True),
        "KILLED",
        "preempted",
    ),
    "SIGTERM, then SIGKILL": (
        Evidence(signals={TERM: 5_000}, terminating_ms=5_000, dead=True, killed_by=KILL),
        "KILLED",
        "SIGTERM, then SIGKILL",
    ),
    "SIGTERM, then an exception": (
        Evidence(signals={TERM: 4_000}, terminating_ms=4_000, crash=BOOM, dead=True),
        "KILLED",
        "SIGTERM, then ValueError",
    ),
    "an exception, then SIGTERM": (
        Evidence(signals={TERM: 6_000}, terminating_ms=6_000, crash=BOOM, dead=True),
        "FAILED",
        "ValueError: boom",
    ),
    "another rank's exception, then SIGTERM": (
        Evidence(
            signals={TERM: 6_000},
            terminating_ms=6_000,
            crash=dataclasses.replace(BOOM, where="on rank 1"),
            dead=True,
        ),
        "FAILED",
        "ValueError on rank 1: boom",
    ),
    "SIGKILL": (Evidence(dead=True, killed_by=KILL), "FAILED", "died without a word (SIGKILL)"),
    "segfault": (Evidence(dead=True, killed_by=11), "FAILED", "died without a word (SIGSEGV)"),
    "abort": (Evidence(dead=True, killed_by=6), "FAILED", "died without a word (SIGABRT)"),
    "os._exit(0)": (
        Evidence(dead=True, exit_code=0),
        "FAILED",
        "died without a word (exit code 0 without Python's exit)",
    ),
    "died, for an unknown reason": (Evidence(dead=True), "FAILED", "died without a word"),
    "killed on the way out": (
        Evidence(exited=True, dead=True, killed_by=KILL),
        "FAILED",
        "died without a word (SIGKILL)",
    ),
    "out of memory": (Evidence(dead=True, killed_by=KILL, oom=True), "FAILED", "out of memory"),
    "Ctrl-C, then killed": (
        Evidence(signals={INT: 5_000}, dead=True, died_ms=6_000, killed_by=KILL),
        "KILLED",
        "Ctrl-C, then died without a word",
    ),
    "Ctrl-C long before it was killed": (
        Evidence(signals={INT: 5_000}, dead=True, died_ms=5_000 + INTERRUPT_MEMORY_MS, killed_by=KILL),
        "FAILED",
        "died without a word (SIGKILL)",
    ),
}


@pytest.mark.wheel
@pytest.mark.parametrize(("evidence", "status", "reason"), TABLE.values(), ids=TABLE)
def test_how_a_run_ends(evidence: Evidence, status: str, reason: str) -> None:
    """Each row of the table, with its reason in words."""
    verdict = decide(evidence)
    assert verdict.status == status
    assert verdict.reason.startswith(reason)


def test_a_long_message_is_cut() -> None:
    """A reason is a line, not a page."""
    for evidence in (
        Evidence(crash=Crash("ValueError", "x" * 10_000)),
        Evidence(exited=True, exit_code=1, exit_message="x" * 10_000),
    ):
        assert len(decide(evidence).reason) == 500


# Properties

times = st.integers(0, 10)
codes = st.sampled_from([None, 0, 1, 130])
crashes = st.builds(Crash, st.sampled_from(["ValueError", "KeyboardInterrupt"]), st.just("boom"), at_ms=times)
evidences = st.builds(
    Evidence,
    signals=st.dictionaries(st.sampled_from([INT, TERM, 10]), times),
    terminating=st.sampled_from([None, "preempted"]),
    terminating_ms=times,
    crash=st.none() | crashes,
    finished=st.sampled_from([None, *sorted(FINAL)]),
    exited=st.booleans(),
    exit_code=codes,
    dead=st.booleans(),
    died_ms=times,
    killed_by=st.sampled_from([None, KILL, TERM, 11]),
    oom=st.booleans(),
)


@given(evidences)
def test_a_verdict_is_final_only_at_the_end(evidence: Evidence) -> None:
    """Final when the process is dead or the program said it has finished, not before. Then never RUNNING."""
    verdict = decide(evidence)
    assert verdict.final == (evidence.dead or evidence.finished is not None)
    assert verdict.status != "RUNNING" or not verdict.final
    assert verdict.reason


@given(evidences)
def test_nothing_that_went_wrong_is_called_finished(evidence: Evidence) -> None:
    """FINISHED needs a clean end and no crash and no request to stop."""
    if decide(evidence).status == "FINISHED":
        assert evidence.crash is None
        assert evidence.terminating is None
        assert TERM not in evidence.signals
        assert evidence.finished == "FINISHED" or (evidence.exited and not evidence.exit_code)


def _moments(draw: st.DrawFn) -> list[Evidence]:
    """A life in the order it is lived: evidence comes in, and the end comes last."""
    now = Evidence()
    life = [now]

    def then(**changes: object) -> None:
        nonlocal now
        now = dataclasses.replace(now, **changes)  # type: ignore[arg-type]
        life.append(now)

    for at_ms, event in enumerate(
        draw(st.lists(st.sampled_from(["crash", "stop", "int", "term"]), max_size=5)), 1
    ):
        if event == "crash" and now.crash is None:
            then(crash=Crash(draw(st.sampled_from(["ValueError", "KeyboardInterrupt"])), "boom", at_ms=at_ms))
        elif event == "stop":
            then(terminating="preempted", terminating_ms=now.terminating_ms or at_ms)
        elif event == "term":
            then(signals={**now.signals, TERM: at_ms}, terminating_ms=now.terminating_ms or at_ms)
        elif event == "int":
            then(signals={**now.signals, INT: at_ms})
    how = draw(st.sampled_from(["finish", "exit", "silence"]))
    if how == "finish":
        then(finished=draw(st.sampled_from(sorted(FINAL))))
    elif how == "exit":
        then(exited=True, exit_code=draw(codes))
    killed_by = (
        None if how == "exit" and now.exit_code is not None else draw(st.sampled_from([None, KILL, 11]))
    )
    then(dead=True, died_ms=10, killed_by=killed_by, oom=draw(st.booleans()))
    return life


@given(st.composite(_moments)())
def test_a_verdict_never_becomes_milder(life: list[Evidence]) -> None:
    """Whatever comes to light as time goes on, FAILED and KILLED stay bad, and FINISHED is not forgotten."""
    verdicts = [decide(evidence) for evidence in life]
    for before, after in itertools.pairwise(verdicts):
        assert SEVERITY[after.status] >= SEVERITY[before.status], (before, after)
    assert verdicts[-1].final


# Names


@pytest.mark.parametrize("text", ["FINISHED", "failed", "Killed"])
def test_a_status_is_spelt_as_mlflow_does(text: str) -> None:
    """In capitals, however it is given."""
    assert checked_status(text) == text.upper()


@pytest.mark.parametrize("text", ["RUNNING", "SCHEDULED", "DONE", "", "None"])
def test_what_is_no_final_status_is_refused(text: str) -> None:
    """The error names the three there are."""
    with pytest.raises(ValueError, match="Use FINISHED, FAILED or KILLED"):
        checked_status(text)


def test_signal_names() -> None:
    """Also where Python has no name for it, as for most real-time signals."""
    assert signal_name(15) == "SIGTERM"
    assert signal_name(40) == "signal 40"


def test_the_first_verdict_is_running() -> None:
    """Nothing is known of a run that has just begun."""
    assert decide(Evidence()) == Verdict("RUNNING", "running", final=False)
