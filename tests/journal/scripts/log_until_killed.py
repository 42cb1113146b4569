"""Log samples into the journal argv[1] until killed. argv[2] always holds the step of the last one."""

import mmap
import os
import sys

from trackside.event_bus.bus import Bus
from trackside.journal.directory import JournalDirectory
from trackside.journal.writer import JournalWriter
from trackside.sinks.mlflow import MLflowSink

descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
acknowledged = mmap.mmap(descriptor, 4096)
bus = Bus()
bus.attach(MLflowSink(JournalWriter(JournalDirectory(sys.argv[1]))))
several = [{f"m{n}": n / 3 for n in range(many)} for many in (10, 10, 10, 1, 40, 100)]
for step in range(1, 101):
    bus.log(several[step % len(several)], step=step)
    acknowledged[0:8] = step.to_bytes(8, "little")
print("begun", flush=True)
while True:
    step += 1
    bus.log(several[step % len(several)], step=step)
    acknowledged[0:8] = step.to_bytes(8, "little")
