"""Make the golden journal of the format that this checkout writes: ``python -m tests.journal.golden.make``.

Run this once, when :data:`trackside.journal.version.FORMAT` has been raised, and commit the new folder. Never
make a journal of an older format again: this checkout no longer writes it.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from trackside.events import MetricLink
from trackside.journal import lossless_json
from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import make_private_directory, write_atomically
from trackside.journal.format import (
    ArtifactRecord,
    ConfigRecord,
    HeldFile,
    LifecycleRecord,
    LinkedMetricsRecord,
    MetricsRecord,
    ParamsRecord,
    Record,
    TagsRecord,
)
from trackside.journal.layouts import LAYOUT_BEGINS, MILLISECOND
from trackside.journal.meta import DestinationSpec, Meta, RunInfo, Target, WorkerState
from trackside.journal.owner import Owner
from trackside.journal.progress import Progress
from trackside.journal.reader import JournalReader
from trackside.journal.samples import Samples
from trackside.journal.scoreboard import SignalSeen
from trackside.journal.sealing import Sealer
from trackside.journal.version import FORMAT
from trackside.journal.writer import JournalWriter
from trackside.shipper.dead_letters import RejectedFile
from trackside.transform import Transform

HERE = Path(__file__).parent
EXPECTED = "expected.json"

CAP = 1 << 15
"""Bytes; segments are a quarter of it."""

DAMAGED = {9: "MessagePack", 60: "sealed"}
"""Records with a flipped bit."""

SEALED_BEFORE = 90
"""Samples with lower numbers are sealed."""

_START_MS = 1_764_268_245_678

ODD_METRICS = [
    {},
    {"nan": math.nan, "inf": math.inf, "-inf": -math.inf},
    {"zero": -0.0, "smallest": 5e-324, "largest": 1.7976931348623157e308},
    {"Verlust Ä/ö": 1.0, "a b.c-d_e": 2.0, "": 3.0, "損失": 4.0},
    {f"layer.{number}": number / 7 for number in range(40)},
]

META = Meta(
    journal_id="golden",
    owner=Owner(
        "node-17", 4242, 1764268200.25, "3f1c pid:[4026531836]", start_ticks=123456, program="0a1b2c"
    ),
    target=Target(
        "https://mlflow.example.org",
        experiment_name="digits",
        run_name="näme",
        tags={"team": "vision"},
        checkpoint_dir="/data/checkpoints",
    ),
    rank=0,
    working_directory="/data",
    started_ms=_START_MS,
    schema=FORMAT,
    cap=CAP,
    terminate_signals=(15, 10),
    job="torchrun-1",
    destinations=(
        DestinationSpec(
            "jsonl", "jsonl", {"path": "points.jsonl"}, Transform(include=("loss*",), every_n_steps=10)
        ),
    ),
    system_metrics=10.0,
)


def records() -> list[Record]:
    """What the journal is made of, in order."""
    metrics: list[Record] = [
        MetricsRecord(0, _START_MS + n, n, n / 4 if n % 2 else None, prefix, values)
        for n, (prefix, values) in enumerate(
            (prefix, values) for prefix in (None, "", "val", "ä/b") for values in ODD_METRICS
        )
    ]
    edges: list[Record] = [
        MetricsRecord(0, 0, -1, -0.5, None, {"loss": 0.5}),
        MetricsRecord(0, 2**63 - 1, 2**63 - 1, math.inf, "epoch", {"epoch": 1.0}),
        MetricsRecord(0, -(2**63), -(2**63), 0.0, None, {"epoch": 7.0}),
    ]
    document = {"lr": 1e-3, "layers": [1, None, True, "x", {"deep": []}], "big": 2**63, "text": "ünï\n\0"}
    before: list[Record] = [
        LifecycleRecord(0, _START_MS, "started"),
        ConfigRecord(0, _START_MS, {"lr": "0.001", "naïve": ""}, document),
    ]
    linked: list[Record] = [
        LinkedMetricsRecord(
            0, _START_MS + 40, 7, None, None, {"accuracy": 0.5, "nan": math.nan}, MetricLink("m-1")
        ),
        LinkedMetricsRecord(
            0, _START_MS + 41, -1, 0.5, "val", {"ä/b": 1.0}, MetricLink("m-2", "digits", "0a1b")
        ),
        LinkedMetricsRecord(0, _START_MS + 42, 2**63 - 1, None, "", {}, MetricLink()),
    ]
    texts: list[Record] = [
        ParamsRecord(0, _START_MS + 43, {"lr": "0.001", "naïve": "", "ünï": "ünï\n\0"}),
        TagsRecord(0, _START_MS + 44, {"stage": "draft", "Verlust": "損失"}),
        TagsRecord(0, _START_MS + 45, {"stage": "final", "empty": ""}),
        ParamsRecord(0, _START_MS + 46, {}),
    ]
    held = HeldFile(
        "0123456789abcdef", "link", "/data/ünï.ckpt", 2**40, 1_764_268_245_678_901_234, writing=True
    )
    small = HeldFile("fedcba9876543210", "copy", "", 3)
    files: list[Record] = [
        ArtifactRecord(0, _START_MS + 47, "text", "notes/ä.txt", held=small, form="file"),
        ArtifactRecord(
            0,
            _START_MS + 48,
            "checkpoint",
            "last",
            2**63 - 1,
            held,
            "file",
            "latest",
            {"metrics": {"loss": 0.5}, "nested": {"list": [1, None, True, "損失", b"bytes"]}},
        ),
        ArtifactRecord(0, _START_MS + 49, "a later kind", "", details={}),
    ]
    after: list[Record] = [
        LifecycleRecord(0, _START_MS + 50, "terminating", signal=15),
        LifecycleRecord(
            0,
            _START_MS + 60,
            "crashed",
            "FAILED",
            "no ünits",
            None,
            None,
            "ValueError",
            'Traceback (most recent call last):\n  File "t"',
        ),
        LifecycleRecord(0, _START_MS + 70, "exited", exit_code=1),
        ConfigRecord(0, _START_MS + 80, {}, {}),
    ]
    return [*before, *metrics, *edges, *linked, *texts, *files, *after]


def samples() -> list[MetricsRecord]:
    """What follows, in order: the names of each come again, so that the journal has layouts for them."""
    made = []
    for n in range(100):
        prefix, epoch = (None, "val", "ä/b")[n % 3], n / 4 if n % 3 == 1 else None
        names = [f"m{number}" for number in range((1, 3, 10)[n % 3])] if n % 7 else ["Verlust", "損失"]
        values = {name: (n + place) / 7 for place, name in enumerate(names)}
        made.append(MetricsRecord(0, _START_MS + 100 + n, n, epoch, prefix, values))
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    for n in range(20):
        values = {"odd": odd[n % 6], "loss": 0.5}
        made.append(MetricsRecord(0, -(2**63) + n, 2**63 - 1 - n, odd[n % 5], "", values))
    return made


def make(path: Path) -> None:
    """Make the journal in ``path``, with what a reader must find in it."""
    shutil.rmtree(path, ignore_errors=True)
    make_private_directory(path)
    journal = JournalDirectory(path)
    write_atomically(journal.meta, lossless_json.encode(META))
    written = _write(journal)
    cursor = Cursor(
        JournalReader(journal).position,
        shipped=12,
        rejected=1,
        merged=3,
        destination={"run": "abc", "open": [1, 2.5, None]},
        transform={"windows": {}},
        configs=1,
        proven=4,
    )
    save_cursor(journal.cursor("mlflow"), msgspec.structs.replace(cursor, position=_position_of(journal, 6)))
    _publish(journal)
    letters = RejectedFile(journal.rejected, "mlflow", after_seq=0)
    for record in (written[1], written[4]):
        assert not isinstance(record, LifecycleRecord | ArtifactRecord)
        letters.add(record, "name too long")
    for seq in DAMAGED:
        _damage(journal, seq)
    _damage_first_layout(journal)
    _tear(journal)
    read = [record for record in written[:-1] if record.seq not in DAMAGED]
    expected = {
        "records": msgspec.to_builtins(read),
        "damaged": len(DAMAGED),
        "missing": 0,
        "torn": 1,
        "points": sum(record.points for record in read),
        "meta": _plain(journal.meta),
        "state": _plain(journal.state),
        "cursor": _plain(journal.cursor("mlflow")),
        "rejected": [json.loads(line) for line in journal.rejected.read_text("utf-8").splitlines()],
        "signals": [[15, 1000, 2000, 2]],
        "dropped": 5,
        "not_kept": [2, ["an image: its shape is strange"]],
    }
    (path / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


def _write(journal: JournalDirectory) -> list[Record]:
    writer = JournalWriter(journal, cap=CAP)
    first, last = records()[:-1], records()[-1]
    written: list[Record] = [*first, *samples(), last]
    for record in first:
        assert writer.append(record), "the cap is too small"
    _write_samples(writer, written[len(first) : -1])
    assert writer.append(last)
    writer.scoreboard.note_signal(15, 1000)
    writer.scoreboard.note_signal(15, 2000)
    writer.scoreboard.note_dropped(5)
    writer.scoreboard.note_not_kept("an image: its shape is strange")
    writer.scoreboard.note_not_kept()
    writer.close()
    for seq, record in enumerate(written, 1):
        record.seq = seq
    return written


def _write_samples(writer: JournalWriter, written: list[Any]) -> None:
    """As the sink does: quickly, where the names are known. The first part is sealed, as the shipper does."""
    quick = Samples(writer)
    for record in written:
        if writer.last_seq == SEALED_BEFORE - 1:
            numbers = writer.directory.segment_numbers()
            Sealer(writer.directory).seal(numbers, newest=max(numbers), writer_dead=True)
        named = (record.metrics, record.step, record.epoch, record.prefix)
        if not quick.log(*named, record.timestamp_ms * MILLISECOND):
            quick.learn(record)
            assert writer.append(record), "the cap is too small"


def _publish(journal: JournalDirectory) -> None:
    progress = Progress(journal)
    progress.update(
        pid=4243,
        phase="retrying",
        run=RunInfo("abc", "1", "mlflow-artifacts:/1/abc", "https://mlflow.example.org/#/abc", name="näme"),
        error="connection refused",
        status="KILLED",
        ownership="held",
        lifecycle=[LifecycleRecord(1, _START_MS, "started")],
        signals=[SignalSeen(15, 1000, 1000, 1)],
        workers={
            "mlflow": WorkerState(error="connection refused"),
            "jsonl": WorkerState("FAILED", finished=True),
        },
    )
    progress.notice("the server is away")


def _plain(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _position_of(journal: JournalDirectory, seq: int) -> Any:
    return next(entry.after for entry in JournalReader(journal).read() if entry.record.seq == seq)


def _damage_first_layout(journal: JournalDirectory) -> None:
    """Flip a bit in a name. There is another copy behind it."""
    path = journal.segment(2)
    data = bytearray(path.read_bytes())
    place = data.index(LAYOUT_BEGINS)
    assert data.count(data[place : place + len(LAYOUT_BEGINS) + 1]) > 1
    data[place + 8] ^= 1
    path.write_bytes(data)


def _damage(journal: JournalDirectory, seq: int) -> None:
    """Flip a bit in the last byte before the position behind the record ``seq`` that is not padding."""
    after = _position_of(journal, seq)
    path = journal.segment(after.segment)
    data = bytearray(path.read_bytes())
    last = max(at for at in range(after.offset) if data[at])
    data[last] ^= 1
    path.write_bytes(data)


def _tear(journal: JournalDirectory) -> None:
    """Leave half of the last record, as a death between two stores does: its header is written last."""
    number = max(n for n in journal.segment_numbers() if any(journal.segment(n).read_bytes()))
    data = journal.segment(number).read_bytes().rstrip(b"\0")
    path = journal.segment(number)
    path.write_bytes(data[:-2].ljust(path.stat().st_size, b"\0"))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if sys.argv[1:] else HERE / f"format-{FORMAT}")
