"""Lets a thread query events and allocate memory while another thread captures a CUDA graph.

``torch.cuda.graph`` captures in CUDA's *global* mode. During such a capture, CUDA forbids every thread to
query an event or to allocate memory, unless that thread has switched to the *relaxed* mode. A thread that
does so all the same gets an error and spoils the other thread's capture. torch has no call that tells
whether another thread captures, and none that switches the mode. So this calls the CUDA runtime that torch
has loaded.

Invariant: this loads no library. If the runtime is not loaded under its usual name (ROCm, or torch without
CUDA), it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

RELAXED = 2
"""``cudaStreamCaptureModeRelaxed``."""

_make: Callable[[], AbstractContextManager[object]] | None = None
"""Makes the context manager, once it is known which."""


def relaxed() -> AbstractContextManager[object]:
    """Return a context manager: within it, this thread is in the relaxed mode.

    Call it once the program has put a tensor on an accelerator.
    """
    global _make  # noqa: PLW0603 - looked for once a process
    if _make is None:
        exchange = _find_exchange()
        _make = contextlib.nullcontext if exchange is None else _maker(exchange)
    return _make()


def _find_exchange() -> Any:
    """``cudaThreadExchangeStreamCaptureMode`` of the runtime that is loaded, or None."""
    torch = sys.modules.get("torch")
    version = getattr(getattr(torch, "version", None), "cuda", None)
    no_load = getattr(os, "RTLD_NOLOAD", None)
    if not version or no_load is None:
        return None
    import ctypes  # torch has imported it

    major = version.partition(".")[0]
    for name in (f"libcudart.so.{major}", f"libcudart.so.{major}.0"):
        # PyDLL: the call takes no time, so the GIL is kept.
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.PyDLL(name, mode=no_load | os.RTLD_NOW).cudaThreadExchangeStreamCaptureMode
    return None


def _maker(exchange: Any) -> Callable[[], AbstractContextManager[object]]:
    from ctypes import byref, c_int

    class Relaxed:
        """One use of the mode. ``exchange`` sets the mode of this thread, and stores the one before."""

        __slots__ = ("_mode",)

        def __enter__(self) -> None:
            self._mode = c_int(RELAXED)
            exchange(byref(self._mode))

        def __exit__(self, *_error: object) -> None:
            exchange(byref(self._mode))

    return Relaxed
