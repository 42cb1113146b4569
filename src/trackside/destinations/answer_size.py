"""No answer of a server is read beyond a limit, whatever it claims to be.

MLflow's client reads each answer whole. A server, or a proxy in between, may send one that never ends, or a
megabyte of gzip that unpacks to a gigabyte.

Invariants, for each request that this process makes with ``requests``:

* At most :data:`MAX_ANSWER` bytes of an answer are read, counted after unpacking. Then the connection is
  closed, and the call fails and is tried again later.
* An answer that is packed more than once is not unpacked: each layer multiplies by a thousand.
* What urllib3 reads only to use the connection again is bounded, too.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ANSWER = 32 << 20
"""Bytes. A run with 100,000 metrics, which is the largest thing that is asked for, takes 10 MB."""

MAX_DRAINED = 1 << 20
"""Bytes. It is quicker to connect again than to read more."""

_STEP = 1 << 16


def limit_answers() -> None:
    """Have this process's requests read bounded answers. Call once ``requests`` may be imported."""
    import requests
    import urllib3

    adapter: Any = requests.adapters.HTTPAdapter
    if not getattr(adapter, "limits_answers", False):
        adapter.send = _bounded(adapter.send)
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


def _bounded(send: Callable[..., Any]) -> Callable[..., Any]:
    """``send`` of a transport, whose answers fail when they become too large."""

    def send_bounded(transport: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        response = send(transport, request, *arguments, **options)
        raw = getattr(response, "raw", None)
        if raw is not None and hasattr(raw, "stream"):
            raw.stream = _bounded_stream(raw, raw.stream)
        return response

    # What other guards have noted on the function stays readable.
    send_bounded.__dict__.update(getattr(send, "__dict__", {}))
    return send_bounded


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
