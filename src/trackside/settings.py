"""The settings, frozen, and the one function that reads the environment."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from trackside.errors import ConfigurationError
from trackside.system.journal_address import inner_address
from trackside.system.sqlite_address import path_in, text_for

if TYPE_CHECKING:
    from collections.abc import Mapping

Mode: TypeAlias = Literal["online", "offline", "disabled"]
"""``offline`` keeps the journal for ``trackside sync``. ``disabled`` writes and starts nothing."""

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
DEFAULT_DIRECTORY = ".trackside"
DEFAULT_TERMINATE_SIGNALS = (int(signal.SIGTERM),)
DEFAULT_REQUESTS_IN_FLIGHT = 3

PYTHON_VARIABLE = "TRACKSIDE_PYTHON"
RUN_NAME_VARIABLE = "TRACKSIDE_RUN_NAME"
SINKS_VARIABLE = "TRACKSIDE_SINKS"
DESTINATIONS_VARIABLE = "TRACKSIDE_DESTINATIONS"
HELD_FILES_CAP_VARIABLE = "TRACKSIDE_HELD_FILES_CAP"
_MODES = ("online", "offline", "disabled")
_SWITCHES = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}

_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(?:([kmgt])(i?)b?|b|bytes)?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

VARIABLES = frozenset(
    {
        "TRACKSIDE_DIR",
        "TRACKSIDE_MODE",
        "TRACKSIDE_START_TIMEOUT",
        "TRACKSIDE_START_WAIT",
        "TRACKSIDE_EXIT_TIMEOUT",
        "TRACKSIDE_TERMINATE_TIMEOUT",
        "TRACKSIDE_BULK_STORE",
        "TRACKSIDE_REQUESTS_IN_FLIGHT",
        "TRACKSIDE_REST_CLIENT",
        HELD_FILES_CAP_VARIABLE,
        PYTHON_VARIABLE,
        "TRACKSIDE_QUIET",
        RUN_NAME_VARIABLE,
        SINKS_VARIABLE,
        DESTINATIONS_VARIABLE,
    }
)
"""The variables a user may set."""


@dataclass(frozen=True)
class Settings:
    """What the environment says. Arguments of ``start()`` come before it."""

    directory: Path
    mode: Mode
    tracking_uri: str | None
    experiment_name: str | None
    experiment_id: str | None
    run_id: str | None
    start_timeout: float = 15.0
    """Seconds the run's id is waited for, by ``run.run_id`` or ``start(wait=True)``."""
    start_wait: bool = False
    """Whether ``start()`` waits for the run's id, unless its argument ``wait`` says something else."""
    exit_timeout: float = 30.0
    """Seconds the end of the process waits for delivery. The shipper continues after it."""
    terminate_timeout: float = 5.0
    """Seconds a SIGTERM waits for the status, because in a container the shipper dies with process 1."""
    bulk_store: bool = True
    """Whether metrics are written to a database in bulk, rather than through MLflow's own store."""
    requests_in_flight: int = DEFAULT_REQUESTS_IN_FLIGHT
    """How many concurrent requests with metrics an MLflow server gets."""
    rest_client: bool = True
    """Whether a server is talked to by its REST API, without MLflow, where that is possible."""
    held_files_cap: int | None = None
    """Bytes on a disk that files may take while they wait. None: as much as they leave free."""
    quiet: bool = False
    """Whether to leave out the lines at the run's start and end that say where to view it."""
    python: str | None = None
    """The Python interpreter that runs the shipper. None: the one that runs here."""
    run_name: str | None = None
    """The name of a run that the program does not name."""
    sinks: str | None = None
    """More sinks, as :mod:`trackside.session.from_environment` reads them."""
    destinations: str | None = None
    """More destinations, in the same form."""


def read_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from ``TRACKSIDE_*`` and MLflow's variables.

    Raises :class:`ConfigurationError` for an unknown mode, for a timeout or count that is not a number, and
    for a switch that is neither on nor off.
    """
    mode = environment.get("TRACKSIDE_MODE", "").strip().lower() or "online"
    if mode not in _MODES:
        raise ConfigurationError(f"TRACKSIDE_MODE={mode!r} is not a mode. Use one of {', '.join(_MODES)}")
    return Settings(
        directory=_directory(environment.get("TRACKSIDE_DIR", "").strip()),
        mode=cast("Mode", mode),
        tracking_uri=environment_address(environment) or None,
        experiment_name=environment.get("MLFLOW_EXPERIMENT_NAME") or None,
        experiment_id=environment.get("MLFLOW_EXPERIMENT_ID") or None,
        run_id=environment.get("MLFLOW_RUN_ID") or None,
        start_timeout=_seconds(environment, "TRACKSIDE_START_TIMEOUT", 15.0),
        start_wait=_switch(environment, "TRACKSIDE_START_WAIT", default=False),
        exit_timeout=_seconds(environment, "TRACKSIDE_EXIT_TIMEOUT", 30.0),
        terminate_timeout=_seconds(environment, "TRACKSIDE_TERMINATE_TIMEOUT", 5.0),
        bulk_store=_switch(environment, "TRACKSIDE_BULK_STORE", default=True),
        requests_in_flight=_count(environment, "TRACKSIDE_REQUESTS_IN_FLIGHT", DEFAULT_REQUESTS_IN_FLIGHT),
        rest_client=_switch(environment, "TRACKSIDE_REST_CLIENT", default=True),
        held_files_cap=_bytes(environment, HELD_FILES_CAP_VARIABLE),
        quiet=_switch(environment, "TRACKSIDE_QUIET", default=False),
        python=_program(environment, PYTHON_VARIABLE),
        run_name=environment.get(RUN_NAME_VARIABLE, "").strip() or None,
        sinks=environment.get(SINKS_VARIABLE, "").strip() or None,
        destinations=environment.get(DESTINATIONS_VARIABLE, "").strip() or None,
    )


def environment_address(environment: Mapping[str, str] = os.environ) -> str:
    """MLflow's address in ``MLFLOW_TRACKING_URI``, without ``journal+``. Empty where it names none."""
    return inner_address(environment.get("MLFLOW_TRACKING_URI", "").strip())


def mistyped_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return unknown variables that are set, each with the known one that it resembles.

    Other variables with this prefix pass: Kubernetes sets some for a service called trackside.
    """
    names = [name for name in environment if name.startswith("TRACKSIDE_") and name not in VARIABLES]
    near = {name: difflib.get_close_matches(name, sorted(VARIABLES), n=1, cutoff=0.85) for name in names}
    return {name: found[0] for name, found in near.items() if found}


def absolute_tracking_uri(uri: str | os.PathLike[str]) -> str:
    """Return ``uri`` with its sqlite or directory path made absolute, because ``sync`` may run elsewhere."""
    text = os.fspath(uri)
    prefix, separator, path = text.partition("sqlite:///")
    if separator and prefix in {"", "trackside+"} and path and not path.startswith(("/", ":memory:")):
        return f"{prefix}sqlite:///{text_for(str(absolute(path_in(path), 'tracking_uri')))}"
    if text and "://" not in text and not text.startswith(("databricks", "uc", "file:")):
        return str(absolute(text, "tracking_uri"))
    return text


def absolute(path: str, name: str) -> Path:
    """Return ``path``, the value of ``name``, made absolute.

    Raises :class:`ConfigurationError` if it is relative and the working folder was removed.
    """
    try:
        return Path(path).expanduser().absolute()
    except OSError as error:
        raise ConfigurationError(
            f"the working folder was removed, so {name}={path!r} leads nowhere: give an absolute path, "
            "or change to a folder that exists before you start"
        ) from error


def _directory(given: str) -> Path:
    """Return where journals are kept. If another user owns the default folder, use one with our user id."""
    path = absolute(given or DEFAULT_DIRECTORY, "TRACKSIDE_DIR")
    if given:
        return path
    try:
        is_ours = path.lstat().st_uid == os.geteuid()
    except OSError:  # it does not exist, or is not readable: creating it then raises the error
        return path
    return path if is_ours else path.with_name(f"{DEFAULT_DIRECTORY}-{os.geteuid()}")


def _switch(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _SWITCHES:
        raise ConfigurationError(f"{name}={text!r} is not a switch. Use on or off")
    return _SWITCHES[text]


def _program(environment: Mapping[str, str], name: str) -> str | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    found = shutil.which(os.path.expanduser(text))
    if found is None:
        raise ConfigurationError(
            f"{name}={text!r} is not a program that can be run. Give the path of a Python interpreter"
        )
    return os.path.abspath(found)


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(
            f"{name}={text!r} is not a whole number, 1 or more. Leave it out for {default}"
        )
    return int(text)


def _bytes(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    match = _BYTES.fullmatch(text.lower())
    if match is None:
        raise ConfigurationError(f"{name}={text!r} is not a number of bytes. Write one such as 50GB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit or ""])


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(f"{name}={text!r} is not a number of seconds. Write one such as {default:g}")
    return value
