"""Report, once for each name, that a value of several elements is logged as its mean.

Recipes rely on the mean of a tensor. It may also be a mistake: an image, or a vector of per-class scores,
logged as one number. So the first mean of each name gets an INFO record that says how to keep the elements.
Names are remembered in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from trackside.system.once import Once

logger = logging.getLogger("trackside.coerce")

_MANY = 100
"""A value of more elements is a distribution, and not a score for each class."""
_CHANNELS = (1, 3, 4)
_MIN_SIDE = 8
"""Pixels. A smaller array is not taken for an image."""

_explained = Once()


def element_count(value: Any) -> int:
    """Return how many elements ``value`` has, or 1 for a single number."""
    try:
        if hasattr(type(value), "numel"):
            return int(value.numel())
        size = getattr(value, "size", None)
        if type(size) is int:
            return size
        return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 1
    except Exception:
        return 1


def note_mean(name: Any, value: Any) -> None:
    """Report that ``name`` is logged as the mean of ``value``'s elements, the first time."""
    if not _explained.is_first(name):
        return
    logger.info(
        "metric %r is the mean of %d elements%s. %s (logged once per name)",
        name,
        element_count(value),
        _shape_text(value),
        _remedy(name, value),
        extra={"trackside_metric": name},
    )


def _remedy(name: Any, value: Any) -> str:
    """Return how to keep more of ``value`` than its mean."""
    if _is_table(value):
        return "It looks like a table: to keep it, call run.activate(), then mlflow.log_table()"
    if _is_image(value):
        return (
            f"It looks like an image: to keep it, call run.activate(), then mlflow.log_image(){_how(value)}"
        )
    if element_count(value) > _MANY:
        return (
            "It looks like a distribution: to keep more of it, log its quantiles under names of their own, "
            "or call run.activate(), then mlflow.log_figure() with a histogram"
        )
    return f"To keep each as {name}/0, {name}/1, ..., log {{{name!r}: dict(enumerate(values))}}"


def _how(value: Any) -> str:
    """Return what MLflow's call needs if it would refuse the array: one image, channels last."""
    shape = _shape(value)
    as_it_is = len(shape) == 2 or (len(shape) == 3 and shape[-1] in _CHANNELS)  # noqa: PLR2004
    return "" if as_it_is else " with one image of shape (height, width, channels)"


def _shape(value: Any) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in value.shape)
    except Exception:
        return ()


def _shape_text(value: Any) -> str:
    shape = _shape(value)
    return f" of shape {shape}" if len(shape) > 1 else ""


def _is_table(value: Any) -> bool:
    return hasattr(type(value), "columns") and len(_shape(value)) == 2  # noqa: PLR2004 - rows and columns


def _is_image(value: Any) -> bool:
    """Whether it has two sides and channels (first or last, perhaps in a batch), or two sides of bytes."""
    shape = _shape(value)
    if len(shape) in {3, 4}:
        last, first = shape[-3:-1], shape[-2:]
        return (shape[-1] in _CHANNELS and min(last) >= _MIN_SIDE) or (
            shape[-3] in _CHANNELS and min(first) >= _MIN_SIDE
        )
    grey = len(shape) == 2 and str(getattr(value, "dtype", "")).endswith("uint8")  # noqa: PLR2004
    return grey and min(shape) >= _MIN_SIDE
