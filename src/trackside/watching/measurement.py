"""One measurement: the norms of a model's gradients and parameters at one moment, named.

Invariants:

* No value is read from an accelerator. There, the norms stay tensors, which the sink fetches later.
* With ``all_ranks``, every rank takes part in the same sums, in the same order, whatever gradients it has.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trackside.system.once import Once
from trackside.watching.groups import TOTAL
from trackside.watching.members import Members, Tensors, metric_name
from trackside.watching.norms import group_norms, total_norm
from trackside.watching.shards import Key, local_parts, summed

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("trackside.watching")

_NO_GRADIENTS = (
    "the model had no gradients after its optimizer's step, so there are no gradient norms. "
    "An optimizer that steps during the backward pass frees them at once"
)
_SHARDED = (
    "the model is sharded: the norms are those of rank 0's shards, and named grad_norm_shard and "
    "param_norm_shard. For the whole model's, call watch(all_ranks=True) on every rank"
)
_SPARSE = (
    "sparse gradients on an accelerator are left out of the norms, because adding them up would wait for it"
)

_told = Once()


class Measuring:
    """Measures one model. ``kinds``: which of ``grad_norm`` and ``param_norm`` are wanted."""

    def __init__(self, members: Members, kinds: Iterable[str], flat_key: Key, *, all_ranks: bool) -> None:
        self._members = members
        self._kinds = frozenset(kinds)
        self._flat_key = flat_key
        self._all_ranks = all_ranks

    def measure(self, torch: Any) -> dict[str, Any]:
        """The norms by name. Empty without anything to measure."""
        with torch.no_grad():
            gradients, parameters = self._members.read()
            if parameters.tensors and not gradients.tensors and "grad_norm" in self._kinds:
                _warn(_NO_GRADIENTS)
            wanted = {"grad_norm": gradients, "param_norm": parameters}
            if self._all_ranks:
                return self._over_all_ranks(torch, wanted)
            found: dict[str, Any] = {}
            for kind, tensors in wanted.items():
                if kind in self._kinds:
                    found.update(self._here(torch, kind, tensors))
            return found

    def _here(self, torch: Any, kind: str, given: Tensors) -> dict[str, Any]:
        """The norms of what this rank has."""
        tensors = _dense(given)
        parts = local_parts(tensors.tensors, self._flat_key)
        if parts is not None:
            tensors.tensors = [part.tensor for part in parts]
            if any(part.key for part in parts):
                kind = f"{kind}_shard"
                _warn(_SHARDED)
        if not tensors.tensors or tensors.tensors[0].device.type == "meta":
            return {}
        norms = group_norms(torch, tensors.tensors, tensors.sizes)
        names = [metric_name(kind, group) for group in tensors.groups]
        return _named(names, torch.cat([norms, total_norm(torch, norms).reshape(1)]), f"{kind}/{TOTAL}")

    def _over_all_ranks(self, torch: Any, wanted: dict[str, Tensors]) -> dict[str, Any]:
        """The norms of the whole model, by one sum over the ranks for each way of sharding."""
        groups = wanted["param_norm"].groups
        if not groups:
            return {}
        places = [(kind, group) for kind in sorted(self._kinds) for group in groups]
        keys: dict[Key, dict[tuple[str, str], list[Any]]] = {}
        for kind in ("param_norm", "grad_norm"):  # every rank has all parameters: they give the order
            tensors = _dense(wanted[kind])
            parts = local_parts(tensors.tensors, self._flat_key)
            split = [(tensor, ()) for tensor in tensors.tensors] if parts is None else parts
            owners = tensors.owners()
            for (tensor, key), group in zip(split, owners, strict=True):
                keys.setdefault(key, {}).setdefault((kind, group), []).append(tensor)
        squares = {key: _squares(torch, found, places) for key, found in keys.items()}
        norms = summed(torch, squares).sqrt()
        named: dict[str, Any] = {}
        for index, kind in enumerate(sorted(self._kinds)):
            own = norms[index * len(groups) : (index + 1) * len(groups)]
            names = [metric_name(kind, group) for group in groups]
            named |= _named(names, torch.cat([own, total_norm(torch, own).reshape(1)]), f"{kind}/{TOTAL}")
        return named


def _squares(torch: Any, found: dict[tuple[str, str], list[Any]], places: list[tuple[str, str]]) -> Any:
    """This rank's sum of squares at each place, and 0 where it has nothing."""
    here = [place for place in places if found.get(place)]
    some = next(tensors[0] for tensors in found.values())
    zero = torch.zeros((), device=some.device, dtype=torch.float32)
    by_place: dict[tuple[str, str], Any] = {}
    if here:
        tensors = [tensor for place in here for tensor in found[place]]
        norms = group_norms(torch, tensors, [len(found[place]) for place in here]).float()
        by_place = dict(zip(here, norms.square().unbind(), strict=True))
    return torch.stack([by_place.get(place, zero) for place in places])


def _named(names: list[str], norms: Any, total: str) -> dict[str, Any]:
    """The norms by name: floats from the CPU, tensors from anywhere else."""
    values = norms.tolist() if norms.device.type == "cpu" else norms.unbind()
    # A parameter without a group is only in the total.
    return {
        name: value for name, value in zip([*names, total], values, strict=True) if not name.endswith("/")
    }


def _dense(given: Tensors) -> Tensors:
    """``given`` with plain tensors in place of sparse ones, as embeddings with ``sparse=True`` have."""
    if not any(tensor.is_sparse for tensor in given.tensors):
        return Tensors(given.groups, given.sizes, given.tensors)
    dense, rest = Tensors(), iter(given.tensors)
    for group, size in zip(given.groups, given.sizes, strict=True):
        tensors = [_values(next(rest)) for _ in range(size)]
        dense.add(group, [tensor for tensor in tensors if tensor is not None])
    return dense


def _values(tensor: Any) -> Any | None:
    """The values of a sparse gradient, or None on an accelerator: summing up its rows would wait for it."""
    if not tensor.is_sparse:
        return tensor
    if tensor.device.type == "cpu":
        return tensor.coalesce().values()
    _warn(_SPARSE)
    return None


def _warn(text: str) -> None:
    if _told.is_first(text):
        logger.warning("%s (logged once)", text)
