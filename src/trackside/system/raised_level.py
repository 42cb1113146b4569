"""The level of the logger ``trackside`` in a program where MLflow has set up logging.

``import mlflow.pytorch``, which autologging and ``save_model()`` need, calls ``basicConfig(level=ERROR)``. It
hides every warning of a program that has not set up logging before, ours on lost data among them. So our
logger keeps Python's own default level there. A level that the program gives to it counts.

Loggers read the level of those above them, and forget what they have read when any level changes. So a
property is enough, and costs nothing when something is logged.
"""

from __future__ import annotations

import logging
import sys

_SETS_UP_LOGGING = "mlflow.pytorch"


def is_raised_by_mlflow() -> bool:
    """Whether the level of the whole program is what MLflow sets by the way."""
    return logging.root.level == logging.ERROR and _SETS_UP_LOGGING in sys.modules


class _KeepsItsLevel:
    """A logger whose level is not raised by MLflow."""

    given = logging.NOTSET

    @property
    def level(self) -> int:
        """The level that the program gave to the logger, else Python's default where MLflow has raised it."""
        return self.given or (logging.WARNING if is_raised_by_mlflow() else logging.NOTSET)

    @level.setter
    def level(self, level: int) -> None:
        self.given = level


def keep_level(logger: logging.Logger) -> None:
    """Keep MLflow from raising the level of ``logger``, unless that is done already."""
    kind = type(logger)
    if not issubclass(kind, _KeepsItsLevel):
        given = logger.level
        logger.__class__ = type(kind.__name__, (_KeepsItsLevel, kind), {})
        logger.level = given


def given_level(logger: logging.Logger) -> int:
    """The level that the program gave to ``logger``."""
    return getattr(logger, "given", logger.level)
