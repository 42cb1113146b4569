from __future__ import annotations

import errno
import logging
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside.journal import cursor as cursor_module
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.reader import Position

numbers = st.integers(0, 2**62 - 1)


@given(
    st.builds(
        Cursor,
        position=st.builds(Position, segment=numbers, offset=numbers, seq=numbers),
        shipped=numbers,
        rejected=numbers,
        damaged=numbers,
        missing=numbers,
    )
)
def test_cursor_comes_back_as_it_was_saved(cursor: Cursor) -> None:
    """Positions and counts survive, durably or not."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cursor-x.json"
        for durable in (False, True):
            save_cursor(path, cursor, durable=durable)
            assert load_cursor(path) == cursor


@pytest.mark.parametrize("data", [None, b"", b'{"position": 3}', b'{"shipped": "many"}', b"\0" * 99])
def test_no_cursor_or_a_damaged_one_begins_at_the_beginning(tmp_path: Path, data: bytes | None) -> None:
    """Sending again is harmless, skipping would not be."""
    path = tmp_path / "cursor-x.json"
    if data is not None:
        path.write_bytes(data)
    assert load_cursor(path) == Cursor(Position(1, 0, 0))


def test_disk_that_refuses_is_reported_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cursor that can't be kept costs sending twice; only a durable one has to be kept."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(cursor_module, "write_even_when_full", refuse)
    path = tmp_path / "cursor-x.json"
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            save_cursor(path, Cursor())
    assert len(caplog.records) == 1
    assert "cursor-x.json could not be saved: [Errno 5]" in caplog.text
    with pytest.raises(OSError, match="Input/output"):
        save_cursor(path, Cursor(), durable=True)
