"""Log a file and a folder, then replace and delete them, until killed. Each has its number in every byte.

argv[1] is the journal, argv[2] always holds the number of the last one, argv[3] is a folder to write to.
"""

import mmap
import os
import shutil
import sys
from pathlib import Path

from trackside.event_bus.bus import Bus
from trackside.journal.directory import JournalDirectory
from trackside.journal.writer import JournalWriter
from trackside.sinks.mlflow import MLflowSink

descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
acknowledged = mmap.mmap(descriptor, 4096)
bus = Bus()
bus.attach(MLflowSink(JournalWriter(JournalDirectory(sys.argv[1]))))
place = Path(sys.argv[3])
number = 0
while True:
    number += 1
    content = number.to_bytes(4, "little")
    (place / "new").write_bytes(content * 40_000)
    (place / "new").rename(place / "last.ckpt")
    bus.log_artifact(place / "last.ckpt")
    folder = place / f"checkpoint-{number}"
    folder.mkdir()
    (folder / "small").write_bytes(content)
    (folder / "large").write_bytes(content * 40_000)
    bus.log_artifacts(folder, f"checkpoint-{number}")
    shutil.rmtree(folder)
    acknowledged[0:8] = number.to_bytes(8, "little")
    if number == 5:
        print("begun", flush=True)
