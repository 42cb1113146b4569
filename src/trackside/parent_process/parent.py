"""The order of things: start the command, stand by, wait for its shippers, end as it ended."""

from __future__ import annotations

import os
import shlex
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from trackside.parent_process.children import Children, adopt_orphans
from trackside.parent_process.command import CommandError, start_command
from trackside.parent_process.delivery import Deliveries
from trackside.parent_process.inbox import Inbox, block_all
from trackside.parent_process.job_control import STOPS, JobControl
from trackside.parent_process.leaving import leave_as
from trackside.parent_process.messages import is_quiet, printable, say
from trackside.parent_process.unrecorded import tell_of_unrecorded
from trackside.parent_process.witness import Witness, close_all_but
from trackside.system.parent_folder import (
    VARIABLE,
    make_parent_folder,
    note_use,
    remove_parent_folder,
    tell_parent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK_EVERY = 0.05
"""Seconds between two looks at what the shippers have left."""

TELL_AFTER = 2.0
"""Seconds of waiting after which the user is told what this process waits for."""

IMPATIENT = 10.0
"""Seconds before the command's end within which a second Ctrl-C means: do not wait."""

ONE_SIGNAL = 0.1
"""Seconds within which two requests to stop are one. ``timeout`` signals this process, then the group."""

ECHO = 1.0
"""Seconds after the command's end within which a signal may still be the one that ended it."""

_LEAVE = {int(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}


def run(command: Sequence[str], *, grace: float, expects_runs: bool) -> NoReturn:
    """Run ``command``, wait up to ``grace`` seconds for its shippers, and end as it ended.

    ``expects_runs``: whether the user wants to know if the command logs nothing.
    """
    tell_parent(note_use)  # a ``trackside run`` around this one: this one tells for itself
    folder = _make_folder()
    mask = block_all()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the kernel would keep no wait status for us
    adopt_orphans()
    inbox, witness = Inbox(), Witness()
    try:
        pid = start_command(command, mask=mask)
    except CommandError as error:
        say(str(error))
        if folder is not None:
            remove_parent_folder(folder)
        os._exit(error.code)
    parent = Parent(Children(pid, folder), inbox, witness)
    parent.let_go_of_descriptors()
    inbox.open()
    parent.stand_by()
    status = parent.children.status
    assert status is not None  # noqa: S101 - what stand_by() waits for
    if folder is not None:
        parent.wait_for_delivery(Deliveries(folder), grace)
        tell_of_unrecorded(folder, status, expects_runs=expects_runs)
        remove_parent_folder(folder)
    leave_as(status)


def _make_folder() -> str | None:
    """The folder for words between this process and those below, named in the environment."""
    outer = os.environ.get(VARIABLE)
    places = [place for name in ("TMPDIR", "TRACKSIDE_DIR") if (place := os.environ.get(name))]
    folder = make_parent_folder([*([outer] if outer else []), *places, "/tmp", "."])  # noqa: S108 - mode 0700
    if folder is None:
        os.environ.pop(VARIABLE, None)
        say("no folder can be made in TMPDIR or /tmp, so your runs' delivery is not waited for")
    else:
        os.environ[VARIABLE] = folder
    return folder


class Parent:
    """Stands by the command."""

    def __init__(self, children: Children, inbox: Inbox, witness: Witness) -> None:
        self.children = children
        self._inbox = inbox
        self._witness = witness
        self._job = JobControl()
        self._interrupts: list[float] = []
        self._requests: dict[int, float] = {}
        self._ended = 0.0

    def let_go_of_descriptors(self) -> None:
        """Keep no pipe of the command's open: its reader or writer waits for the end of it.

        Messages still go to stderr.
        """
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        close_all_but(2, 0, 1, *self._inbox.descriptors, *self._witness.descriptors)

    def stand_by(self) -> None:
        """Pass on signals, wait for dead processes, until the command has ended."""
        self.children.collect()
        while self.children.status is None:
            for number in self._inbox.wait(None, self._witness.fileno()):
                if number != signal.SIGCHLD:
                    self._pass_on(number)
            self._witness.note()
            self.children.collect()
            if self._job.follow(self.children.stopped_by):
                self.children.collect()
        self._ended = time.monotonic()
        self._witness.dismiss()

    def wait_for_delivery(self, deliveries: Deliveries, grace: float) -> None:
        """Wait for the shippers, and tell what they have left."""
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)
        told = False
        patient = not self._is_impatient()
        while patient and (pending := deliveries.pending()):
            waited = time.monotonic() - self._ended
            if waited >= grace:
                break
            if waited >= TELL_AFTER and not told:
                told = True
                if not is_quiet():
                    runs = _runs(len(pending))
                    say(f"waiting up to {grace:g} s for {runs} to be delivered. Ctrl-C ends the wait")
            patient = not any(map(self._ends_wait, self._inbox.wait(LOOK_EVERY)))
            self.children.collect()
        _tell_of_rest(deliveries)

    def _pass_on(self, number: int) -> None:
        if self._is_repeated(number):
            return
        if number == signal.SIGINT:
            self._interrupts.append(time.monotonic())
            del self._interrupts[:-2]
        self._job.take(number)
        # A command that has made a group of its own (setsid, an interactive shell) is not in ours any more.
        if not self.children.is_in_group() or not self._witness.has_got(number):
            self.children.signal_command(number)
        self._requests[number] = time.monotonic()

    def _is_repeated(self, number: int) -> bool:
        """Whether the signal is a second copy of a request to stop."""
        since = time.monotonic() - self._requests.get(number, -ONE_SIGNAL)
        return number in {signal.SIGINT, *_LEAVE} and since < ONE_SIGNAL

    def _is_impatient(self) -> bool:
        """Whether the user has pressed Ctrl-C twice while the command ended."""
        return len(self._interrupts) > 1 and self._ended - self._interrupts[0] < IMPATIENT

    def _ends_wait(self, number: int) -> bool:
        """Whether a signal asks this process to leave at once."""
        late = time.monotonic() - self._ended > ECHO
        return number == signal.SIGINT or (late and number in _LEAVE)


def _tell_of_rest(deliveries: Deliveries) -> None:
    left = deliveries.left()
    if not left:
        return
    shipping = any(deliveries.is_shipping(one) for one in left)
    then = ""
    if shipping and os.getpid() == 1:
        then = " Its shipper ends with this container."
    elif shipping:
        then = " Its shipper continues in the background."
    folder = min(os.path.dirname(one.journal) for one in left)
    option = f"--dir {shlex.quote(printable(folder))}"
    say(
        f"{_runs(len(left))} not delivered yet: {', '.join(printable(one.journal) for one in left[:3])}"
        f"{' and more' if len(left) > 3 else ''}.{then} To see why, run `trackside status {option}`. "  # noqa: PLR2004
        f"To deliver, run `trackside sync {option}`"
    )


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
