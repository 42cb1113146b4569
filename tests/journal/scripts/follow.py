"""Follow the journal argv[1] until argv[2] records are read. Print their steps and the losses."""

import json
import sys
import time

from trackside.journal.directory import JournalDirectory
from trackside.journal.format import MetricsRecord
from trackside.journal.reader import JournalReader

reader = JournalReader(JournalDirectory(sys.argv[1]))
steps: list[int] = []
deadline = time.monotonic() + 50
while len(steps) < int(sys.argv[2]) and time.monotonic() < deadline:
    entries = reader.read()
    steps += [e.record.step for e in entries if isinstance(e.record, MetricsRecord)]
    if not entries:
        time.sleep(0.001)
print(json.dumps({"steps": steps, "lost": reader.damaged + reader.missing + reader.torn}))
