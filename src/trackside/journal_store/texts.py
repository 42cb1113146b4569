"""Params and tags: which of them go into the journal, and which params MLflow would refuse to change.

Invariant: what MLflow's own store may refuse, or cut, is left to it to judge. So it raises what it raises
without us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from trackside.journal_store.points import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST = {"param": 500, "tag": 5000}
"""Characters of a value that every MLflow takes: those of versions 1 and 2. Longer ones are rare."""


def plain_texts(entities: Iterable[Any], what: str) -> dict[str, str] | None:
    """``entities``, params or tags, as a mapping. None if one of them is for MLflow's own store to judge."""
    texts: dict[str, str] = {}
    for entity in entities:
        key, value = entity.key, entity.value
        if not is_plain_name(key) or type(value) is not str or len(value) > LONGEST[what]:
            return None
        if key in texts and texts[key] != value and what == "param":
            return None
        texts[key] = value
    return texts


def refuse_changes(known: Mapping[str, str], params: Mapping[str, str], run_id: str) -> None:
    """Raise MLflow's error for params that have another value already, as far as this process knows."""
    changed = [key for key, value in params.items() if known.get(key, value) != value]
    if not changed:
        return
    if len(params) == 1:
        key = changed[0]
        raise MlflowException(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with "
            f"value='{known[key]}' for run ID='{run_id}'. Attempted logging new value '{params[key]}'.",
            INVALID_PARAMETER_VALUE,
        )
    pairs = [{"key": key, "old_value": known[key], "new_value": params[key]} for key in changed]
    raise MlflowException(
        f"Changing param values is not allowed. Params were already logged='{pairs}' for run ID='{run_id}'.",
        INVALID_PARAMETER_VALUE,
    )
