"""Check the arguments of ``start()`` before anything is made. Each error says what to write instead."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from trackside.destinations.mlflow.address import checked_address
from trackside.errors import CoercionError, ConfigurationError
from trackside.params import to_plain
from trackside.redaction.known_values import know
from trackside.redaction.redact import secrets_among
from trackside.settings import DEFAULT_TRACKING_URI
from trackside.tag_names import DESCRIPTION_TAG

if TYPE_CHECKING:
    from trackside.settings import Settings

SMALLEST_CAP = 1 << 20
"""Bytes. The journal's first segment has this size, and each delivered segment makes room for the next."""

SYSTEM_METRICS_INTERVAL = 10.0
"""Seconds: the default of MLflow's own monitor."""

ALWAYS: Final = "always"
"""``resume="always"``: resume the run that the checkpoints name, even if it is finished."""

_NAME = re.compile(r"SIG[A-Z0-9]+")
_UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}


def checked_config(config: Any) -> Any:
    """``config`` itself. Raises :class:`ConfigurationError` if it cannot be read as a configuration."""
    if config is None:
        return None
    try:
        plain = to_plain(config)
    except CoercionError as error:
        if isinstance(config, (str, os.PathLike)):
            raise ConfigurationError(
                f"config is {str(config)!r}, which is not read as a file. Load it first, "
                "for example with yaml.safe_load(), and pass the mapping"
            ) from error
        raise ConfigurationError(str(error).replace("a config must be", "config must be", 1)) from error
    know(secrets_among(plain))  # an exception may quote them, on any rank
    return config


def checked_depth(depth: Any) -> int | None:
    """How many levels of the configuration get params of their own. Raises for anything but such a number."""
    if depth is None or (isinstance(depth, int) and not isinstance(depth, bool) and depth >= 0):
        return depth
    raise ConfigurationError(f"flatten_depth must be 0 or more, or None for every level, not {depth!r}")


def checked_wait(wait: Any, settings: Settings) -> bool:
    """Whether to wait for the run. Raises :class:`ConfigurationError` for anything but a bool or None."""
    if wait is not None and not isinstance(wait, bool):
        raise ConfigurationError(
            f"wait must be True, False or None, not {wait!r}. TRACKSIDE_START_TIMEOUT sets the seconds"
        )
    return settings.start_wait if wait is None else wait


def checked_folder(name: str, folder: str | None) -> str | None:
    """A folder that exists or can be made. Raises for empty text and for a file."""
    if folder is None:
        return None
    if not folder.strip():
        raise ConfigurationError(f"{name} is empty. Pass a folder, or None")
    if os.path.isfile(folder):
        raise ConfigurationError(f"{name} {folder!r} is a file. Pass the folder it is in")
    return folder


def checked_signals(given: Any) -> tuple[int, ...]:
    """Signals that a process can handle, as numbers.

    ``given`` is a signal or several, each a number or a name (``"SIGUSR1"``). Raises
    :class:`ConfigurationError` for anything else.
    """
    wanted = [given] if isinstance(given, (str, int)) or not isinstance(given, Iterable) else [*given]
    return tuple(_signal(one) for one in wanted)


def _signal(one: Any) -> int:
    number = getattr(signal, one, None) if isinstance(one, str) and _NAME.fullmatch(one) else one
    if isinstance(number, bool) or not isinstance(number, int) or number not in signal.valid_signals():
        raise ConfigurationError(
            f"terminate_signals: {one!r} is not a signal. Pass signals such as "
            "(signal.SIGTERM, signal.SIGUSR1)"
        )
    if number in _UNCATCHABLE:
        name = signal.Signals(number).name
        raise ConfigurationError(f"terminate_signals: no process can handle {name}. Leave it out")
    return int(number)


def checked_resume(resume: Any) -> bool | Literal["always"]:
    """``resume`` as ``start()`` takes it. Raises :class:`ConfigurationError` for anything else."""
    if isinstance(resume, str) and resume.strip().lower() == ALWAYS:
        return ALWAYS
    if isinstance(resume, int) and resume in {0, 1}:  # True and False are such
        return bool(resume)
    raise ConfigurationError(
        "resume must be True (resume the run that checkpoint_dir names, unless it is finished), "
        f'False (start a new run) or "always" (resume a finished run, too), not {resume!r}'
    )


def checked_interval(system_metrics: bool | float | None) -> float | None:
    """Seconds between two samples of the machine's load. Returns None if it is not sampled.

    None asks MLflow's own variables, and True takes their interval. Raises :class:`ConfigurationError` for
    anything but a positive number.
    """
    wanted: bool | float | str | None = system_metrics
    name = "system_metrics must be True, False or"
    if wanted is None:
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in {"1", "true"}
    if wanted is False:
        return None
    if wanted is True:
        wanted = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SYSTEM_METRICS_INTERVAL
        name = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL must be"
    try:
        seconds = float(wanted)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name} a number of seconds above 0, not {wanted!r}")
    return seconds


def checked_cap(cap: int) -> int:
    """Bytes the journal may take. Raises :class:`ConfigurationError` for anything else, and for too few."""
    whole = isinstance(cap, int) or (isinstance(cap, float) and cap.is_integer())
    if isinstance(cap, bool) or not whole or cap < SMALLEST_CAP:
        raise ConfigurationError(
            f"journal_cap must be a number of bytes, such as 4 * 1024**3 for 4 GiB, and {SMALLEST_CAP} or "
            f"more, not {cap!r}"
        )
    return int(cap)


def chosen_address(settings: Settings, tracking_uri: str | os.PathLike[str] | None) -> str:
    """MLflow's address, from the argument or else the environment.

    Raises :class:`ConfigurationError` for a malformed one.
    """
    given = checked_path("tracking_uri", tracking_uri)
    if given is not None:
        return checked_address(given)
    if settings.tracking_uri is not None:
        return checked_address(settings.tracking_uri, "MLFLOW_TRACKING_URI")
    return DEFAULT_TRACKING_URI


def checked_path(name: str, value: Any) -> str | None:
    """``value`` as text. Raises unless it is text or a path."""
    if isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} must be text or a path, not {type(value).__name__}")
    return checked_text(name, value)


def checked_name(name: str, value: Any) -> str | None:
    """``value`` as text. Raises for empty text, too."""
    text = checked_text(name, value)
    if text is not None and not text.strip():
        raise ConfigurationError(f"{name} is empty. Give a name, or leave it out")
    return text


def checked_text(name: str, value: Any) -> str | None:
    """``value`` as text. Raises unless it is text, a path or a number."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigurationError(f"{name} must be text, not {type(value).__name__}")
    return str(value)


def text_tags(tags: Mapping[str, Any] | None, description: str | None) -> dict[str, str]:
    """The user's tags as text, the description among them. Raises for anything but a mapping."""
    note = checked_text("description", description)
    texts = {} if note is None else {DESCRIPTION_TAG: note}
    if tags is not None:
        to_dict = getattr(tags, "to_dict", None)
        items: Mapping[str, Any] = to_dict() if to_dict is not None else tags
        if not isinstance(items, Mapping):
            raise ConfigurationError(
                f"tags must be a mapping such as {{'team': 'vision'}}, not {type(tags).__name__}. "
                "Pairs become one with dict()"
            )
        texts.update({str(key): str(value) for key, value in items.items()})
    return texts
