"""Ends in which the program, a framework or an entry point has its own word about an exception."""

# ruff: noqa: E501 - scripts on one line read better than wrapped ones
from __future__ import annotations

from tests.ends.harness import Case
from tests.ends.kinds import clean, ctrl_c, failed

START = "run = trackside.start('ends')\nemit(20)\n"

ENTRY_POINT = """
def run_and_report(function):
    try:
        function()
    except Exception:
        print("the job failed", file=sys.stderr)
        sys.exit(1)

def job():
    trackside.start('ends')
    emit(20)
    raise ValueError('boom')
"""
"""What Hydra does: the exception is handled, printed in its own way, and becomes an exit code."""

CLICK = """
import click

@click.command()
def main():
    trackside.start('ends')
    emit(20)
    {what}

main([])
"""


TURNED_INTO_EXIT_CODES = [
    failed(
        "an entry point catches, then sys.exit(1)",
        ENTRY_POINT + "run_and_report(job)",
        1,
        "ValueError: boom (exit code 1)",
        artifact="traceback.txt",
        stderr="the job failed",
        on_mlflow=True,
    ),
    failed(
        "the same, and finally: finish()",
        ENTRY_POINT
        + "def careful():\n    try:\n        job()\n    finally:\n        trackside.finish()\nrun_and_report(careful)",
        1,
        "ValueError: boom (exit code 1)",
    ),
    failed(
        "click: a usage error",
        CLICK.format(what="raise click.UsageError('no such split')"),
        2,
        "UsageError: no such split (exit code 2)",
        stderr="no such split",
    ),
    ctrl_c("click: Ctrl-C", CLICK.format(what="ready(); time.sleep(60)"), 1, stderr="Aborted!"),
    clean(
        "sys.exit(1) in an except, caught, then clean",
        START
        + "try:\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        sys.exit(1)\nexcept SystemExit:\n    pass",
        "exit code 0",
    ),
]

# As Optuna defines it: known by its names, so nothing is imported to know it.
PRUNED = "class TrialPruned(Exception):\n    __module__ = 'optuna.exceptions'\n"
STOP = "class StopTraining(Exception):\n    pass\n"

EXPECTED = [
    Case(
        "with block, TrialPruned",
        PRUNED + "with trackside.start('ends'):\n    emit(20)\n    raise TrialPruned('step 20')",
        "FINISHED",
        1,
        reason="pruned: TrialPruned: step 20",
        stderr="TrialPruned",
    ),
    Case(
        "an expected exception, uncaught",
        STOP
        + "trackside.start('ends', expected=['__main__.StopTraining'])\nemit(20)\nraise StopTraining('plateau')",
        "FINISHED",
        1,
        reason="expected: StopTraining: plateau",
        stderr="StopTraining",
    ),
    Case(
        "finally: finish(), an expected exception means KILLED",
        STOP
        + "run = trackside.start('ends', expected={StopTraining: 'KILLED'})\nemit(20)\ntry:\n    raise StopTraining('preempted')\nfinally:\n    run.finish()",
        "KILLED",
        1,
        reason="StopTraining: preempted",
    ),
    failed(
        "an expected exception, then an unexpected one",
        PRUNED
        + START
        + "t = threading.Thread(target=lambda: exec('raise TrialPruned()', globals()))\nt.start()\nt.join()\nraise ValueError('boom')",
        1,
        "ValueError: boom",
    ),
]

TOLD = [
    failed(
        "except: finish('FAILED'), raise",
        START + "try:\n    raise ValueError('boom')\nexcept ValueError:\n    run.finish('FAILED')\n    raise",
        1,
        "ValueError: boom",
        artifact="traceback.txt",
    ),
    ctrl_c(
        "Ctrl-C, and the framework says finish('FAILED')",
        START
        + "try:\n    ready()\n    time.sleep(60)\nexcept BaseException:\n    trackside.finish('FAILED')",
        0,
    ),
    failed(
        "finish('FAILED') in a framework's excepthook",
        START + "sys.excepthook = lambda *_: run.finish('FAILED')\nraise ValueError('boom')",
        1,
        "ValueError: boom",
        artifact="traceback.txt",
    ),
    failed(
        "atexit: finish('FAILED'), sys.exit(1) because of an exception",
        START
        + "import atexit\natexit.register(run.finish, 'FAILED')\ntry:\n    raise ValueError('boom')\nexcept ValueError:\n    sys.exit(1)",
        1,
        "ValueError: boom",
    ),
]

GROUPS = {
    "turned into an exit code": TURNED_INTO_EXIT_CODES,
    "expected exceptions": EXPECTED,
    "finish('FAILED')": TOLD,
}
