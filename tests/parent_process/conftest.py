"""A family of processes for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parent_process.family import Family

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """A place for one ``trackside run``. What still runs at the end of the test is killed."""
    found = Family(tmp_path)
    found.journals.mkdir()
    found.records.mkdir()
    yield found
    found.end()
