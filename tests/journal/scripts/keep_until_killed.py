"""Keep params, tags, linked and plain metrics in the journal argv[1] until killed. argv[2] counts them."""

import mmap
import os
import sys

from trackside.event_bus.bus import Bus
from trackside.events import LinkedSample, MetricLink, ParamsEvent
from trackside.journal.directory import JournalDirectory
from trackside.journal.writer import JournalWriter
from trackside.sinks.mlflow import MLflowSink

descriptor = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.ftruncate(descriptor, 4096)
acknowledged = mmap.mmap(descriptor, 4096)
bus = Bus()
sink = bus.attach(MLflowSink(JournalWriter(JournalDirectory(sys.argv[1]))))


def keep(number: int) -> None:
    """The record of this number."""
    kind, text = number % 4, "x" * (number % 50)
    if kind == 0:
        assert sink.keep_tags({"number": str(number), "text": text})
    elif kind == 1:
        bus.emit(ParamsEvent({"number": str(number), "text": text}))
    elif kind == 2:
        bus.emit(LinkedSample(number, metrics={"loss": 0.5}, link=MetricLink(f"m-{number}")))
    else:
        bus.log({"loss": 0.5}, step=number)


number = 0
while True:
    number += 1
    keep(number)
    acknowledged[0:8] = number.to_bytes(8, "little")
    if number == 100:
        print("begun", flush=True)
