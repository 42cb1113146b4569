"""Tensors that are shards of larger ones: DTensor (FSDP2, tensor parallelism) and FSDP's first version.

One rank has only its own shards. The norm of the whole takes one small sum over the ranks, in which every
rank must take part: a rank that stays away stops all of them. So that happens only if you ask for it, with
``watch(all_ranks=True)`` on every rank. Otherwise the norms are those of this rank's shards, under names
that say so.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

Key = tuple[Any, ...]
"""The process groups that a tensor is sharded over. Empty for a tensor that is whole here."""


class Local(NamedTuple):
    """What this rank has of a tensor."""

    tensor: Any
    key: Key


def find_flat_key(model: Any) -> Key:
    """The process group of an FSDP wrapper of the first version, around the model or inside it."""
    for module in model.modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            strategy = getattr(getattr(module, "sharding_strategy", None), "name", "")
            return () if strategy == "NO_SHARD" else (module.process_group,)
    return ()


def local_parts(tensors: list[Any], flat_key: Key) -> list[Local] | None:
    """What this rank has of each tensor. None if all of them are whole, as they mostly are."""
    module = sys.modules.get("torch.distributed.tensor")
    kind = getattr(module, "DTensor", None)
    distributed = kind is not None and any(isinstance(tensor, kind) for tensor in tensors)
    if not distributed and not flat_key:
        return None
    parts = [_local(tensor, kind, flat_key) for tensor in tensors]
    return parts if any(part.key for part in parts) or distributed else None


def _local(tensor: Any, kind: Any, flat_key: Key) -> Local:
    if kind is None or not isinstance(tensor, kind):
        return Local(tensor, flat_key)
    mesh = tensor.device_mesh
    sharded = [dim for dim, placement in enumerate(tensor.placements) if not placement.is_replicate()]
    return Local(tensor.to_local(), tuple(mesh.get_group(dim) for dim in sharded if mesh.size(dim) > 1))


def summed(torch: Any, squares: dict[Key, Any]) -> Any:
    """The sums over all ranks. ``squares``: by key, a vector with this rank's sums of squares.

    Every rank calls this with the same keys, in the same order.
    """
    total = None
    for key, vector in squares.items():
        for group in key:
            torch.distributed.all_reduce(vector, group=group)
        total = vector if total is None else total + vector
    return total
