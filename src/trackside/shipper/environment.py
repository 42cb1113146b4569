"""Environment variables that change while the training runs: renewed tokens, proxies, cloud credentials.

Every variable counts, because an authentication plug-in may read any name. Left out are those that the
shipper sets for itself, and those that would change where or how it delivers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = ("PYTHON", "TRACKSIDE_", "CUDA_")
_MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_", "MLFLOW_S3_", "MLFLOW_GCS_", "MLFLOW_AZURE_")
_NOT_CREDENTIALS = frozenset({"MLFLOW_TRACKING_URI"})


class Renewal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has changed.

    ``variables`` holds None for one that is gone. ``tracking_uri`` is the same address with other
    credentials.
    """

    variables: dict[str, str | None] = {}
    tracking_uri: str | None = None


def variables() -> dict[str, str]:
    """The variables of this process that the shipper has to know."""
    return {name: value for name, value in os.environ.items() if _matters(name)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """What makes ``now`` of ``before``."""
    changed: dict[str, str | None] = {n: value for n, value in now.items() if before.get(n) != value}
    return changed | dict.fromkeys(before.keys() - now.keys())


def apply(changed: Mapping[str, str | None]) -> None:
    """Make this process's environment so, as far as the shipper has to know it."""
    set_variables({name: value for name, value in changed.items() if _matters(name)})


def set_variables(changed: Mapping[str, str | None]) -> None:
    """Set variables of this process, and unset those that are None."""
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _matters(name: str) -> bool:
    if name.startswith("MLFLOW_"):
        return name.startswith(_MLFLOW_CREDENTIALS) and name not in _NOT_CREDENTIALS
    return not name.startswith(_OURS)
