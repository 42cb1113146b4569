"""Seal a journal until killed, a page at a time: ``python seal.py JOURNAL``."""

from __future__ import annotations

import sys
from pathlib import Path

from trackside.journal import sealing
from trackside.journal.directory import JournalDirectory

journal = JournalDirectory(Path(sys.argv[1]))
sealing._STEP = 4096
print("sealing", flush=True)
while True:
    sealing.Sealer(journal).seal([1], newest=1, writer_dead=True)
