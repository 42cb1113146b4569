from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.journal.tools import new_journal

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """A new journal, with no segment yet."""
    return new_journal(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path, journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder from which no hard link leads into the journal, as on another file system."""
    link = os.link

    def refuse(source: str, target: str, **options: Any) -> None:
        if str(target).startswith(str(journal.path)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
