"""Start a run from configuration as data: a mapping, so YAML, Hydra or a recipe's own object.

Two sections are read, both optional. ``mlflow`` has the keys of the recipes this project grew from, as they
are, and ``trackside`` has what only trackside knows. Everything else in the configuration belongs to your
training. All of it is logged as the run's configuration::

    mlflow:
      experiment_name: digits
      tracking_uri: http://mlflow:5000
      tags: {team: vision}
    trackside:
      sinks: [console]
      destinations:
        - tensorboard
        - {type: jsonl, path: metrics.jsonl, transform: {every_n_steps: 10}}
      system_metrics: 30
    checkpoint:
      checkpoint_dir: checkpoints
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from trackside.errors import CoercionError, ConfigurationError
from trackside.params import to_plain
from trackside.plugins import unknown_name
from trackside.session.arguments import checked_signals
from trackside.session.start import start

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trackside.session.options import StartOptions
    from trackside.session.run import Run

MLFLOW_KEYS = (
    "experiment_name",
    "run_name",
    "tracking_uri",
    "artifact_location",
    "tags",
    "description",
    "resume",
    "flatten_depth",
)
"""What a section ``mlflow`` may have: the keys of ``mlflow_utils.configure_mlflow``."""

OWN_KEYS = (
    "sinks",
    "destinations",
    "system_metrics",
    "checkpoint_dir",
    "parent_run_id",
    "terminate_signals",
    "journal_cap",
    "expected",
    "wait",
    "run_id",
)
"""What a section ``trackside`` may have: arguments of ``start()``."""


def start_from_config(cfg: Any, **overrides: Unpack[StartOptions]) -> Run:
    """Start a run as ``cfg`` says, with ``cfg`` as its configuration.

    ``overrides`` are arguments of ``start()`` and come first. ``cfg`` is a mapping, OmegaConf, pydantic or
    dataclass object, or has ``get(key)`` and ``to_yaml_dict()`` as NeMo's has. ``trackside.checkpoint_dir``
    or else ``checkpoint.checkpoint_dir`` is where the run's id is kept. A key left empty (``run_name:``)
    counts as left out. Signals may be given by name (``SIGUSR1``).

    Raises what ``start()`` raises, and :class:`~trackside.errors.ConfigurationError` for an unknown key.
    """
    arguments = arguments_from(cfg)
    arguments.update(overrides)
    return start(**arguments)


def arguments_from(cfg: Any) -> dict[str, Any]:
    """The arguments of ``start()`` that ``cfg`` stands for. Raises as :func:`start_from_config`."""
    if isinstance(cfg, (str, os.PathLike)):
        raise ConfigurationError(
            f"start_from_config() takes a configuration, not the name of its file {str(cfg)!r}. "
            "Load it first, for example with yaml.safe_load()"
        )
    arguments = _checked("mlflow", cfg, MLFLOW_KEYS)
    arguments.update(_checked("trackside", cfg, OWN_KEYS))
    if "checkpoint_dir" not in arguments:
        arguments["checkpoint_dir"] = _items("checkpoint", _section(cfg, "checkpoint")).get("checkpoint_dir")
    if "terminate_signals" in arguments:
        arguments["terminate_signals"] = [*checked_signals(arguments["terminate_signals"])]
    for name in ("sinks", "destinations"):
        if name in arguments:
            arguments[name] = _entries(name, arguments[name])
    return {"config": cfg, **arguments}


def _checked(name: str, cfg: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """The keys that the section has. Raises for an unknown one."""
    items = _items(name, _section(cfg, name))
    for key in items:
        if key not in known:
            raise ConfigurationError(unknown_name(f"key of the section {name!r}", key, known))
    # "None" is a value here: params of every level.
    return {key: value for key, value in items.items() if value is not None or key == "flatten_depth"}


def _section(cfg: Any, name: str) -> Any:
    """``cfg``'s section as it is: the sinks in it may be objects."""
    get = getattr(cfg, "get", None)
    return get(name) if callable(get) else getattr(cfg, name, None)


def _items(name: str, section: Any) -> dict[str, Any]:
    if section is None:
        return {}
    if isinstance(section, Mapping):
        return {str(key): section[key] for key in section}
    try:
        return to_plain(section)
    except CoercionError as error:
        message = f"the section {name!r} must be a mapping of options, not {type(section).__name__}"
        raise ConfigurationError(message) from error


def _entries(name: str, given: Any) -> list[Any]:
    """A list's entries: names, mappings, or for sinks objects that are one already."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"trackside.{name} must be a list, even for one: not {type(given).__name__}, but [...]"
        )
    return [_entry(one) for one in given]


def _entry(one: Any) -> Any:
    if isinstance(one, Mapping):
        return to_plain(one)
    if hasattr(type(one), "model_dump") or hasattr(type(one), "__dataclass_fields__"):
        plain = to_plain(one)
        return plain if "type" in plain else one
    return one
