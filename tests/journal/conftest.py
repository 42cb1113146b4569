from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import new_journal

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """A new journal, with no segment yet."""
    return new_journal(tmp_path)
