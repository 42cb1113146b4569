"""Ends of programs that know nothing of trackside. Arguments: the kind of the end, an experiment."""

import contextlib
import os
import signal
import sys
import time

import mlflow

KIND = sys.argv[1]
mlflow.set_experiment(sys.argv[2])


def log() -> None:
    """Log some points."""
    for step in range(20):
        mlflow.log_metrics({"loss": 1 / (step + 1), "acc": step}, step=step)


def open_run() -> None:
    """A run that the program does not end."""
    mlflow.start_run(run_name=KIND)
    log()


def leave_block(error: BaseException) -> None:
    """A run whose block is left by ``error``."""
    with mlflow.start_run(run_name=KIND):
        log()
        raise error


def handled() -> None:
    """An exception that leaves the block of the run, and is handled outside."""
    with contextlib.suppress(ValueError):
        leave_block(ValueError("boom"))


def forked() -> None:
    """A child that logs into the parent's run, and calls it failed."""
    run = mlflow.start_run(run_name=KIND)
    log()
    child = os.fork()
    if child == 0:
        client = mlflow.MlflowClient()
        client.log_metric(run.info.run_id, "child", 1.0)
        client.set_terminated(run.info.run_id, "FAILED")
        sys.exit(0)
    os.waitpid(child, 0)
    mlflow.log_metric("after", 1.0)


def stopped(number: int) -> None:
    """A signal to the process itself."""
    open_run()
    os.kill(os.getpid(), number)
    time.sleep(60)


def end_as(status: str) -> None:
    """The program says how the run ended."""
    open_run()
    mlflow.end_run(status)


def called_exit(code: int) -> None:
    """The program leaves by sys.exit()."""
    open_run()
    sys.exit(code)


def raised() -> None:
    """An exception ends the program."""
    open_run()
    raise ValueError("boom")


def vanished() -> None:
    """The process leaves without Python's exit."""
    open_run()
    os._exit(0)


KINDS = {
    "clean": open_run,
    "exception": raised,
    "exception in the block": lambda: leave_block(ValueError("boom")),
    "ctrl-c in the block": lambda: leave_block(KeyboardInterrupt()),
    "exit 0 in the block": lambda: leave_block(SystemExit(0)),
    "exit 3 in the block": lambda: leave_block(SystemExit(3)),
    "handled": handled,
    "exit 3": lambda: called_exit(3),
    "said failed": lambda: end_as("FAILED"),
    "said killed": lambda: end_as("KILLED"),
    "sigterm": lambda: stopped(signal.SIGTERM),
    "sigkill": lambda: stopped(signal.SIGKILL),
    "sigsegv": lambda: stopped(signal.SIGSEGV),
    "_exit": vanished,
    "forked": forked,
}
KINDS[KIND]()
