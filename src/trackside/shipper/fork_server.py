"""Start shippers one after the other: a process that imports MLflow once and forks for each journal.

Importing MLflow takes a shipper two to four seconds, far longer than delivering a short run. ``trackside
sync`` starts one of these servers and asks it for a shipper per journal.

Invariants. The server only imports: it opens no store, no connection and no journal, and starts no thread, so
that a fork is what a fresh process would be after its imports. Each shipper still has a process, a session, a
working directory, an environment and a log of its own, and one that crashes takes nothing with it. Whatever
goes wrong with the server, :meth:`ForkServer.start` falls back to a process from scratch.

One JSON object a line: the request on stdin, then the process number and at last the exit code on stdout. The
server serves one shipper at a time, and leaves when its stdin is closed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trackside.journal import lossless_json
from trackside.journal.opening import open_own
from trackside.journal.trust import vouch_for
from trackside.shipper import signals
from trackside.shipper.grants import TRUST
from trackside.shipper.spawn import (
    SECRETS,
    TRACKING_URI,
    Child,
    environment_for,
    python_command,
    spawn,
    working_folder,
)

if TYPE_CHECKING:
    from typing_extensions import Self

LOST = -int(signal.SIGKILL)
"""The exit code of a shipper whose server died before it could tell."""


LEAVE_TIMEOUT = 3.0
"""Seconds a server has to leave once its client does."""


class Request(msgspec.Struct, frozen=True):
    """A shipper to start."""

    arguments: list[str]
    log: str
    working_directory: str
    environment: dict[str, str]


class ForkServer:
    """The client's side: starts the server on first use, and ends it on leaving the ``with`` block."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._broken = sys.platform == "darwin"  # where system libraries crash in a fork without an exec

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a shipper that was interrupted
            server.wait(LEAVE_TIMEOUT)

    def start(
        self, command: list[str], *, log: Path, tracking_uri: str, working_directory: str
    ) -> subprocess.Popen[bytes] | ForkedShipper:
        """Start ``command`` (of :func:`command_for`), as :func:`spawn` would. Raises ``OSError``."""
        if not self._broken:
            environment = {TRACKING_URI: tracking_uri, SECRETS: "{}"}
            request = Request(command[3:], str(log), working_directory, environment)
            try:
                return self._ask(request)
            except (OSError, ValueError):
                self._broken = True
        return spawn(command, log=log, tracking_uri=tracking_uri, working_directory=working_directory)

    def _ask(self, request: Request) -> ForkedShipper:
        if self._server is None:
            self._server = _start_server()
        server = self._server
        assert server.stdin is not None  # noqa: S101 - Popen was given pipes
        assert server.stdout is not None  # noqa: S101
        server.stdin.write(lossless_json.encode(request) + b"\n")
        server.stdin.flush()
        return ForkedShipper(int(server.stdout.readline()), server.stdout.fileno())


class ForkedShipper:
    """What :class:`subprocess.Popen` is for a process started from scratch."""

    def __init__(self, pid: int, answers: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._answers = answers

    def poll(self) -> int | None:
        """The exit code, once the process has left: negative for a signal."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            answer = os.read(self._answers, 32)  # a whole line: far below what a pipe keeps together
            self.returncode = int(answer) if answer else LOST
        return self.returncode

    def terminate(self) -> None:
        """Ask it to leave."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


def _start_server() -> subprocess.Popen[bytes]:
    with signals.all_blocked():  # as spawn() does it, for the shippers: the server leaves with its client
        return Child(
            python_command("trackside.shipper.fork_server", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a shipper that can't be forked is started from scratch, and says why
            start_new_session=True,  # Ctrl-C is for the client, which passes it on
            env=environment_for(),
        )


def serve() -> int:
    """Fork a shipper per request. Return the exit code of the server, or in a fork, of the shipper."""
    from trackside.shipper.__main__ import main
    from trackside.shipper.service import EXIT_LOCKED

    for line in iter(lambda: _read_line(0), b""):
        request = lossless_json.decode(line, Request)
        _preload(request.environment[TRACKING_URI])
        gc.freeze()  # a collection in the fork would copy every page that the import has filled
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from Python 3.12: NumPy's idle threads, which mind themselves
            pid = os.fork()
        if pid == 0:
            try:
                _become_shipper(request)
            except FileNotFoundError:
                return EXIT_LOCKED  # another shipper has delivered the journal, and removed it
            return main(request.arguments)
        os.write(1, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
    return 0


def _read_line(descriptor: int) -> bytes:
    """A line, byte by byte: a buffer would be inherited by the forks. Empty at the end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            return b""
        line += byte
    return line


def _preload(tracking_uri: str) -> None:
    from trackside.destinations.mlflow.connection import preload

    with contextlib.suppress(Exception):  # the shipper meets it again, and reports it where it belongs
        preload(tracking_uri)


def _become_shipper(request: Request) -> None:
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
    os.environ.update(request.environment)
    os.chdir(working_folder(request.working_directory, request.environment[TRACKING_URI]))


if __name__ == "__main__":
    sys.exit(serve())
