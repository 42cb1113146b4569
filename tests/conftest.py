"""Settings of the whole suite, what is left out of it without torch, and the fixture that every test has."""

from __future__ import annotations

import functools
import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import tiers
from trackside.redaction import known_values as known_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell starts background jobs with SIGINT ignored, and an ignored signal stays ignored in every child:
# the trainings under test are to be started as a terminal would.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests choose their own servers: never write to the one that the developer happens to use.
for _name in list(os.environ):
    if _name.startswith(("MLFLOW_", "TRACKSIDE_")):
        del os.environ[_name]
os.environ["TRACKSIDE_START_TIMEOUT"] = "60"  # a busy machine: MLflow's import alone may take the 15 s
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # no stray threads, nothing sent
os.environ["TRACKSIDE_QUIET"] = (
    "on"  # tests read stderr for what went wrong; tests/session/test_announce.py unsets it
)

_HERE = Path(__file__).parent
_LEFT_OUT = pytest.StashKey[int]()
_HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    """Set what Hypothesis does. Not where xdist's workers run the tests: the import takes half a second."""
    if getattr(config.option, "dist", "no") != "no":
        return
    from hypothesis import settings

    # No deadline: two workers and their child processes share two cores.
    # In CI the examples are fixed, so that a red run is about the change; elsewhere they explore.
    settings.register_profile("local", deadline=None)
    settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
    name = "ci" if os.environ.get("CI") else "local"
    if config.option.markexpr.startswith("unit"):  # a quick look: `make test` tries more
        settings.register_profile("quick", settings.get_profile(name), max_examples=30)
        name = "quick"
    settings.load_profile(name)


def _needs_torch(path: Path) -> bool:
    """Whether a test file imports torch as it is loaded. A program in a text of it does not count."""
    return any(name.partition(".")[0] == "torch" for name in tiers.imports_of(path))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what can't be imported without torch, and what `make unit` would import for long."""
    conftest = collection_path / "conftest.py"
    path = conftest if conftest.exists() else collection_path
    if path.suffix != ".py" or not path.is_file():
        return None
    heavy = config.option.markexpr.startswith("unit") and not tiers.is_light(path)
    return True if heavy or (not _HAS_TORCH and _needs_torch(path)) else None


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the unit tests, and those that need an MLflow server."""
    fixtures = getattr(item, "fixturenames", ())
    if item.get_closest_marker("outside") is None:
        outside = _outside_names(item.path)
        test = item.nodeid.split("::")[1].partition("[")[0]
        if outside is not None and outside.isdisjoint([test, *fixtures]):
            item.add_marker("unit")
    if "shared_server" in fixtures:
        item.add_marker("process")


@functools.cache
def _outside_names(path: Path) -> frozenset[str] | None:
    """What leads outside in a test file and its conftests. None if one of them imports something heavy."""
    folders = [folder for folder in path.parents if folder.is_relative_to(_HERE)]
    files = [path, *(file for folder in folders if (file := folder / "conftest.py").exists())]
    if not all(map(tiers.is_light, files)):
        return None
    return frozenset().union(*map(tiers.outside_names, files))


@pytest.fixture(autouse=True)
def _unit_tests_stay_inside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a unit test that starts a process, opens a connection or imports MLflow."""
    if request.node.get_closest_marker("unit") is None:
        yield
        return
    with tiers.guard():
        yield


@pytest.fixture(autouse=True)
def _first_shipper_of_each_test() -> Iterator[None]:
    """The first run of a test has a shipper that is started from scratch, as the first of a process."""
    yield
    module = sys.modules.get("trackside.session.further_shippers")
    if module is not None:
        module.further_shippers.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests out whose programs import torch."""
    if not _HAS_TORCH:
        left_out = [item for item in items if item.get_closest_marker("torch") is not None]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[_LEFT_OUT] = len(left_out)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say how many tests are missing without torch."""
    if _HAS_TORCH:
        return []
    files = [path for path in _HERE.rglob("test_*.py") if _needs_torch(path)]
    functions = sum(path.read_text("utf-8").count("\ndef test_") for path in files)
    count = config.stash.get(_LEFT_OUT, 0)
    return [f"torch: {count} tests left out, and the {functions} test functions of {len(files)} files"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while modules are imported, and keep what they made out of later collections.

    A full one takes a third of a second with MLflow.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_report_header() -> str:
    """Say what is left out: a suite that is green without it has not tried everything."""
    if _HAS_TORCH:
        return "torch: installed"
    files = sorted(path.name for path in Path(__file__).parent.rglob("test_*.py") if _needs_torch(path))
    names = ", ".join(files)
    return f"torch: not installed. Left out: {len(files)} files ({names}) and the tests marked `torch`"


@pytest.fixture(autouse=True)
def _nothing_of_other_tests() -> Iterator[None]:
    """No password of another test is masked here, and no address of MLflow's and no no-op run is left behind.

    MLflow and the shipper's code, which some tests run in this process, set variables for good. Without
    ``monkeypatch``, which would then be undone behind the fixtures that look whether a test has tidied up.
    """
    told, known_secrets._told = known_secrets._told, set()
    before = _where_to_log()
    yield
    current = sys.modules.get("trackside.session.current")
    if current is not None:
        current.end_noop_run(current.default_bus)
    known_secrets._told = told
    for name in _where_to_log():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store of MLflow's for all tests of a module."""
    from tests.ends.harness import new_database

    return new_database(tmp_path_factory.mktemp("store"))


@pytest.fixture
def handlers_put_back() -> Iterator[None]:
    """For tests that run a shipper in this process: the signal handlers it sets for itself are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _where_to_log() -> dict[str, str]:
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")
    return {name: os.environ[name] for name in names if name in os.environ}
