from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trackside.journal.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


def test_artifacts_wait_until_they_are_sent(tmp_path: Path) -> None:
    """What was put is pending, for a later outbox too, until it is sent; sending twice is fine."""
    outbox = Outbox(tmp_path)
    assert outbox.pending() == []
    outbox.put("config.yaml", "a: 1\n")
    outbox.put("traceback.txt", "boom")
    first, second = Outbox(tmp_path).pending()
    assert (first.name, first.read_text()) == ("config.yaml", "a: 1\n")
    outbox.sent(first)
    outbox.sent(first)
    assert outbox.pending() == [second]


def test_newer_text_replaces_the_older_one(tmp_path: Path) -> None:
    """One file a name, with the last text."""
    outbox = Outbox(tmp_path)
    outbox.put("config.yaml", "a long old text")
    outbox.put("config.yaml", "new")
    assert [path.read_text() for path in outbox.pending()] == ["new"]


def test_text_of_any_kind_is_kept(tmp_path: Path) -> None:
    """Unicode is UTF-8; what is no text (a lone surrogate) is spelled out."""
    outbox = Outbox(tmp_path)
    outbox.put("x", "ünïcode \udc80")
    assert outbox.pending()[0].read_text("utf-8") == "ünïcode \\udc80"


def test_artifacts_are_private_and_half_written_ones_do_not_wait(tmp_path: Path) -> None:
    """Mode 0600 in 0700; the temporary file of a writer that died is no artifact."""
    (tmp_path / "journal").mkdir()
    outbox = Outbox(tmp_path / "journal")
    outbox.put("x", "text")
    (tmp_path / "journal" / "artifacts" / ".y.1234").write_text("ha")
    (waiting,) = outbox.pending()
    assert waiting.stat().st_mode & 0o777 == 0o600
    assert waiting.parent.stat().st_mode & 0o777 == 0o700


def test_a_removed_journal_is_not_made_again(tmp_path: Path) -> None:
    """Somebody removed it on purpose."""
    outbox = Outbox(tmp_path / "journal")
    assert not outbox.has_place()
    with pytest.raises(FileNotFoundError):
        outbox.put("x", "text")
    assert not (tmp_path / "journal").exists()
