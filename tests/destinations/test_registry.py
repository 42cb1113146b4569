from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from tests.destinations.tools import context
from tests.support.program import run_python
from trackside.destinations import registry
from trackside.destinations.jsonl import JSONLinesDestination
from trackside.errors import ConfigurationError
from trackside.protocols import Destination

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["jsonl", "parquet", "tensorboard", "wandb"]
"""Those that need no options."""


class Own(Destination):
    """A destination of the user's own."""

    def __init__(self, context: Any, url: str, *, retries: int = 3) -> None:
        super().__init__(context)
        self.url, self.retries = url, retries

    def write_metrics(self, batch: Any) -> None:
        """Lose them."""


class Foreign:
    """Has the right methods, but does not derive from the base class."""

    def __init__(self, context: Any) -> None:
        """Keep nothing."""


def test_a_kind_is_made_by_its_short_name(tmp_path: Path):
    """With its options and its context."""
    made = registry.make("jsonl", context(tmp_path, "lines"), {"path": "m.jsonl"})
    assert isinstance(made, JSONLinesDestination)
    assert made.name == "lines"


@pytest.mark.parametrize("name", [f"{__name__}:Own", f"{__name__}.Own"])
def test_a_kind_is_made_by_its_class(tmp_path: Path, name: str):
    """Written as an entry point is, or as YAML files often have it."""
    registry.check(name, {"url": "x"})
    made: Any = registry.make(name, context(tmp_path), {"url": "x"}, importable=[name])
    assert (made.url, made.retries) == ("x", 3)


def test_a_kind_is_found_by_an_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Another package names its destination in the group trackside.destinations."""
    point = importlib.metadata.EntryPoint("own", f"{__name__}:Own", registry.ENTRY_POINT_GROUP)

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [point] if group == registry.ENTRY_POINT_GROUP else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    made: Any = registry.make("own", context(tmp_path), {"url": "x"})
    assert made.url == "x"
    with pytest.raises(ConfigurationError, match=r"did you mean 'own'\?.*jsonl, .*own, parquet"):
        registry.check("owm", {})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "tensorbord",
            {},
            "unknown destination 'tensorbord'; did you mean 'tensorboard'\\?.*: jsonl, .*, or a class",
        ),
        ("", {}, "unknown destination ''. Known: jsonl, "),
        (3, {}, "the type of a destination must be text, not 3"),
        (
            "jsonl",
            {"pth": "x"},
            "option of the destination 'jsonl': 'pth'; did you mean 'path'\\?.*: mode, path, strict",
        ),
        ("jsonl", {"mode": "w"}, "mode='w' is neither 'append' nor 'truncate'"),
        ("jsonl", {"path": "{runname}.jsonl"}, "did you mean 'run_name'"),
        ("jsonl", {"strict": "yes"}, "strict='yes' is neither"),
        ("nowhere.to.be:Found", {}, "needs the package nowhere, which is not installed: install nowhere"),
    ],
)
def test_what_cannot_work_is_said_at_start(kind: Any, options: dict[str, Any], message: str):
    """In the training process, with the nearest name that there is."""
    with pytest.raises(ConfigurationError, match=message):
        registry.check(kind, options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (f"{__name__}:Missing", {}, "can't be loaded from .*Missing"),
        ("tests.nothing:Own", {}, "No module named 'tests.nothing'"),
        (f"{__name__}:pytest", {}, "is not a class"),
        (f"{__name__}:Own", {}, "needs the option 'url'"),
        (f"{__name__}:Foreign", {}, "derive its class from trackside.protocols.Destination"),
        (f"{__name__}:Own", {"url": "x", "retrys": 1}, r"did you mean 'retries'\?"),
    ],
)
def test_what_only_an_import_tells_is_said_in_the_shipper(
    tmp_path: Path, kind: str, options: dict[str, Any], message: str
):
    """Other people's modules may be heavy: the training does not import them."""
    registry.check(kind, options)
    with pytest.raises(ConfigurationError, match=message):
        registry.make(kind, context(tmp_path), options, importable=[kind])


@pytest.mark.parametrize("kind", sorted(registry.EXTRAS))
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, kind: str):
    """What to type is in the message."""
    find = importlib.util.find_spec
    package, extra = registry.EXTRAS[kind]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ConfigurationError, match=rf"pip install 'trackside\[{extra}\]'"):
        registry.check(kind, {})


def test_every_extra_is_one_of_ours():
    """An extra that an error names can be installed."""
    provided = importlib.metadata.metadata("trackside").get_all("Provides-Extra") or []
    assert {extra for _, extra in registry.EXTRAS.values()} <= set(provided)


@pytest.mark.wheel
def test_checking_loads_nothing_heavy():
    """The training process finds out what it can without the libraries."""
    script = (
        "import sys\n"
        "from trackside.destinations import registry\n"
        f"for kind in {KINDS}: registry.check(kind, {{}})\n"
        "print(sorted({'mlflow', 'pyarrow', 'tensorboard', 'torch', 'wandb', 'numpy'} & set(sys.modules)))"
    )
    done = run_python("-c", script)
    assert (done.stdout, done.stderr) == ("[]\n", "")
