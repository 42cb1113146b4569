"""Anything a training loop calls a number or a step, to ``float`` and ``int``."""

from trackside.coerce.floats import to_float
from trackside.coerce.metrics import to_float_metrics

__all__ = ["to_float", "to_float_metrics"]
