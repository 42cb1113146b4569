"""One link in the chain of a signal's handlers: note the signal, then do what would have happened without us.

Invariants:

* A link never changes how the process dies. It plays the default action only when the interpreter itself
  called it. When another handler called it, it stands for ``SIG_DFL`` there, and a handler that chains calls
  nothing for that.
* Every time we hook in, we make a new link. So code that saved an older one and calls it, or sets it back,
  reaches what that one had replaced.
* The chain is as long as there are runs. A link whose run ended on another thread than the main one, which
  alone may change a handler, is retired, and taken out when the main thread next hooks in or out.
* However long, the chain is walked in a loop: a signal never ends in a ``RecursionError``.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class SignalLink:
    """A signal handler that notes the signal and then runs ``previous``, the handler it replaced.

    ``note(number)`` must be safe in signal context. ``die(number)`` plays the default action.
    """

    def __init__(
        self,
        number: int,
        previous: Any,
        *,
        note: Callable[[int], None],
        die: Callable[[int], None],
    ) -> None:
        self.number = number
        self.previous = previous
        self.retired = False
        """Whether its run has ended, and it may be taken out."""
        self._note = note
        self._die = die

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called by the interpreter, or by a handler that was installed on top of this one."""
        # The interpreter calls a handler on top of the very frame that it passes to it. Another handler,
        # which passes that frame on, is a frame in between, or, if it is written in C, the current handler.
        called_by = sys._getframe().f_back  # noqa: SLF001 - documented, and the only way to ask
        self.run(number, frame, direct=called_by is frame and self._is_installed())

    def run(self, number: int, frame: FrameType | None, *, direct: bool) -> None:
        """Note the signal and pass it on. ``direct``: the interpreter called us, not another handler."""
        for link in self.chain():
            link._note(number)  # noqa: SLF001 - our own kind
        if callable(link.previous):
            link.previous(number, frame)
        elif direct:
            link._die(number)  # noqa: SLF001 - our own kind

    def install(self) -> None:
        """Become the signal's handler."""
        signal.signal(self.number, self)

    def chain(self) -> Iterator[SignalLink]:
        """This link and those below it, down to the first handler that is not ours."""
        link: Any = self
        while isinstance(link, SignalLink):
            yield link
            link = link.previous

    def in_use(self) -> Any:
        """What is still needed of this chain: the first link in use, or what all of them replaced."""
        link: Any = self
        while isinstance(link, SignalLink) and link.retired:
            link = link.previous
        return link

    def _is_installed(self) -> bool:
        current: Any = signal.getsignal(self.number)
        return current is self
