"""Bounds for every HTTP answer that this process reads: a deadline for all of it, and a largest size.

``requests`` bounds each read from the socket, and not their sum. MLflow's client reads each answer whole. A
server, or a proxy in between, may send one byte at a time, an answer that never ends, or a megabyte of gzip
that unpacks to a gigabyte.

Invariants:

* Every answer that ``http.client`` waits for, under ``requests`` as under cloud SDKs, has a time to be
  complete. After that its connection is shut down, so the thread that reads gets an error, and the request is
  tried again. Sending is not bounded: a large upload may take as long as it needs, and ``sendall`` has a
  deadline.
* At most :data:`MAX_ANSWER` bytes of an answer to ``requests`` are read, counted after unpacking. Then the
  connection is closed, and the call fails and is tried again later.
* An answer that is packed more than once is not unpacked: each layer multiplies by a thousand.
* What urllib3 reads only to use the connection again is bounded, too.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_USUAL_TIMEOUT = 30.0

_lock = threading.Lock()
_awaited: list[_Awaited] = []
_asked = threading.local()

MAX_ANSWER = 32 << 20
"""Bytes. A run with 100,000 metrics, which is the largest thing that is asked for, takes 10 MB."""

MAX_DRAINED = 1 << 20
"""Bytes. It is quicker to connect again than to read more."""

_STEP = 1 << 16


@dataclass(eq=False)
class _Awaited:
    """An answer, and the connection it comes from. ``answer``: once its head was read."""

    connection: socket.socket
    due: float
    answer: weakref.ref[http.client.HTTPResponse] | None = None
    is_cut: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it was read to its end, or is no longer read."""
        if self.answer is None:
            return False
        answer = self.answer()
        return answer is None or answer.isclosed()


def bound_answers() -> None:
    """Set a deadline for every answer from now on. :func:`close_overdue` enforces it."""
    connection: Any = http.client.HTTPConnection
    if not getattr(connection.getresponse, "is_bounded", False):
        connection.getresponse = _bounded(connection.getresponse)


def close_overdue(*, clock: Callable[[], float] = time.monotonic) -> None:
    """Shut down the connections whose answers have taken too long. To be called often, by any thread."""
    now = clock()
    with _lock:
        _awaited[:] = [awaited for awaited in _awaited if not awaited.is_over]
        overdue = [awaited for awaited in _awaited if awaited.due <= now]
        _awaited[:] = [awaited for awaited in _awaited if awaited.due > now]
    for awaited in overdue:
        awaited.is_cut = True
        with contextlib.suppress(OSError):  # closed meanwhile
            # Past the TLS of an SSLSocket, whose own shutdown() is not for two threads.
            socket.socket.shutdown(awaited.connection, socket.SHUT_RDWR)


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Give the answers to this thread's requests so long: the server has a large file to store first."""
    _asked.seconds = seconds
    try:
        yield
    finally:
        _asked.seconds = 0.0


def patience() -> float:
    """Seconds an answer may take in all: twice as long as a read from the socket may."""
    asked: float = getattr(_asked, "seconds", 0.0)
    if asked:
        return 2 * asked
    try:
        return 2 * float(os.environ.get(_TIMEOUT, "")) or 2 * _USUAL_TIMEOUT
    except ValueError:
        return 2 * _USUAL_TIMEOUT


def _bounded(getresponse: Callable[..., Any]) -> Callable[..., Any]:
    def getresponse_in_time(connection: Any, *arguments: Any, **options: Any) -> Any:
        if connection.sock is None:
            return getresponse(connection, *arguments, **options)
        awaited = _Awaited(connection.sock, time.monotonic() + patience())
        with _lock:
            _awaited.append(awaited)
        try:
            answer = getresponse(connection, *arguments, **options)
        except BaseException:
            with _lock, contextlib.suppress(ValueError):
                _awaited.remove(awaited)
            raise
        if awaited.is_cut:  # a head that was cut off looks like a whole one
            answer.close()
            raise TimeoutError(f"no whole answer within {patience():.0f} s")
        awaited.answer = weakref.ref(answer)
        return answer

    getresponse_in_time.is_bounded = True  # type: ignore[attr-defined]
    return getresponse_in_time


def limit_answers() -> None:
    """Have this process's requests read bounded answers. Call once ``requests`` may be imported."""
    import requests
    import urllib3

    adapter: Any = requests.adapters.HTTPAdapter
    if not getattr(adapter, "limits_answers", False):
        adapter.send = _limited(adapter.send)
        adapter.limits_answers = True
        answer: Any = urllib3.response.HTTPResponse
        answer.drain_conn = drain


def drain(answer: Any) -> None:
    """Read what is left of a urllib3 answer, so that its connection can be used again. Close a long one."""
    with contextlib.suppress(Exception):  # as urllib3's: the next request finds out
        for _ in range(MAX_DRAINED // _STEP):
            if not answer.read(_STEP, decode_content=False):
                return
    with contextlib.suppress(Exception):
        answer.close()


def _limited(send: Callable[..., Any]) -> Callable[..., Any]:
    """``send`` of a transport, whose answers fail when they become too large."""

    def send_limited(transport: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        response = send(transport, request, *arguments, **options)
        raw = getattr(response, "raw", None)
        if raw is not None and hasattr(raw, "stream"):
            raw.stream = _bounded_stream(raw, raw.stream)
        return response

    # What other guards have noted on the function stays readable.
    send_limited.__dict__.update(getattr(send, "__dict__", {}))
    return send_limited


def _bounded_stream(raw: Any, stream: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    def read(*arguments: Any, **options: Any) -> Iterator[bytes]:
        if "," in (raw.headers.get("Content-Encoding") or ""):
            raise _refused(raw, "it is packed more than once")
        left = MAX_ANSWER
        for data in stream(*arguments, **options):
            left -= len(data)
            if left < 0:
                raise _refused(raw, f"it is larger than {MAX_ANSWER >> 20} MiB")
            yield data

    return read


def _refused(raw: Any, why: str) -> RetryableError:
    raw.close()  # or the rest would be read by whoever uses the connection next
    return RetryableError(f"the server's answer is not read: {why}. Is there a proxy in between?")
