"""Medians with their spread, and ratios round by round."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.worker import Figures


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
