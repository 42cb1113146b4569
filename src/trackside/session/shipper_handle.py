"""The trainer's handle on its shipper: start it, watch it, and replace it when it dies.

Invariants:

* Only the shipper's own word proves delivery: :data:`~trackside.shipper.protocol.DONE`, the phase ``done`` in
  its state, or ``delivered.json`` in the journal's folder, which stay there until this process has read them.
  An exit code proves nothing, because other code may have collected it.
* A shipper that ends before it is ready counts as one that cannot be started. After some of them in a row,
  one warning names the cause, and there is a rest (:mod:`trackside.session.replacements`).
* A journal that was removed gets no new shipper.
* One thread at a time looks after the shipper. The others, and a signal handler that interrupts it, leave the
  work to it and wait for the outcome. Eight threads in ``flush()`` start one shipper in place of a dead one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.journal.cursor import load_cursor
from trackside.journal.files import read_json
from trackside.journal.meta import State
from trackside.session.conversation import Conversation
from trackside.session.further_shippers import further_shippers
from trackside.session.replacements import MAX_RESTARTS, MAX_TRIES, REST, Replacements
from trackside.session.shipper_log import ShipperLog, describe_exit
from trackside.settings import PYTHON_VARIABLE
from trackside.shipper.forked import ForkedShipper
from trackside.shipper.protocol import (
    DONE,
    EXIT_DONE,
    EXIT_LOCKED,
    LEFT,
    LOCKED,
    NUDGE,
    PROVE,
    READY,
    SEEN,
    WakeupPipe,
)
from trackside.shipper.spawn import EXIT_NOT_PYTHON, command_for, spawn
from trackside.system.clock import steady
from trackside.system.once import Once
from trackside.system.parent_folder import register_journal, tell_parent
from trackside.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from trackside.journal.directory import JournalDirectory
    from trackside.lifecycle.exit_hold import ExitHold

logger = logging.getLogger("trackside.session")

POLL = 0.01
YOUNG = 60.0
"""Seconds within which a shipper that dies has died young."""

SILENT = 180.0
"""Seconds after which a shipper that is not ready is ended. A cold network disk may take minutes to read."""

LOCKED_PAUSE = 5.0
"""Seconds until a new shipper is started after one that found another at work on the journal."""

PASS_ON_EVERY = 1.0
"""Seconds between two looks at the environment while the trainer waits for the shipper."""

PROVE_EVERY = 1.0
"""Seconds between two requests for a proof, while the trainer waits for one."""


class ShipperProcess:
    """The trainer's handle on its shipper. All but :meth:`start` may be called by any thread."""

    def __init__(
        self,
        journal: JournalDirectory,
        *,
        tracking_uri: str,
        working_directory: str,
        secrets: Mapping[str, Any] | None = None,
        hold: ExitHold | None = None,
        options: tuple[object, ...] = (),
    ) -> None:
        self._journal = journal
        self._options = options
        self._hold = hold
        self._conversation = Conversation(tracking_uri)
        self._secrets = secrets
        self._working_directory = working_directory
        self._process: subprocess.Popen[bytes] | ForkedShipper | None = None
        self._start: Callable[..., subprocess.Popen[bytes] | ForkedShipper] | None = None
        self._left = self._hung_up = False
        self._watching = threading.Lock()
        self._logged = Once()
        self._replacements = Replacements()
        self._started_at = 0.0
        self._delivered_before = 0
        self._log = ShipperLog(journal.log)
        self._proof_asked, self._next_proof = 0, 0.0
        self._done = False
        self.gave_up: str | None = None
        """Why no shipper is started for a while, or ever. None while they are."""
        self.restarts = 0
        self.pipe = WakeupPipe()

    def start(self) -> bool:
        """Start the shipper. If no process can be started, warn once and return False: the journal waits."""
        tell_parent(register_journal, str(self._journal.path))
        self._started_at, self._delivered_before = steady(), self._delivered()
        self._log.mark()
        end = -1 if self._hold is None else self._hold.shipper_end
        hold = () if end < 0 else (end,)
        try:
            self.pipe.reopen_if_lost()
            channel = self._conversation.begin()
            if self._start is None:
                self._start = spawn if further_shippers.is_first() else further_shippers.start
            self._process = self._start(
                command_for(
                    self._journal,
                    *("--pipe", self.pipe.read_end, "--channel", channel.shipper_end),
                    *(("--hold", *hold) if hold else ()),
                    *self._options,
                ),
                log=self._journal.log,
                tracking_uri=self._conversation.tracking_uri,
                working_directory=self._working_directory,
                pass_fds=(self.pipe.read_end, channel.shipper_end, *hold),
                secrets=self._secrets,
            )
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            if self._process is None or self._replacements.tries >= MAX_TRIES - 1:
                self._give_up(f"the shipper could not be started ({error})")
            return False
        if self._left:
            self.leave(hang_up=self._hung_up)
        return True

    @property
    def pid(self) -> int | None:
        """Process number of the shipper."""
        return None if self._process is None else self._process.pid

    @property
    def is_from_scratch(self) -> bool:
        """Whether it was started from scratch, and not forked."""
        return isinstance(self._process, subprocess.Popen)

    @property
    def is_held_up(self) -> bool:
        """Whether it waits until the shipper of another run has left, because too many are at work."""
        return isinstance(self._process, ForkedShipper) and self._process.is_held_up

    @property
    def is_left(self) -> bool:
        """Whether the run is over, and its shipper goes on without us."""
        return self._left

    @property
    def is_ready(self) -> bool:
        """Whether the shipper has said that it is at work."""
        return self._conversation.has_said(READY)

    def is_running(self) -> bool:
        """Whether the process lives. A dead one is reaped."""
        return self._process is not None and self._process.poll() is None

    def is_done(self) -> bool:
        """Whether the shipper has said that everything is delivered."""
        if not self._done:
            self._done = (
                self._conversation.has_said(DONE)
                or self._is_in({"done"})
                or self._journal.delivered.exists()
                or self._left_with(EXIT_DONE)
            )
        return self._done

    def _left_with(self, code: int) -> bool:
        """Whether it has left with ``code``, as the fork server says: no program can hide that from it."""
        return isinstance(self._process, ForkedShipper) and self._process.poll() == code

    def is_removed(self) -> bool:
        """Whether the journal was removed before it was delivered."""
        if self._process is None or self._journal.meta.exists():
            return False
        return not self.is_done()

    def ensure_running(self) -> None:
        """Replace a shipper that died before its work was done, unless another thread does so already."""
        if not self._watching.acquire(blocking=False):
            return
        try:
            self._look_after()
        finally:
            self._watching.release()

    def _look_after(self) -> None:
        if self._process is None or self.is_running():
            self._end_if_silent()
            return
        if self.is_done() or self._is_refused():
            return
        if self.gave_up is not None:
            self._end_rest()
            return
        if not self._journal.meta.exists():
            if not self.is_done():  # another shipper of ours may have delivered it just now
                self._give_up(f"the journal {self._journal.path} was removed, and its shipper has ended")
        elif self._conversation.has_said(LOCKED) or self._left_with(EXIT_LOCKED):
            if steady() - self._started_at > LOCKED_PAUSE:
                self.start()
        elif not self._conversation.has_said(READY):
            self._try_again()
        else:
            self._replace()

    def _end_rest(self) -> None:
        """Start one more, if what killed the others may be over."""
        if self._journal.meta.exists() and self._replacements.end_rest():
            self.gave_up = None
            self.restarts += 1
            self.start()

    def _is_refused(self) -> bool:
        return self._is_in({"refused", "artifacts"})

    def _is_in(self, phases: Collection[str]) -> bool:
        state = self.state()
        return state is not None and state.phase in phases

    def _end_if_silent(self) -> None:
        """End a process that lives but never said that it is a shipper."""
        overdue = steady() - self._started_at > SILENT
        pid = self.pid  # None while it waits for its turn
        if pid is None or not overdue or self.is_ready or self._hung_up or not self.is_running():
            return
        with contextlib.suppress(OSError):  # it leads its own session, and so its own process group
            os.killpg(pid, signal.SIGKILL)

    def _try_again(self) -> None:
        """Replace a shipper that ended before it was ready, a few times."""
        code = self._exit_code()
        if self._replacements.after_silence() and code != EXIT_NOT_PYTHON:
            self.restarts += 1
            self.start()
            return
        times = "once" if self._replacements.tries == 1 else f"{self._replacements.tries} times"
        cause = self._log.last_words() or describe_exit(code)
        advice = f". Set {PYTHON_VARIABLE} to a Python interpreter" if code == EXIT_NOT_PYTHON else ""
        self._give_up(f"the shipper was started {times} and ended before it was ready ({cause}){advice}")

    def _replace(self) -> None:
        if not self._replacements.after_death(of_use=self._was_of_use()):
            cause = self._log.last_words() or describe_exit(self._exit_code())
            self._give_up(f"{MAX_RESTARTS} shippers in a row died and delivered nothing ({cause})")
            return
        self.restarts += 1
        logger.warning("the shipper (process %s) died. Starting another", self.pid)
        self.start()

    def _give_up(self, reason: str) -> None:
        """Say once why delivery has stopped, and what to do. After a rest one more shipper is tried."""
        if self.gave_up is not None:
            return
        self.gave_up = reason
        self._replacements.rest()
        if self._process is not None and not self._journal.meta.exists():
            logger.warning("%s. What was not delivered is lost", reason)
        elif self._logged.is_first("gave up"):
            logger.warning(
                "%s. Metrics are kept in %s. While this program runs, another is tried every %g minutes. "
                "To deliver them without it, run `trackside sync` (log: %s)",
                reason,
                self._journal.path,
                REST / 60,
                self._journal.log,
            )

    def _exit_code(self) -> int | None:
        return None if self._process is None else self._process.returncode

    def _was_of_use(self) -> bool:
        return steady() - self._started_at > YOUNG or self._delivered() > self._delivered_before

    def _delivered(self) -> int:
        """The number of the last record that a destination has."""
        return max((load_cursor(path).position.seq for path in self._journal.cursors()), default=0)

    def state(self) -> State | None:
        """The shipper's last state. None before its first, and once the journal is gone."""
        return read_json(self._journal.state, State)

    def wait_for(self, condition: Callable[[State], bool], timeout: float) -> State | None:
        """The first state that meets ``condition``, or None after ``timeout`` seconds."""
        deadline = steady() + timeout
        next_look = 0.0
        while True:
            running = self.is_running()  # before reading: the last state of a dead shipper counts
            state = self.state()
            if state is not None and condition(state):
                return state
            if steady() >= deadline:
                return None
            if not running:
                self.ensure_running()
                if self.is_over():
                    return None
            if steady() >= next_look:
                next_look = steady() + PASS_ON_EVERY
                self.pass_on_environment()
            time.sleep(POLL)

    def is_over(self) -> bool:
        """Whether no shipper will work on the journal again."""
        return self._process is None or self.gave_up is not None or self.is_done() or self._is_refused()

    def pass_on_environment(self) -> None:
        """Tell the shipper which variables have changed: a renewed token, another proxy.

        A change that can't be sent now, or while another thread looks after it, is sent at the next call.
        """
        if not self._watching.acquire(blocking=False):
            return
        try:
            if self.gave_up is None:
                self._conversation.pass_on_environment()
        finally:
            self._watching.release()

    def nudge(self) -> None:
        """Ask the shipper to look at the journal now."""
        self.pipe.send(NUDGE)

    def ask_for_proof(self, seq: int) -> None:
        """Ask the shipper to check that the destinations have what they acknowledged, up to record ``seq``.

        It is asked once for each record, and again every second.
        """
        now = steady()
        if seq > self._proof_asked or now >= self._next_proof:
            self._proof_asked, self._next_proof = max(seq, self._proof_asked), now + PROVE_EVERY
            self.pipe.send(PROVE)

    def dismiss(self) -> None:
        """Tell the shipper that its final state was read, and that nothing of the journal is needed."""
        self.pipe.send(SEEN)

    def hang_up(self) -> None:
        """Close the channel: the run has ended."""
        self._conversation.hang_up()

    def log_notices(self, state: State | None) -> None:
        """Log each notice that the shipper has for the user, once."""
        for number, text in enumerate([] if state is None else state.notices):
            if self._logged.is_first(number):
                logger.warning("%s", printable(text))

    def warn_if_removed(self) -> bool:
        """Whether the journal was removed while the training runs. Says so once."""
        if not self.is_removed():
            return False
        if self.gave_up is None and self._logged.is_first("removed"):
            logger.warning(
                "the journal %s was removed while the training runs. Its shipper (process %s) still delivers "
                "what it can reach. What it has not delivered when it ends is lost",
                self._journal.path,
                self.pid,
            )
        return True

    def leave(self, *, hang_up: bool) -> None:
        """The run is over, and the shipper goes on without us. ``hang_up``: do not wait for its last word."""
        self._left, self._hung_up = True, hang_up and isinstance(self._process, ForkedShipper)
        self.pipe.send(LEFT)
        self.let_go_of_exit()
        if self._hung_up:
            self.hang_up()
        if isinstance(self._process, ForkedShipper):
            self._process.leave(hung_up=self._hung_up)

    def abandon(self) -> None:
        """In a forked child: forget the shipper, which is the parent's."""
        self._process = None
        self._watching = threading.Lock()  # a thread of the parent may hold the old one
        self.pipe.close()
        self.let_go_of_exit()
        self._conversation.abandon()

    def hold_exit(self, timeout: float) -> bool:
        """Make the process's exit wait until the shipper has acted on the exit code. False if it need not."""
        hold, self._hold = self._hold, None
        return hold is not None and self.is_running() and hold.arm(timeout)

    def let_go_of_exit(self) -> None:
        """The run has ended before the process: the exit need not wait for the shipper."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None
