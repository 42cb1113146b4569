"""Append to a journal in argv[1] where nothing can be mapped (RLIMIT_AS). Print what was kept."""

import json
import resource
import sys

from trackside.journal.directory import create_directory
from trackside.journal.format import MetricsRecord
from trackside.journal.reader import JournalReader
from trackside.journal.scoreboard import read_signals
from trackside.journal.writer import JournalWriter
from trackside.system.mapping import FileBuffer

holes = [bytes(60_000) for _ in range(20)]
del holes[::2]  # malloc can reuse these, for a directory that is listed
with open("/proc/self/statm", encoding="ascii") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
journal = create_directory(sys.argv[1], "x")
writer = JournalWriter(journal)
mapped = not isinstance(writer.segment.buffer, FileBuffer)
kept = sum(writer.append(MetricsRecord(0, 1, n, None, None, {"x": 1.0})) for n in range(1000))
writer.scoreboard.note_signal(15, 7)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
reader = JournalReader(journal)
read = 0
while entries := reader.read():
    read += len(entries)
signals = [seen.number for seen in read_signals(journal.scoreboard)]
print(json.dumps({"mapped": mapped, "kept": kept, "read": read, "signals": signals}))
