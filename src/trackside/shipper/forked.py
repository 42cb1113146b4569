"""Shippers that are forked from a process which has imported MLflow once: the client's side.

Importing MLflow takes a shipper two to four seconds of processor time, far more than a short run takes to be
delivered. ``trackside sync`` has one such server for all journals, and a training process has one for its
runs after the first (:mod:`trackside.shipper.fork_server`).

Invariants:

* Whatever goes wrong with the server, :meth:`ForkServer.start` starts a shipper from scratch.
* A server that dies takes no shipper with it. One that it had not started yet counts as lost, and those that
  it had started are watched from here, by process number and start time.
* Any thread may ask, and so may a signal handler that interrupts one. No caller waits for a lock longer than
  :data:`LOCK_PATIENCE`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, cast

from trackside.journal import lossless_json
from trackside.lifecycle.fork import abandon_in_children
from trackside.shipper import environment, signals
from trackside.shipper.protocol import (
    DESCRIPTORS,
    LARGEST,
    LOST,
    Answer,
    Ended,
    HeldUp,
    Leaving,
    Over,
    ShipperRequest,
    Started,
)
from trackside.shipper.spawn import (
    SECRETS,
    TRACKING_URI,
    Child,
    environment_for,
    python_command,
    spawn,
)
from trackside.system.clock import steady
from trackside.system.descriptors import OwnDescriptor
from trackside.system.parent_folder import register_fork_server, tell_parent
from trackside.system.processes import is_at_work, start_ticks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

LEAVE_TIMEOUT = 3.0
"""Seconds a server has to leave once its client does."""

LOCK_PATIENCE = 0.5
"""Seconds to wait for another thread that asks for a shipper. A signal handler may have interrupted it."""

START_PATIENCE = 60.0
"""Seconds a client that waits gives the server to start a shipper."""

MAX_DEATHS = 3
"""Servers that died. After so many, every shipper is started from scratch."""


class ForkedShipper:
    """What :class:`subprocess.Popen` is for a process started from scratch."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self._server = server
        self.number = number
        self._pid: int | None = None
        self._started: int | None = None
        self.returncode: int | None = None
        self._orphan = False
        self._held_up = False

    @property
    def is_held_up(self) -> bool:
        """Whether it waits because as many others run as may."""
        return self.poll() is None and self._held_up and self._pid is None

    @property
    def pid(self) -> int | None:
        """The process number, once it is started."""
        self._server.hear()
        return self._pid

    def poll(self) -> int | None:
        """The exit code, once the process has left: negative for a signal."""
        self._server.hear()
        if self.returncode is None and self._orphan and not self._lives():
            self.returncode = LOST
        return self.returncode

    def terminate(self) -> None:
        """Ask it to leave."""
        if self.poll() is None and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def leave(self, *, hung_up: bool) -> None:
        """Its run is over: it may wait until others have left. ``hung_up``: no channel is left."""
        if self._pid is None and self.returncode is None:
            self._server.say(Over(self.number, DESCRIPTORS if hung_up else DESCRIPTORS[:2]))

    def note_held_up(self) -> None:
        """As many others run as may."""
        self._held_up = True

    def note_start(self, pid: int) -> None:
        """The server has started it."""
        self._pid, self._started = pid, start_ticks(pid)

    def note_loss(self) -> None:
        """The server is gone."""
        self._orphan = True

    def _lives(self) -> bool:
        return self._pid is not None and is_at_work(self._pid, self._started)


class ForkServer:
    """Starts the server on first use, and ends it on leaving the ``with`` block.

    ``waits``: whether :meth:`start` waits until a shipper runs. A training does not.
    """

    def __init__(self, *, waits: bool = True) -> None:
        self._waits = waits
        self._server: Child | None = None
        self._line: OwnDescriptor | None = None
        self._interpreter = ""
        self._environment: dict[str, str] = {}
        self._asking = threading.Lock()
        self._hearing = threading.Lock()
        self._shippers: weakref.WeakValueDictionary[int, ForkedShipper] = weakref.WeakValueDictionary()
        self._last_number = self._deaths = 0
        self._broken = sys.platform == "darwin"  # where system libraries crash in a fork without an exec

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the server leave, once it has started what it was asked for."""
        server = self._server
        self._let_go()
        if server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(LEAVE_TIMEOUT)

    def start(
        self,
        command: list[str],
        *,
        log: Path,
        tracking_uri: str,
        working_directory: str,
        pass_fds: tuple[int, ...] = (),
        secrets: Mapping[str, Any] | None = None,
    ) -> subprocess.Popen[bytes] | ForkedShipper:
        """Start ``command`` (of :func:`command_for`), as :func:`spawn` would. Raises ``OSError``."""
        if not self._broken and self._asking.acquire(timeout=LOCK_PATIENCE):
            try:
                return self._ask(command, str(log), tracking_uri, working_directory, secrets or {})
            except (OSError, ValueError):
                self._count_death()
            finally:
                self._asking.release()
        return spawn(
            command,
            log=log,
            tracking_uri=tracking_uri,
            working_directory=working_directory,
            pass_fds=pass_fds,
            secrets=secrets,
        )

    def _ask(
        self, command: list[str], log: str, tracking_uri: str, folder: str, secrets: Mapping[str, Any]
    ) -> ForkedShipper:
        self.hear()
        if self._line is None or command[0] != self._interpreter:
            self._let_go()
            self._begin()
        arguments, passed = _without_descriptors(command[3:])
        changed = environment.changes(self._environment, environment_for())
        changed |= {TRACKING_URI: tracking_uri, SECRETS: lossless_json.encode(secrets).decode()}
        self._last_number += 1
        number = self._last_number
        request = ShipperRequest(number, arguments, tuple(passed), log, folder, changed)
        shipper = self._shippers[number] = ForkedShipper(self, number)
        self._send(lossless_json.encode(request), list(passed.values()))
        if self._waits:
            self._await_start(shipper)
        return shipper

    def _begin(self) -> None:
        """Start the server. All signals are blocked in it, as in a shipper, and it leaves with its client."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = python_command("trackside.shipper.fork_server", "serve")
        self._interpreter, self._environment = command[0], environment_for()
        with theirs:
            line = OwnDescriptor(ours.detach())
            os.set_blocking(line.fileno(), False)
            try:
                with signals.all_blocked():
                    self._server = Child(
                        [*command, str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,  # a shipper has a log of its own
                        start_new_session=True,
                        pass_fds=(theirs.fileno(),),
                        env=self._environment,
                        cwd=os.sep,
                    ).reap_later()
            except BaseException:
                line.close()
                raise
        self._line = line
        tell_parent(register_fork_server, self._server.pid)
        abandon_in_children(self)

    def say(self, message: Over) -> None:
        """Tell the server something that it may also never hear."""
        with contextlib.suppress(OSError):
            self._send(lossless_json.encode(message), [])

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        number = -1 if self._line is None else self._line.fileno()
        if number < 0:
            raise OSError("the fork server is gone")
        with socket.socket(fileno=os.dup(number)) as end:
            end.setblocking(False)
            socket.send_fds(end, [message], descriptors)

    def _await_start(self, shipper: ForkedShipper) -> None:
        deadline = steady() + START_PATIENCE
        while shipper.pid is None and shipper.poll() is None:
            line = self._line
            if line is None or steady() > deadline:
                raise OSError("the fork server does not answer")
            poller = select.poll()
            poller.register(line.fileno(), select.POLLIN)
            poller.poll(100)

    def hear(self) -> None:
        """Take in what the server has said."""
        if not self._hearing.acquire(timeout=LOCK_PATIENCE):
            return
        try:
            self._hear()
        finally:
            self._hearing.release()

    def _hear(self) -> None:
        line = self._line
        while line is not None:
            number = line.fileno()
            try:
                data = os.read(number, LARGEST) if number >= 0 else b""
            except BlockingIOError:
                return
            except ConnectionResetError:  # it has died, and what it said before comes next
                continue
            except OSError:
                data = b""
            if not data:
                self._count_death()
                return
            answer: Answer = lossless_json.decode(data, cast("Any", Answer))
            if isinstance(answer, Leaving):
                self._let_go()
                return
            shipper = self._shippers.get(answer.number)
            if shipper is not None and isinstance(answer, Started):
                shipper.note_start(answer.pid)
            elif shipper is not None and isinstance(answer, Ended):
                shipper.returncode = answer.code
            elif shipper is not None and isinstance(answer, HeldUp):
                shipper.note_held_up()

    def _count_death(self) -> None:
        self._deaths += 1
        self._let_go()

    def _let_go(self) -> None:
        """The server is gone, or to leave: what it has started is watched from here."""
        line, self._line, self._server = self._line, None, None
        if line is not None:
            line.close()
        for shipper in list(self._shippers.values()):
            shipper.note_loss()
        self._shippers.clear()
        self._broken = self._broken or self._deaths >= MAX_DEATHS

    def abandon(self) -> None:
        """In a forked child: the server is the parent's."""
        self._asking, self._hearing = threading.Lock(), threading.Lock()
        self._let_go()


def _without_descriptors(arguments: list[str]) -> tuple[list[str], dict[str, int]]:
    """The arguments without those that name descriptors, and these."""
    rest, passed = [], {}
    words = iter(arguments)
    for word in words:
        if word in DESCRIPTORS:
            passed[word] = int(next(words))
        else:
            rest.append(word)
    return rest, passed
