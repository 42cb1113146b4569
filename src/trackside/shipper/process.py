"""Starting the shipper from the training process, watching it, and replacing it when it dies.

It runs in a session of its own, so Ctrl-C and group signals do not reach it, and writes to
``shipper.log``, never to the trainer's output: an inherited stdout would keep ``| tee`` open.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal.cursor import load_cursor
from trackside.journal.directory import FILE_MODE, JournalDirectory, read_json
from trackside.journal.meta import State
from trackside.shipper import signals
from trackside.shipper.wakeup import NUDGE, SEEN, WakeupPipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.exit_hold import ExitHold

logger = logging.getLogger(__name__)

LINGER = 3600.0
"""Seconds a shipper goes on trying after the trainer's death; then ``trackside sync`` has to finish."""

POLL = 0.01
MAX_RESTARTS = 20
"""Shippers in a row that died young and had delivered nothing: whatever kills them kills the next, too."""

YOUNG = 60.0
"""Seconds."""

TRACKING_URI = "TRACKSIDE_SHIPPER_TRACKING_URI"
"""The address with its credentials, which must not be seen in ``ps`` or on disk."""

SECRETS = "TRACKSIDE_SHIPPER_OPTIONS"
"""JSON: the options, by destination, of those whose options hold a secret, for the same reason."""


class ShipperProcess:
    """The trainer's handle on its shipper. Not thread-safe but for :meth:`nudge`."""

    def __init__(
        self,
        journal: JournalDirectory,
        *,
        tracking_uri: str,
        working_directory: str,
        secrets: Mapping[str, Any] | None = None,
        hold: ExitHold | None = None,
    ) -> None:
        self._journal = journal
        self._hold = hold
        self._tracking_uri = tracking_uri
        self._secrets = secrets
        self._working_directory = working_directory
        self._process: subprocess.Popen[bytes] | None = None
        self._notices_shown = 0
        self._in_vain = 0
        self._started_at = 0.0
        self._delivered_before = 0
        self.restarts = 0
        self.pipe = WakeupPipe()

    def start(self) -> bool:
        """Start it; False (and one warning) when no process can be started, and the journal has to wait."""
        self._started_at, self._delivered_before = time.monotonic(), self._delivered()
        hold = () if self._hold is None else (self._hold.shipper_end,)
        try:
            self._process = spawn(
                command_for(
                    self._journal, "--pipe", self.pipe.read_end, *(("--hold", *hold) if hold else ())
                ),
                log=self._journal.log,
                tracking_uri=self._tracking_uri,
                working_directory=self._working_directory,
                pass_fds=(self.pipe.read_end, *hold),
                secrets=self._secrets,
            )
        except (OSError, subprocess.SubprocessError) as error:
            logger.warning(
                "the shipper could not be started (%s): metrics are kept in %s; "
                "deliver them with `trackside sync`",
                error,
                self._journal.path,
            )
            return False
        return True

    @property
    def pid(self) -> int | None:
        """Process number of the shipper."""
        return None if self._process is None else self._process.pid

    def is_running(self) -> bool:
        """Whether it lives; a dead one is reaped."""
        return self._process is not None and self._process.poll() is None

    def is_done(self) -> bool:
        """Whether it has left because everything is delivered."""
        return self._process is not None and self._process.poll() == 0

    def ensure_running(self) -> None:
        """Replace a shipper that died before its work was done."""
        if self.is_running() or self._process is None or self.is_done():
            return
        state = self.state()
        if state is not None and state.phase in {"refused", "done", "artifacts"}:
            return
        if self._was_of_use():  # a training of weeks outlives more than a few, each for a reason of its own
            self._in_vain = 0
        if self._in_vain >= MAX_RESTARTS:
            return
        self._in_vain += 1
        self.restarts += 1
        logger.warning("the shipper (process %s) died; starting another", self._process.pid)
        self.start()

    def _was_of_use(self) -> bool:
        return time.monotonic() - self._started_at > YOUNG or self._delivered() > self._delivered_before

    def _delivered(self) -> int:
        """The number of the last record that any destination has."""
        return max((load_cursor(path).position.seq for path in self._journal.cursors()), default=0)

    def state(self) -> State | None:
        """What the shipper last said of itself; None before its first word or once the journal is gone."""
        return read_json(self._journal.state, State)

    def wait_for(self, condition: Callable[[State], bool], timeout: float) -> State | None:
        """The first state that meets ``condition``; None when there is none within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            running = self.is_running()  # before reading: the last word of a dead one counts
            state = self.state()
            if state is not None and condition(state):
                return state
            if time.monotonic() >= deadline:
                return None
            if not running:
                self.ensure_running()
                if not self.is_running():
                    return None
            time.sleep(POLL)

    def nudge(self) -> None:
        """Have it look at the journal now."""
        self.pipe.send(NUDGE)

    def release(self) -> None:
        """Tell it that its final state was read."""
        self.pipe.send(SEEN)

    def log_notices(self, state: State | None) -> None:
        """Pass what the shipper wants the user to know on to the log, each once."""
        for text in [] if state is None else state.notices[self._notices_shown :]:
            self._notices_shown += 1
            logger.warning("%s", text)

    def abandon(self) -> None:
        """Forget the shipper, in a forked child: it is the parent's."""
        self._process = None
        self.pipe.close()
        self.let_go_of_exit()

    def hold_exit(self, timeout: float) -> bool:
        """Have the process's exit wait until the shipper has acted on the exit code; False if it need not."""
        hold, self._hold = self._hold, None
        return hold is not None and self.is_running() and hold.arm(timeout)

    def let_go_of_exit(self) -> None:
        """The run has ended before the process does: its exit waits for nothing."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None


class Child(subprocess.Popen[bytes]):
    """A process that may outlive the object: it is reaped when the next one is started, without a warning."""

    def __del__(self) -> None:
        super().__del__(_warn=_say_nothing)  # type: ignore[call-arg]  # typeshed leaves it out


def _say_nothing(*_: Any, **__: Any) -> None:
    """Stand in for ``warnings.warn``."""


def command_for(journal: JournalDirectory, *options: object) -> list[str]:
    """The command that ships ``journal``."""
    return [sys.executable, "-m", "trackside.shipper", str(journal.path), *map(str, options)]


def spawn(
    command: list[str],
    *,
    log: Path,
    tracking_uri: str,
    working_directory: str,
    pass_fds: tuple[int, ...] = (),
    secrets: Mapping[str, Any] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, with its output in ``log``. Raises ``OSError``.

    All signals are blocked in it until it says which are for it (:mod:`trackside.shipper.signals`).
    """
    environment = environment_for()
    environment[TRACKING_URI] = tracking_uri
    environment[SECRETS] = msgspec.json.encode(secrets or {}).decode()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    options: dict[str, Any] = {"cwd": working_directory} if os.path.isdir(working_directory) else {}
    try:
        with signals.all_blocked():
            return Child(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
                env=environment,
                **options,
            )
    finally:
        os.close(output)


def environment_for() -> dict[str, str]:
    """This process's environment, made fit for a child that runs a part of trackside."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = _python_path(environment.get("PYTHONPATH"))
    environment["PYTHONSAFEPATH"] = "1"  # a user's own logging.py or mlflow.py must not be imported
    return environment


def _python_path(inherited: str | None) -> str:
    """``PYTHONPATH`` by which the child finds the very trackside that is running, wherever it lies."""
    here = Path(__file__).absolute().parents[2]
    # site-packages is found anyway, and must not come before the standard library.
    found_anyway = here.name in {"site-packages", "dist-packages"}
    return os.pathsep.join([*([inherited] if inherited else []), *([] if found_anyway else [str(here)])])
