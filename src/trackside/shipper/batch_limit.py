"""The size of batches for a destination that fails at large ones and accepts smaller ones."""

from __future__ import annotations

_WELL_ENOUGH = 8
"""Batches in a row that have to go well before they may be twice as large."""


class BatchLimit:
    """A limit that is set when the halves of a batch were taken and the batch was not. Pure."""

    def __init__(self) -> None:
        self._points: int | None = None
        self._went_well = 0

    @property
    def is_set(self) -> bool:
        """Whether the destination failed at a batch for its size lately."""
        return self._points is not None

    def of(self, wanted: int) -> int:
        """``wanted`` points, or as many as the limit lets a batch have."""
        if self._points is None or self._points >= wanted:
            self._points = None
            return wanted
        return self._points

    def narrow(self, points: int) -> None:
        """A part of ``points`` points was taken. The batch it belongs to was not."""
        self._points = max(1, points)
        self._went_well = 0

    def went_well(self) -> None:
        """A batch was taken at once."""
        self._went_well += 1
        if self._points is not None and self._went_well >= _WELL_ENOUGH:
            self._points *= 2
            self._went_well = 0
