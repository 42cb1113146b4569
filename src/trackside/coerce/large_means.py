"""The mean of many elements, in memory that does not grow with them.

``tensor.mean(dtype=float64)`` converts the whole tensor first, on the host as on an accelerator. That takes
eight bytes for each one-byte element of a mask, and for each element that an expanded view only repeats, and
a training loop may run out of memory. So large values are read in pieces, and repeated elements once.

Invariant: the extra memory is that of one piece, converted. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ON_HOST = 1 << 20
"""Elements that are converted at a time: 8 MiB as float64."""

ON_DEVICE = 1 << 22
"""The same on an accelerator: 32 MiB, because each piece costs the training thread two launches."""


def tensor_mean(torch: Any, tensor: Any, wide: Any, *, plain: Callable[[Any], Any] | None = None) -> Any:
    """Return the mean of a dense tensor as a tensor of one element on its device, summed as ``wide``.

    ``plain(piece)`` turns a piece into something that can be summed, if a conversion is not enough. This
    queues work and waits for nothing.
    """
    tensor = _each_once(tensor)
    limit = ON_HOST if tensor.is_cpu else ON_DEVICE
    count = tensor.numel()
    if count <= limit or tensor.dtype == wide:  # which needs no conversion
        return (tensor if plain is None else plain(tensor)).mean(dtype=wide)
    parts = list(pieces(tensor, limit))
    # Allocated beforehand: small tensors made in between would leave holes among the large ones.
    sums = torch.empty(len(parts), dtype=wide, device=tensor.device)
    for index, part in enumerate(parts):
        numbers = part if plain is None else plain(part)
        torch.sum(numbers, dim=tuple(range(numbers.ndim)), dtype=wide, out=sums[index])
    return sums.sum() / count


def array_mean(numpy: Any, array: Any) -> float:
    """Return the mean of a numpy array in float64. numpy itself converts a buffer at a time."""
    return float(_each_once(array).mean(dtype=numpy.float64))


def masked_mean(numpy: Any, array: Any) -> float | None:
    """Return the mean of the elements that are not masked, or None if all are."""
    total, count = 0.0, 0
    for piece in pieces(array, ON_HOST):
        kept = piece.compressed()
        total += float(kept.sum(dtype=numpy.float64))
        count += kept.size
    return total / count if count else None


def pieces(array: Any, limit: int) -> Iterator[Any]:
    """Yield views of at most ``limit`` elements that together are ``array``, a tensor or a numpy array."""
    count = math.prod(array.shape)
    if count <= limit:
        yield array
        return
    length = array.shape[0]
    rows = limit * length // count
    if rows == 0:
        for index in range(length):
            yield from pieces(array[index], limit)
        return
    for start in range(0, length, rows):
        yield array[start : start + rows]


def _each_once(array: Any) -> Any:
    """Return a view without the repetitions of an expanded one. Its mean is the same."""
    strides = array.strides if hasattr(array, "strides") else array.stride()
    if 0 not in strides:
        return array
    return array[tuple(slice(1) if stride == 0 else slice(None) for stride in strides)]
