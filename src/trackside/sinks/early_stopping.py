"""Tell when a metric has stopped getting better."""

from __future__ import annotations

import math
from typing import Any, Literal

from trackside.errors import ConfigurationError
from trackside.sinks.callback import CallbackSink


class EarlyStopping(CallbackSink):
    """``should_stop`` turns true when ``metric`` got no better ``patience`` times in a row.

    ``metric`` is the delivered name, ``val/loss``. ``mode`` is ``"min"`` if less is better, or ``"max"``.
    ``min_delta`` is by how much a value must be better to count. NaN is never better. Once true,
    ``should_stop`` stays true. Your loop must check it and stop.

    Raises :class:`~trackside.errors.ConfigurationError` for a patience below 1, another mode, or a
    ``min_delta`` below 0.
    """

    stays_attached = True

    def __init__(
        self, metric: str, patience: int = 10, mode: Literal["min", "max"] = "min", min_delta: float = 0.0
    ) -> None:
        if patience < 1:
            raise ConfigurationError(f"patience must be 1 or more, not {patience}")
        if mode not in {"min", "max"}:
            raise ConfigurationError(f"mode must be 'min' or 'max', not {mode!r}")
        if not min_delta >= 0:
            raise ConfigurationError(f"min_delta must be 0 or more, not {min_delta}")
        super().__init__(metric, self._see)
        self.patience = patience
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        """The best value so far."""
        self.best_step: Any = None
        """The step it came with."""
        self.waited: int = 0
        """How many values since then were not better."""
        self.should_stop: bool = False
        """Whether that was often enough."""

    def __repr__(self) -> str:
        return f"EarlyStopping({self.metric!r}, best={self.best}, waited={self.waited})"

    def _see(self, value: float, step: Any) -> None:
        if self._is_better(value):
            self.best, self.best_step, self.waited = value, step, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.should_stop = True

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta
