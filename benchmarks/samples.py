"""What is logged: a dict of metrics for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Metrics = dict[str, Any]

PREFIX = "train/metric_"


def names(count: int) -> list[str]:
    """The names of the metrics."""
    return [f"{PREFIX}{i}" for i in range(count)]


def floats(count: int) -> Callable[[int], Metrics]:
    """The same float under each name."""
    kept = names(count)
    return lambda step: dict.fromkeys(kept, step + 0.5)


def tensors(count: int, device: str) -> Callable[[int], Metrics]:
    """Scalars on ``device``; on an accelerator each comes fresh out of a kernel, as a loss does."""
    import torch

    kept = names(count)
    values = [torch.tensor(i + 0.5, device=device) for i in range(count)]
    if device == "cpu":
        return lambda _step: dict(zip(kept, values, strict=True))
    return lambda step: {name: value + step for name, value in zip(kept, values, strict=True)}


VALUES: dict[str, Callable[[int], Callable[[int], Metrics]]] = {
    "floats": floats,
    "torch": lambda count: tensors(count, "cpu"),
    "cuda": lambda count: tensors(count, "cuda"),
}
