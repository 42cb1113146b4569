"""Runs that are kept and not delivered, read back from their journals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import records_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.session.run import Run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs are kept in a folder of the test, without a shipper."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    yield
    trackside.finish()


def samples(run: Run) -> list[Any]:
    """The samples in the run's journal."""
    return [record for record in records_of(run) if hasattr(record, "named_values")]


def points(run: Run) -> Counter[tuple[str, int]]:
    """How often each name and step is in the run."""
    return Counter((name, one.step) for one in samples(run) for name in one.named_values())


def steps(run: Run, name: str) -> list[int]:
    """The steps of one metric, each as often as it is there."""
    return sorted(step for (key, step), count in points(run).items() if key == name for _ in range(count))


def values(run: Run, name: str) -> list[float]:
    """The values of one metric."""
    found = [one.named_values() for one in samples(run)]
    return [one[name] for one in found if name in one]


def params(run: Run) -> dict[str, str]:
    """The run's params."""
    configs = [record.params for record in records_of(run) if hasattr(record, "params")]
    return {key: value for one in configs for key, value in dict(one).items()}
