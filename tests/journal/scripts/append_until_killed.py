"""Append to the journal argv[1] until killed. argv[2] always holds the number of the last append."""

import mmap
import os
import sys

from trackside.journal.directory import JournalDirectory
from trackside.journal.format import MetricsRecord
from trackside.journal.writer import JournalWriter

descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
acknowledged = mmap.mmap(descriptor, 4096)
writer = JournalWriter(JournalDirectory(sys.argv[1]))
print("begun", flush=True)
step = 0
while True:
    step += 1
    values = {f"m{n}": n / 3 for n in range(step % 40)}
    assert writer.append(MetricsRecord(0, 1, step, None, None, values))
    acknowledged[0:8] = step.to_bytes(8, "little")
