"""Medians with their spread, ratios round by round, and how far a median can be trusted."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.worker import Figures

CONFIDENCE = 0.95


def spread(values: Sequence[float], how: str = ",.1f") -> str:
    """``median (lowest-highest)``; a single value as it is."""
    middle = f"{statistics.median(values):{how}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{how}}-{max(values):{how}})"


def ratios(rounds: Sequence[Figures], base: Sequence[Figures], figure: str) -> list[float]:
    """``figure`` of each round by that of ``base`` in the same round, so that both met the same machine."""
    pairs = zip(rounds, base, strict=False)  # an interrupted round has fewer
    return [one[figure] / other[figure] for one, other in pairs if figure in one and other.get(figure)]


def values_of(rounds: Iterable[Figures], figure: str) -> list[float]:
    """``figure`` of each round that has it."""
    return [found[figure] for found in rounds if figure in found]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Bounds of the median of what ``values`` were drawn from, at :data:`CONFIDENCE`, by the sign test.

    It asks nothing of the distribution: each value lies below the true median with a probability of one half.
    Fewer than six values bound nothing.
    """
    ordered, outside = sorted(values), 0
    least = 0.0
    for rank in range(len(ordered) // 2):
        least += math.comb(len(ordered), rank) / 2 ** len(ordered)
        if 2 * least > 1 - CONFIDENCE:
            break
        outside = rank + 1
    if not outside:
        return 0.0, math.inf
    return ordered[outside - 1], ordered[-outside]


def judge(low: float, high: float, most: float) -> str:
    """Whether what lies between ``low`` and ``high`` is at most ``most``: yes, no, or cannot tell."""
    return "yes" if high <= most else "**no**" if low > most else "cannot tell"
