"""A deadline for a whole HTTP answer, so that a server that sends one byte at a time blocks no call for ever.

``requests`` bounds each read from the socket, and not their sum. Here every answer that ``http.client``
waits for, under ``requests`` as under cloud SDKs, has a time to be complete. After that its connection is
shut down, so the thread that reads gets an error, and the request is tried again.

Sending is not bounded here: a large upload may take as long as it needs, and ``sendall`` has a deadline.
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

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_USUAL_TIMEOUT = 30.0

_lock = threading.Lock()
_awaited: list[_Awaited] = []


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
    """Have a deadline for every answer from now on; :func:`close_overdue` enforces it."""
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


def patience() -> float:
    """Seconds an answer may take in all: twice as long as a read from the socket may."""
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
