"""A family of processes for each test, or just the folder of a parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parent_process.family import Family
from trackside.system import parent_folder
from trackside.system.parent_folder import make_parent_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A parent's folder, as its children see it."""
    found = make_parent_folder(["/no/such/place", str(tmp_path)])
    assert found is not None
    monkeypatch.setenv(parent_folder.VARIABLE, found)
    return found


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """A place for one ``trackside run``. What still runs at the end of the test is killed."""
    found = Family(tmp_path)
    found.journals.mkdir()
    found.records.mkdir()
    yield found
    found.end()
