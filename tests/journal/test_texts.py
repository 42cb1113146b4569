"""Params, tags and linked metrics in a journal whose process is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import SCRIPTS, new_journal, read_all
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
    acknowledged = tmp_path / "acknowledged"
    command = [sys.executable, str(SCRIPTS / "keep_until_killed.py"), str(journal.path), str(acknowledged)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    time.sleep(random.uniform(0, 0.05))
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    if round_ % 2:
        numbers = journal.segment_numbers()
        Sealer(journal).seal(numbers, newest=max(numbers), writer_dead=True)
    returned = int.from_bytes(acknowledged.read_bytes()[:8], "little")
    found, reader = read_all(journal)
    assert [number_of(record) for record in found] == list(range(1, len(found) + 1))
    assert returned <= len(found) <= returned + 1
    assert (reader.damaged, reader.missing) == (0, 0)
    assert reader.torn <= 1
