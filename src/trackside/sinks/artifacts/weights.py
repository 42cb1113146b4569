"""The weights of a torch module as a file. torch is the program's own: it is never imported here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trackside.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE_NAME = "state_dict.pth"
"""As ``mlflow.pytorch.log_state_dict`` calls it, so that ``mlflow.pytorch.load_state_dict`` finds it."""

_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}
"""Classes of modules whose weights no rank has alone. To gather them, all ranks have to take part."""


_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Classes around a module, and where they have it. Their prefix in each name keeps others from loading it."""


def is_module(model: Any) -> bool:
    """Whether ``model`` is a torch module."""
    nn = sys.modules.get("torch.nn")
    return nn is not None and isinstance(model, nn.Module)


def write_weights(model: Any, path: Path) -> None:
    """Save the ``state_dict()`` of the module, without what is wrapped around it, with ``torch.save``.

    Raises :class:`ArtifactError` for weights that are spread over processes.
    """
    model = unwrapped(model)
    if is_sharded(model):
        raise ArtifactError(
            f"the weights of {type(model).__name__} are spread over several processes. Save them with "
            "torch.distributed.checkpoint or your framework, and pass the path to log_checkpoint()"
        )
    torch: Any = sys.modules["torch"]
    with torch.no_grad():
        torch.save(model.state_dict(), path)


def unwrapped(model: Any) -> Any:
    """The module in ``DistributedDataParallel`` and ``torch.compile``."""
    while (place := _WRAPPERS.get(type(model).__name__)) is not None:
        model = getattr(model, place)
    return model


def is_sharded(model: Any) -> bool:
    """Whether no process has all the weights: FSDP, tensor parallelism, ZeRO's third stage."""
    if any(_SHARDED.intersection(base.__name__ for base in type(one).__mro__) for one in model.modules()):
        return True
    return any(map(_is_spread, _tensors(model)))


def _is_spread(tensor: Any) -> bool:
    return type(tensor.data).__name__ == "DTensor" or hasattr(tensor, "ds_id")


def _tensors(model: Any) -> Iterable[Any]:
    yield from model.parameters()
    yield from model.buffers()
