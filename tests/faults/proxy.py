"""An HTTP proxy that injects faults between the shipper and a real MLflow server."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

LONGEST_HANG = 120.0
"""Seconds after which even a hanging request is let go, so that no test outlives its server."""

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def is_for(self, *words: str) -> bool:
        """Whether the path holds one of ``words``."""
        return any(word in self.path for word in words)


@dataclass(frozen=True)
class Seen:
    """A request as it passed, and when (monotonic seconds). ``status`` 0: no answer was given."""

    at: float
    request: Request
    status: int


@dataclass(frozen=True)
class Reply:
    """What the client gets."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def error(cls, status: int, code: str, message: str) -> Reply:
        """An error in the form in which an MLflow server sends them."""
        body = json.dumps({"error_code": code, "message": message}).encode()
        return cls(status, {"Content-Type": "application/json"}, body)


class Cut(Exception):  # noqa: N818 - no error: a way to answer
    """Close the connection (with a reset) after ``reply``'s first half. Without one, at once."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__()
        self.reply = reply


Forward = Callable[[], Reply]
Action = Callable[[Request, Forward], Reply]
"""Answers a request; ``forward()`` has the real server answer it. May raise :class:`Cut`."""


def answer(reply: Reply) -> Action:
    """Answer in the server's place."""
    return lambda _request, _forward: reply


def cut(_request: Request, _forward: Forward) -> Reply:
    """Hang up before the server sees anything."""
    raise Cut


def cut_behind_commit(_request: Request, forward: Forward) -> Reply:
    """Let the server do it, then hang up in the middle of its answer."""
    raise Cut(forward())


def slow(seconds: float) -> Action:
    """Do it, after a while."""

    def act(_request: Request, forward: Forward) -> Reply:
        time.sleep(seconds)
        return forward()

    return act


@dataclass
class Fault:
    """``action`` for the requests that ``match``. For the first ``times`` of them where that is given."""

    action: Action
    match: Callable[[Request], bool] = lambda _: True
    times: int | None = None

    def takes(self, request: Request) -> bool:
        """Whether it applies, counting down."""
        if self.times == 0 or not self.match(request):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to ``upstream`` ("host:port")."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(
        self,
        action: Action,
        match: Callable[[Request], bool] = lambda _: True,
        times: int | None = None,
    ) -> Fault:
        """Inject a fault. The one added last is asked first."""
        fault = Fault(action, match, times)
        with self._lock:
            self.faults.insert(0, fault)
        return fault

    def heal(self) -> None:
        """Take all faults away, and let hanging requests go."""
        with self._lock:
            self.faults.clear()
        self.released.set()

    def hang(self, request: Request, _forward: Forward) -> Reply:
        """Accept, and never answer (an action); :meth:`heal` hangs up."""
        self.released.wait(LONGEST_HANG)
        raise Cut

    def hang_behind_commit(self, request: Request, forward: Forward) -> Reply:
        """Let the server do it, and keep its answer (an action)."""
        reply = forward()
        self.note(request, reply.status)
        self.released.wait(LONGEST_HANG)
        raise Cut

    def count(self, *words: str, status: int | None = None) -> int:
        """How many requests passed whose path holds one of ``words``."""
        return sum(seen.request.is_for(*words) and status in {None, seen.status} for seen in list(self.seen))

    def close(self) -> None:
        """Stop listening."""
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        with self._lock:
            fault = next((f for f in self.faults if f.takes(request)), None)
        try:
            reply = self._act(fault, request)
        except Cut:
            self.note(request, 0)
            raise
        self.note(request, reply.status)
        return reply

    def note(self, request: Request, status: int) -> None:
        """Put a request on record."""
        self.seen.append(Seen(time.monotonic(), request, status))

    def _act(self, fault: Fault | None, request: Request) -> Reply:
        def forward() -> Reply:
            try:
                return self._forward(request)
            except OSError:
                raise Cut from None  # as if the client had met the dead server itself

        return forward() if fault is None else fault.action(request, forward)

    def _forward(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
            headers["Connection"] = "close"
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP_BY_HOP}
            return Reply(response.status, kept, response.read())
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = LONGEST_HANG

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        try:
            reply = cast("_Server", self.server).proxy.handle(request)
        except Cut as cut:
            self._cut(cut.reply)
            return
        self._send(reply, reply.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _send(self, reply: Reply, body: bytes) -> None:
        with contextlib.suppress(OSError):  # the client gave up waiting
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    def _cut(self, reply: Reply | None) -> None:
        self.close_connection = True
        if reply is not None:
            self._send(reply, reply.body[: len(reply.body) // 2])
        with contextlib.suppress(OSError):
            if reply is None:  # a reset, not an orderly end
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Be quiet."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
