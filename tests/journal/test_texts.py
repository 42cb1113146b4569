"""Params, tags and linked metrics in a journal whose process is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import kill_at_random, new_journal, read_all
from trackside.journal.format import LinkedMetricsRecord, MetricsRecord, Record, TextsRecord
from trackside.journal.sealing import Sealer

if TYPE_CHECKING:
    from pathlib import Path


def number_of(record: Record) -> int:
    """The number that the script gave ``record``."""
    if isinstance(record, TextsRecord):
        return int(record.texts["number"])  # type: ignore[union-attr] # a configuration has none
    assert isinstance(record, MetricsRecord)
    if isinstance(record, LinkedMetricsRecord):
        assert record.link.model_id == f"m-{record.step}"
    return record.step


@pytest.mark.parametrize("round_", range(6))
def test_a_killed_process_loses_nothing_it_kept(tmp_path: Path, round_: int) -> None:
    """SIGKILL at a random moment. All that was kept by then can be read, in order, sealed or not."""
    journal = new_journal(tmp_path)
    returned = kill_at_random("keep_until_killed.py", journal)
    if round_ % 2:
        numbers = journal.segment_numbers()
        Sealer(journal).seal(numbers, newest=max(numbers), writer_dead=True)
    found, reader = read_all(journal)
    assert [number_of(record) for record in found] == list(range(1, len(found) + 1))
    assert returned <= len(found) <= returned + 1
    assert (reader.damaged, reader.missing) == (0, 0)
    assert reader.torn <= 1
