"""Where ``start()`` was called, and what became of the function that called it.

A sweep calls the same function again and again, with a run in each call (Hydra's multirun, Optuna's
``optimize``, a loop). If the function does not finish its run, nothing tells us: the function is gone when
the next ``start()`` comes. Two questions can be answered then, and nothing is kept alive for it:

* *Is it the same place again?* The same chain of functions on the same thread, and the same call in the
  innermost one. A library that starts a run within yours has another chain, and so has a recursion.
* *Did the function raise?* A sweep that collects failures (Hydra does) keeps the exception. Its traceback
  keeps the frames that the exception left. So if a frame of the chain is in a traceback, below the frame that
  caught the exception, the function raised.

Frames are known by identity, which is unique while they live. Only living frames are compared.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_SUSPENDED = 0x20 | 0x80 | 0x100 | 0x200
"""``inspect.CO_GENERATOR``, ``CO_COROUTINE``, ``CO_ITERABLE_COROUTINE`` and ``CO_ASYNC_GENERATOR``."""


class CallSite:
    """The stack of the caller, from the innermost function outside this package."""

    def __init__(self) -> None:
        frames = [frame for frame in _stack() if not _is_ours(frame)]
        self._thread = threading.get_ident()
        self._frames: dict[int, CodeType] = {id(frame): frame.f_code for frame in frames}
        self._at = frames[0].f_lasti if frames else -1

    def is_again(self, later: CallSite) -> bool:
        """Whether ``later`` is the same call, made once more after the first one is over.

        False for a coroutine or a generator, which may be suspended between the two calls.
        """
        chain = list(self._frames.values())
        if self._thread != later._thread or self._at != later._at or chain != list(later._frames.values()):
            return False
        own = chain[: next((n for n, code in enumerate(chain) if code.co_name == "<module>"), len(chain))]
        return not any(code.co_flags & _SUSPENDED for code in own)

    def errors(self) -> list[BaseException]:
        """The exceptions that left one of these functions and still exist, the latest last."""
        running = {id(frame) for frame in _stack()}
        found = [thing for thing in gc.get_objects() if issubclass(type(thing), BaseException)]
        return [error for error in found if self._was_left_by(error, running)]

    def _was_left_by(self, error: BaseException, running: set[int]) -> bool:
        trace = error.__traceback__
        trace = None if trace is None else trace.tb_next  # the outermost frame is the one that caught it
        while trace is not None:
            frame = trace.tb_frame
            if self._frames.get(id(frame)) is frame.f_code and id(frame) not in running:
                return True
            trace = trace.tb_next
        return False


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as inspect.currentframe() does
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and (name == "trackside" or name.startswith("trackside."))
