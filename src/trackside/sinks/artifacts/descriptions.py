"""What is said of a checkpoint or model besides its files: step, metrics, params, name.

Invariant: what can't be read costs itself, and not the checkpoint. ``on_drop(what, reason)`` is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from trackside.coerce.metrics import to_float_metrics
from trackside.coerce.steps import read_step
from trackside.errors import ArtifactError, CoercionError
from trackside.params import flatten_params
from trackside.sinks.odd_values import brief, encodable_text

if TYPE_CHECKING:
    from collections.abc import Callable

    OnDrop: TypeAlias = Callable[[str, str], None]


def step_of(step: Any, on_drop: OnDrop) -> int | None:
    """The step as an int. None without one."""
    number = None if step is None else read_step(step)
    if number is None and step is not None:
        on_drop("the step", f"{brief(step)} is not a 64-bit whole number. Pass an int")
    return number


def metrics_of(metrics: Any, on_drop: OnDrop) -> dict[str, float]:
    """The metrics as floats. One on an accelerator is waited for, as saving a checkpoint does."""
    try:
        found = to_float_metrics(metrics, lambda key, reason: on_drop(f"metric {key!r}", reason))
    except CoercionError as error:
        on_drop("every metric", str(error))
        return {}
    return {encodable_text(name): value for name, value in found.items()}


def params_of(params: Any, on_drop: OnDrop) -> dict[str, str]:
    """The params as masked texts, those of nested ones under dotted names."""
    try:
        return flatten_params(params, max_depth=None) if params else {}
    except CoercionError as error:
        on_drop("every param", str(error))
        return {}


def name_of(name: Any, call: str) -> str:
    """The name. Raises :class:`ArtifactError` for anything but a text."""
    if not isinstance(name, str) or not name.strip():
        raise ArtifactError(f"name={brief(name)} is not a name. Pass {call} a text that is not empty")
    return encodable_text(name)
