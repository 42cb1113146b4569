"""The variable that Python sets for itself at its start, in a locale without UTF-8 (PEP 538)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_NAME = "LC_CTYPE"


def drop_coerced_locale(environment: MutableMapping[str, str]) -> None:
    """Take ``LC_CTYPE`` out of ``environment`` if this process was started without it (Linux).

    A command is to find the environment that its user has given, and not what Python has added.
    """
    try:
        with open(f"/proc/{os.getpid()}/environ", "rb") as file:
            given = file.read().split(b"\0")
    except OSError:
        return
    if not any(entry.startswith(f"{_NAME}=".encode()) for entry in given):
        environment.pop(_NAME, None)
