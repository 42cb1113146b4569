"""What a claim keeps of a file or folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trackside.journal.directory import create_directory
from trackside.journal.held_files import HeldFiles, content_of

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """A new journal."""
    return create_directory(tmp_path / "journals", "run")


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_a_claim_keeps_a_file_that_is_deleted(journal, tmp_path, size):
    """Whatever the size, the bytes are there after the original is gone."""
    path, content = tmp_path / "last.ckpt", os.urandom(size)
    path.write_bytes(content)
    held = HeldFiles(journal).hold_file(path)
    path.unlink()
    assert content_of(journal, held).read_bytes() == content
    assert held.size == size


def test_a_claim_on_a_folder_keeps_all_files_under_it(journal, tmp_path):
    """Files in nested folders, small and large, are there after the original is gone."""
    folder = tmp_path / "checkpoint-500"
    contents = {"a.json": b"{}", "nested/deep/model.bin": os.urandom(300_000)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    held = HeldFiles(journal).hold_folder(folder)
    for name in contents:
        (folder / name).unlink()
    assert {name: (content_of(journal, held) / name).read_bytes() for name in contents} == contents
