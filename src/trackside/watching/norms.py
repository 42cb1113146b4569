"""The norms of many tensors, group by group, in a few calls into torch.

``torch._foreach_norm`` computes the norm of each tensor, hundreds in one kernel. A second call takes the
norms of these norms for each group. Nothing here reads a value, so nothing waits for an accelerator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def group_norms(torch: Any, tensors: Sequence[Any], sizes: Sequence[int]) -> Any:
    """A tensor with the norm of each group.

    ``tensors``: those of the first group, then those of the next. ``sizes``: how many each group has, at
    least one. The norms are on the device of the first tensor, as float32 or float64.
    """
    norms = torch.stack(tensor_norms(torch, tensors))
    if len(sizes) == len(tensors):
        return norms
    return torch.stack(torch._foreach_norm(list(norms.split(list(sizes))), 2.0))  # noqa: SLF001 - torch's own users do


def total_norm(torch: Any, norms: Any) -> Any:
    """The norm of everything, from the norms of the groups."""
    return torch.linalg.vector_norm(norms)


def tensor_norms(torch: Any, tensors: Sequence[Any]) -> list[Any]:
    """The norm of each tensor, all on one device and of one type."""
    device, dtype = tensors[0].device, tensors[0].dtype
    if all(tensor.dtype is dtype for tensor in tensors) and all(
        tensor.device == device for tensor in tensors
    ):
        return _norms_of_one_kind(torch, list(tensors), dtype)
    places: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        places.setdefault((tensor.device, tensor.dtype), []).append(index)
    found: list[Any] = [None] * len(tensors)
    for (_, kind), indices in places.items():
        norms = _norms_of_one_kind(torch, [tensors[index] for index in indices], kind)
        for index, norm in zip(indices, norms, strict=True):
            found[index] = norm
    wide = torch.float64 if any(norm.dtype is torch.float64 for norm in found) else torch.float32
    # From one accelerator to another, this is queued on both and waited for by neither.
    return [norm.to(device=device, dtype=wide, non_blocking=True) for norm in found]


def _norms_of_one_kind(torch: Any, tensors: list[Any], dtype: Any) -> list[Any]:
    # Half a precision keeps three digits, and float16 ends at 65504.
    half = dtype in {torch.float16, torch.bfloat16}
    foreach_norm = torch._foreach_norm  # noqa: SLF001
    return list(foreach_norm(tensors, 2.0, dtype=torch.float32) if half else foreach_norm(tensors, 2.0))
