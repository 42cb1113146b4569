"""``trackside``'s public names: exactly these, each with a docstring, each where it says it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
from pathlib import Path

import pytest

import trackside
from trackside import errors

ERRORS = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
}

CALLS = {
    "log_artifact",
    "log_artifacts",
    "log_audio",
    "log_checkpoint",
    "log_dataset",
    "log_dict",
    "log_figure",
    "log_histogram",
    "log_image",
    "log_model",
    "log_table",
    "log_text",
    "log_video",
}
"""Methods of a bus and of a run, too."""

NAMES = (
    ERRORS
    | CALLS
    | {
        "ArtifactEvent",
        "Bus",
        "ConfigEvent",
        "Counts",
        "DeliveryStatus",
        "LifecycleEvent",
        "MetricsSample",
        "Run",
        "Watch",
        "bus",
        "current_run",
        "emit",
        "finish",
        "log",
        "start",
        "start_from_config",
        "unwatch",
        "watch",
    }
)

MODULES = {
    "trackside.coerce": {"to_float", "to_float_metrics"},
    "trackside.event_bus.bus": {"Bus"},
    "trackside.lifecycle": {"LifecycleSubscriber", "ProcessHooks"},
    "trackside.mlflow_utils": {
        "configure_mlflow",
        "end_mlflow_active_run_as_killed",
        "_install_mlflow_failure_hook",
        "flatten_params_for_mlflow",
        "to_float_metrics",
    },
    "trackside.params": {"flatten_params"},
    "trackside.protocols": {"OnArtifact", "OnConfig", "OnLifecycle", "OnMetrics", "Destination", "Probing"},
    "trackside.transform": {"Transformed", "Transformer", "Transform", "TransformOptions", "make_transform"},
    "trackside.sinks": {
        "CallbackSink",
        "ConsoleSink",
        "EarlyStopping",
        "MLflowSink",
        "MemorySink",
        "PrometheusSink",
        "TransformedSink",
        "make_sink",
    },
    "trackside.testing": {"MemorySink", "capture"},
}


@pytest.mark.wheel
def test_all_is_exactly_what_is_public() -> None:
    """A name is added or taken away on purpose, here and there."""
    assert set(trackside.__all__) == NAMES
    assert trackside.__all__ == sorted(trackside.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_can_be_imported_and_is_documented(name: str) -> None:
    """By attribute, by ``from trackside import``, and in ``dir``."""
    value = getattr(trackside, name)
    assert inspect.getdoc(value)
    assert name in dir(trackside)
    namespace: dict[str, object] = {}
    exec(f"from trackside import {name}", namespace)
    assert namespace[name] is value


def test_from_trackside_import_star() -> None:
    """Brings the public names and no others."""
    namespace: dict[str, object] = {}
    exec("from trackside import *", namespace)
    assert namespace.keys() - {"__builtins__"} == NAMES


def test_every_error_is_there() -> None:
    """``except trackside.ConfigurationError`` needs no second import. Each is the one that is raised."""
    assert "ConfigurationError" in ERRORS
    for name in ERRORS:
        assert getattr(trackside, name) is getattr(errors, name)


@pytest.mark.parametrize("name", sorted(NAMES - {"bus"}))
def test_help_begins_with_what_a_user_wants(name: str) -> None:
    """A sentence on what it is. How it is kept true stands in the module's docstring or a comment."""
    text = inspect.getdoc(getattr(trackside, name)) or ""
    assert text.splitlines()[0].endswith(".")
    assert "nvariant" not in text


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module, so that ``hasattr`` works."""
    assert not hasattr(trackside, "nothing")
    with pytest.raises(AttributeError, match="module 'trackside' has no attribute 'nothing'"):
        trackside.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["trackside.transform", "trackside.sinks", "trackside.testing"])
def test_all_of_a_module_is_exactly_what_is_public(module: str) -> None:
    """Lazy or not, each name is in ``__all__`` and in ``dir``, and no other is."""
    found = importlib.import_module(module)
    assert set(found.__all__) == MODULES[module]
    assert set(dir(found)) >= MODULES[module]
    assert not hasattr(found, "nothing")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_start_composes_is_usable_by_hand(module: str) -> None:
    """The parts are where the documentation says, with docstrings of their own."""
    found = importlib.import_module(module)
    for name in MODULES[module]:
        assert inspect.getdoc(getattr(found, name)), name


def test_the_default_bus_is_one() -> None:
    """``trackside.bus`` is where ``log`` and ``emit`` go."""
    seen: list[object] = []
    with trackside.bus.attached(seen.append):
        trackside.log({"loss": 0.5}, step=3, epoch=1, prefix="val")
        trackside.emit(trackside.MetricsSample(4))
    first, second = seen
    assert isinstance(first, trackside.MetricsSample)
    assert (first.step, first.epoch, first.metrics, first.prefix) == (3, 1, {"loss": 0.5}, "val")
    assert second.step == 4  # type: ignore[attr-defined]


def test_lazy_names_are_what_the_type_checker_sees() -> None:
    """The imports for type checkers and the table for the interpreter say the same."""
    tree = ast.parse(Path(trackside.__file__).read_text("utf-8"))
    nodes = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    typed = {
        (alias.asname or alias.name): (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    bus, calls = typed["bus"], [node for node in nodes if isinstance(node, ast.AnnAssign)]
    assert all(ast.unparse(node.value or node) == f"bus.{ast.unparse(node.target)}" for node in calls)
    typed |= {name: (bus[0], f"{bus[1]}.{name}") for name in (ast.unparse(node.target) for node in calls)}
    assert trackside._LAZY.items() <= typed.items()


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_is_the_same_on_the_module_a_bus_and_a_run(name: str) -> None:
    """One signature and one text, and ``help(trackside.log_image)`` shows both."""
    call = getattr(trackside, name)
    on_bus, on_run = getattr(trackside.Bus, name), getattr(trackside.Run, name)
    assert on_bus is on_run
    assert list(inspect.signature(on_bus).parameters) == ["self", *inspect.signature(call).parameters]
    assert call.__self__ is trackside.bus
    page = pydoc.plain(pydoc.render_doc(call))
    assert f"{name}(" in page
    assert str(inspect.getdoc(call)).splitlines()[0] in page


def test_every_module_says_what_it_is_for() -> None:
    """A docstring at the head of each."""
    paths = list(Path(trackside.__file__).parent.rglob("*.py"))
    assert len(paths) > 50
    silent = [path for path in paths if not path.read_text("utf-8").startswith(('"""', 'r"""'))]
    assert silent == []
