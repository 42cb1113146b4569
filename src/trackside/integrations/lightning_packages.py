"""Lightning under its names: ``lightning``, ``pytorch_lightning`` and ``lightning_fabric``.

All of them may be installed side by side, and their classes are not related. A program uses the one it has
imported.

Invariant: nothing here imports a second one of them, because that takes seconds.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from trackside.integrations.missing import needs_extra
from trackside.rank import get_rank

_LOGGERS = (
    "lightning.pytorch.loggers.logger",
    "pytorch_lightning.loggers.logger",
    "lightning_fabric.loggers.logger",
)

_DUMMIES = ("lightning.fabric.loggers.logger", "lightning_fabric.loggers.logger")


def logger_class() -> Any:
    """The class that a logger has to be of: of each package that is loaded, or of the first installed.

    Raises ``ImportError`` if there is none.
    """
    loaded = [name for name in _LOGGERS if name.partition(".")[0] in sys.modules]
    bases: list[Any] = []
    for name in loaded or [_first_installed()]:
        with needs_extra("lightning"):
            found = importlib.import_module(name).Logger
        if not any(issubclass(base, found) for base in bases):
            bases.append(found)
    return bases[0] if len(bases) == 1 else type("Logger", tuple(bases), {})


def _first_installed() -> str:
    names = [name for name in _LOGGERS if importlib.util.find_spec(name.partition(".")[0]) is not None]
    return names[0] if names else _LOGGERS[0]


def is_other_rank() -> bool:
    """Whether this is not rank 0. Lightning may know it where nothing else does, as in a TPU's processes."""
    ranks = sys.modules.get("lightning_utilities.core.rank_zero")
    known = getattr(getattr(ranks, "rank_zero_only", None), "rank", None)
    return (isinstance(known, int) and known > 0) or get_rank() > 0


def no_experiment() -> Any:
    """Lightning's experiment of the other ranks, which takes every call."""
    module = next(sys.modules[name] for name in _DUMMIES if name in sys.modules)
    return module._DummyExperiment()  # noqa: SLF001 - what rank_zero_experiment returns there, and tests look for
