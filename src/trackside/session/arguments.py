"""Check what ``start()`` was given before anything is made. Each error says what to write instead."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from typing import Any

from trackside.errors import CoercionError, ConfigurationError
from trackside.params import to_plain
from trackside.redaction.known_values import know
from trackside.redaction.redact import secrets_among

__all__ = ["checked_config", "checked_depth", "checked_folder", "checked_signals"]

_NAME = re.compile(r"SIG[A-Z0-9]+")
_UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}


def checked_config(config: Any) -> Any:
    """``config`` itself; raises :class:`ConfigurationError` for what cannot be read as a configuration."""
    if config is None:
        return None
    try:
        plain = to_plain(config)
    except CoercionError as error:
        if isinstance(config, (str, os.PathLike)):
            msg = (
                f"config is {str(config)!r}, which is not read as a file; load it first, "
                "for example with yaml.safe_load(), and give the mapping"
            )
        else:
            msg = str(error).replace("a config must be", "config must be", 1)
        raise ConfigurationError(msg) from error
    know(secrets_among(plain))  # an exception may quote them, on any rank
    return config


def checked_depth(depth: Any) -> int | None:
    """Levels of the configuration that get params of their own; raises for what is no such number."""
    if depth is None or (isinstance(depth, int) and not isinstance(depth, bool) and depth >= 0):
        return depth
    msg = f"flatten_depth must be 0 or more, or None for every level, not {depth!r}"
    raise ConfigurationError(msg)


def checked_folder(name: str, folder: str | None) -> str | None:
    """A folder that is there, or can be made; raises for empty text and for a file."""
    if folder is None:
        return None
    if not folder.strip():
        msg = f"{name} is empty; give a folder, or None"
        raise ConfigurationError(msg)
    if os.path.isfile(folder):
        msg = f"{name} {folder!r} is a file; give the folder it is in"
        raise ConfigurationError(msg)
    return folder


def checked_signals(given: Any) -> tuple[int, ...]:
    """Signals that a process can handle, as numbers.

    ``given`` is a signal or several, each a number or a name (``"SIGUSR1"``). Raises
    :class:`ConfigurationError` for others.
    """
    wanted = [given] if isinstance(given, (str, int)) or not isinstance(given, Iterable) else [*given]
    return tuple(_signal(one) for one in wanted)


def _signal(one: Any) -> int:
    number = getattr(signal, one, None) if isinstance(one, str) and _NAME.fullmatch(one) else one
    if isinstance(number, bool) or not isinstance(number, int) or number not in signal.valid_signals():
        msg = (
            f"terminate_signals: there is no signal {one!r}; give signals such as "
            "(signal.SIGTERM, signal.SIGUSR1)"
        )
        raise ConfigurationError(msg)
    if number in _UNCATCHABLE:
        msg = f"terminate_signals: no process can handle {signal.Signals(number).name}; leave it out"
        raise ConfigurationError(msg)
    return int(number)
