"""The process that imports MLflow once, and forks a shipper for each journal that it is asked to ship.

Invariants. The server only imports: it opens no store, no connection and no journal, and starts no thread, so
that a fork is what a fresh process would be after its imports. Each shipper has a process, a session, a
working directory, an environment and a log of its own, and one that crashes takes nothing with it.

* At most :data:`AT_ONCE` shippers run at once. The others wait for their turn, and their points in the
  journals. A run that is not over after :data:`PATIENCE` seconds of waiting gets a shipper all the same, up
  to :data:`~trackside.shipper.protocol.MOST` of them, because it may continue for days. The client hears
  of the others. Of the runs that are over, the next one gets a shipper if none has come or gone for
  :data:`STUCK` seconds: those at work may wait for a store that is away, and this run may have another store.
* The server starts all that it was asked for, even if its client has died since. Then it leaves. It also
  leaves after :data:`IDLE` seconds without a request and a shipper.

It talks with its client (:mod:`trackside.shipper.forked`) over a socket of packets, one message in each.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import select
import socket
import sys
import threading
import time
import warnings
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from trackside.journal import lossless_json
from trackside.journal.opening import open_own
from trackside.journal.trust import vouch_for
from trackside.shipper import environment
from trackside.shipper.grants import TRUST
from trackside.shipper.protocol import (
    DESCRIPTORS,
    LARGEST,
    LOST,
    MOST,
    Ended,
    HeldUp,
    Leaving,
    Over,
    Question,
    ShipperRequest,
    Started,
)
from trackside.shipper.spawn import IMPORT_PATH, TRACKING_URI, working_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.shipper.protocol import Answer

AT_ONCE = 8
"""Shippers of short runs that work at the same time."""

PATIENCE = 2.0
"""Seconds that a run which is not over waits for its turn."""

STUCK = 5.0
"""Seconds without a change, after which the shippers at work do not count."""

IDLE = 60.0

TICK_MS = 50


@dataclass
class Waiting:
    """A shipper that is to be started. ``descriptors``: by the options that name them."""

    request: ShipperRequest
    descriptors: dict[str, int]
    since: float = field(default_factory=time.monotonic)
    over: bool = False
    held_up: bool = False

    def close(self, options: tuple[str, ...] = DESCRIPTORS) -> None:
        """Close these descriptors."""
        for option in options:
            number = self.descriptors.pop(option, None)
            if number is not None:
                os.close(number)


class Server:
    """Everything but the fork."""

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self.line = line
        self.waiting: deque[Waiting] = deque()
        self.running: dict[int, int] = {}
        self._answers: deque[bytes] = deque()
        self._client_lives = True
        self._last_busy = self._last_change = time.monotonic()
        self._poller = select.poll()
        self._poller.register(line.fileno(), select.POLLIN)

    def is_needed(self) -> bool:
        """Whether there is something to do, now or soon."""
        now = time.monotonic()
        if self.waiting or (self.running and self._client_lives):
            self._last_busy = now
        return bool(self.waiting) or (self._client_lives and now - self._last_busy < IDLE)

    def turn(self) -> None:
        """Hear what the client says, and tell it who has left."""
        busy = bool(self.waiting or self.running or self._answers)
        if not self._client_lives:
            time.sleep(TICK_MS / 1000)
        elif self._poller.poll(TICK_MS if busy else 1000):
            while self._client_lives and self._hear():
                pass
        self._reap()
        self._say_what_waits()

    def _hear(self) -> bool:
        """Whether there was a message."""
        try:
            data, numbers, flags, _ = socket.recv_fds(self.line, LARGEST, len(DESCRIPTORS))
        except BlockingIOError:
            return False
        except OSError:
            data, numbers, flags = b"", [], 0
        if not data:
            self._client_lives = False
            self._poller.unregister(self.line.fileno())
            return False
        question: Question = lossless_json.decode(data, cast("Any", Question))
        if isinstance(question, Over):
            self._note_end(question)
        elif flags & socket.MSG_CTRUNC or len(numbers) != len(question.descriptors):  # no descriptor was free
            for number in numbers:
                os.close(number)
            self.say(Ended(question.number, LOST))
        else:
            passed = dict(zip(question.descriptors, numbers, strict=True))
            self.waiting.append(Waiting(question, passed))
        return True

    def _note_end(self, over: Over) -> None:
        for waiting in self.waiting:
            if waiting.request.number == over.number:
                waiting.over = True
                waiting.close(over.closed)

    def due(self) -> Iterator[Waiting]:
        """Those whose turn it is."""
        now = time.monotonic()
        if self.waiting and len(self.running) < MOST and now - self._last_change >= STUCK:
            yield self.waiting.popleft()
        while self.waiting and len(self.running) < AT_ONCE:
            yield self.waiting.popleft()
        for waiting in [w for w in self.waiting if not w.over and now - w.since >= PATIENCE]:
            if len(self.running) < MOST:
                self.waiting.remove(waiting)
                yield waiting
            elif not waiting.held_up:
                waiting.held_up = True
                self.say(HeldUp(waiting.request.number))

    def note_start(self, waiting: Waiting, pid: int) -> None:
        """A shipper has started: its descriptors are its own."""
        waiting.close()
        self._last_change = time.monotonic()
        self.running[pid] = waiting.request.number
        self.say(Started(waiting.request.number, pid))

    def _reap(self) -> None:
        while self.running:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._last_change = time.monotonic()
            number = self.running.pop(pid, None)
            if number is not None:
                self.say(Ended(number, os.waitstatus_to_exitcode(status)))

    def say(self, answer: Answer) -> None:
        """Tell the client, now or later."""
        self._answers.append(lossless_json.encode(answer))
        self._say_what_waits()

    def _say_what_waits(self) -> None:
        while self._answers:
            if self._client_lives:
                try:
                    self.line.send(self._answers[0])
                except BlockingIOError:
                    return
                except OSError:
                    pass  # it is gone, as the next turn will see
            self._answers.popleft()

    def close(self) -> None:
        """In a fork: nothing of the server is left open."""
        self.line.close()
        for waiting in self.waiting:
            waiting.close()


def serve() -> int:
    """Fork a shipper per request. Return the exit code of the server."""
    _allow_many_descriptors()
    server = Server(socket.socket(fileno=int(sys.argv[-1])))
    server.line.set_inheritable(False)
    while server.is_needed():
        server.turn()
        for waiting in server.due():
            _preload(str(waiting.request.environment[TRACKING_URI]))
            pid = _fork()
            if pid == 0:
                server.close()
                _leave(_ship(waiting))
            server.note_start(waiting, pid)
    server.say(Leaving())
    return 0


def _fork() -> int:
    gc.freeze()  # a collection in the fork would copy every page that the import has filled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Python 3.12: NumPy's idle threads, which mind themselves
        return os.fork()


def _ship(waiting: Waiting) -> int:
    from trackside.shipper.__main__ import main
    from trackside.shipper.protocol import EXIT_LOCKED

    try:
        _become_shipper(waiting.request)
    except FileNotFoundError:
        return EXIT_LOCKED  # another shipper has delivered the journal, and removed it
    words = [str(word) for option in waiting.descriptors.items() for word in option]
    return main([*waiting.request.arguments, *words])


def _leave(code: int) -> NoReturn:
    """End the fork, as :mod:`multiprocessing` ends its own.

    The interpreter would take apart all that the server has imported, and so copy each page of it.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - multiprocessing does, in its forks
    with contextlib.suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _preload(tracking_uri: str) -> None:
    import trackside.shipper.__main__  # noqa: F401
    from trackside.destinations.mlflow.preload import preload

    with contextlib.suppress(Exception):  # the shipper meets it again, and reports it where it belongs
        preload(tracking_uri)


def _allow_many_descriptors() -> None:
    """Each shipper that waits has up to three."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _become_shipper(request: ShipperRequest) -> None:
    """In the fork: be as a process that was started from scratch."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    if TRUST in request.arguments:
        vouch_for(Path(request.arguments[0]))
    output = open_own(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(output)
    environment.set_variables(request.environment)
    _import_from(os.environ.pop(IMPORT_PATH, ""))
    os.chdir(working_folder(request.working_directory, os.environ[TRACKING_URI]))


def _import_from(path: str) -> None:
    """Import from what the client's path has gained since the server was started, too."""
    _, *entries = path.split("\n")
    sys.path += [entry for entry in entries if entry not in sys.path]
    importlib.invalidate_caches()


if __name__ == "__main__":
    sys.exit(serve())
