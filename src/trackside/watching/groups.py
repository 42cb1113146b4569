"""From a parameter's name to the name of its group of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from trackside.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Final

GroupBy: TypeAlias = Literal["layers", "parameters", "total"] | Callable[[str], str | None]
"""What ``watch(groups=...)`` takes: a built-in way, or a function from a parameter's name to its group."""

TOTAL: Final = "total"
"""The group with all parameters in it."""

_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
"""What DistributedDataParallel, ``torch.compile``, FSDP, checkpointing and Lightning put into names."""


def checked_groups(groups: GroupBy) -> Callable[[str], str | None]:
    """The function that ``groups`` means. Raises :class:`ConfigurationError` for anything else."""
    if callable(groups):
        return groups
    known = {"layers": by_layer, "parameters": by_parameter, "total": lambda _name: None}
    if groups not in known:
        raise ConfigurationError(
            "groups must be 'layers', 'parameters', 'total' or a function of a parameter's name, "
            f"not {groups!r}"
        )
    return known[groups]


def by_layer(name: str) -> str:
    """The layer of a parameter: the name up to its first number, or else the module that owns it.

    ``model.layers.3.mlp.up_proj.weight`` is in ``model.layers.3``, and ``lm_head.weight`` in ``lm_head``.
    """
    parts = name.split(".")
    for index, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: index + 1])
    return ".".join(parts[:-1]) or name


def by_parameter(name: str) -> str:
    """Each parameter is a group of its own."""
    return name


def plain_name(name: str) -> str:
    """The name as the model itself has it, without what wrappers have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name
