"""The options that type checkers know of are those that the code takes."""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any, get_args

import pytest

import trackside
from trackside import sinks
from trackside.destinations.registry import KINDS
from trackside.session import options
from trackside.sinks.registry import known_sinks
from trackside.transform import Transform, TransformOptions

OF_SINKS: dict[str, tuple[Any, Any]] = {
    "console": (options.ConsoleOptions, sinks.ConsoleSink),
    "memory": (options.MemoryOptions, sinks.MemorySink),
    "prometheus": (options.PrometheusOptions, sinks.PrometheusSink),
}
OF_DESTINATIONS: dict[str, Any] = {
    "jsonl": options.JSONLinesOptions,
    "mlflow": options.MLflowOptions,
    "parquet": options.ParquetOptions,
    "tensorboard": options.TensorBoardOptions,
    "wandb": options.WandbOptions,
}


def parameters(function: Any) -> set[str]:
    """The names that it takes."""
    return set(inspect.signature(function).parameters)


def keys(typed: Any) -> tuple[set[str], set[str]]:
    """The required ones, and the others. ``TypedDict`` does not read annotations that are text."""
    written = {name: getattr(kind, "__forward_arg__", "") for name, kind in typed.__annotations__.items()}
    required = {name for name, kind in written.items() if kind.startswith("Required[")}
    return required, set(written) - required


@pytest.mark.parametrize("name", known_sinks())
def test_a_sinks_options_are_what_its_class_takes(name: str) -> None:
    """Beside the type, and the transform that every sink may have."""
    typed, cls = OF_SINKS[name]
    assert keys(typed) == ({"type"}, parameters(cls) | {"transform"})


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_destinations_options_are_what_its_class_takes(name: str) -> None:
    """Beside the type, the name and the transform. The context is the shipper's."""
    typed = OF_DESTINATIONS[name]
    taken = parameters(pkgutil.resolve_name(KINDS[name])) - {"context"}
    assert keys(typed) == ({"type"}, taken | {"name", "transform"})


def test_the_names_are_those_that_exist() -> None:
    """A second MLflow server needs an address, so its name alone is not offered."""
    assert set(get_args(options.SinkName)) == set(OF_SINKS)
    assert set(get_args(options.DestinationName)) == set(KINDS) - {"mlflow"}


def test_a_transforms_options_are_its_fields() -> None:
    """All of them optional."""
    assert TransformOptions.__optional_keys__ == set(Transform.__struct_fields__)


def test_start_from_config_takes_what_start_takes() -> None:
    """An override is an argument of ``start()``."""
    assert options.StartOptions.__optional_keys__ == parameters(trackside.start)
