"""The journal against a plain list: in any order of operations, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.journal.tools import Interrupt, lost, new_journal, small_segments
from trackside.events import MetricLink
from trackside.journal import sealing
from trackside.journal import writer as writer_module
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.format import (
    ConfigRecord,
    LifecycleRecord,
    LinkedMetricsRecord,
    MetricsRecord,
    ParamsRecord,
    Record,
    TagsRecord,
)
from trackside.journal.layouts import MILLISECOND
from trackside.journal.reader import Entry, JournalReader, is_begun
from trackside.journal.samples import Samples
from trackside.journal.sealing import Sealer
from trackside.journal.supply import segment_ready_after
from trackside.journal.writer import JournalWriter


def interrupted() -> None:
    """A Ctrl-C."""
    raise KeyboardInterrupt


class Emitted:
    """What was emitted, in order: the time stamp that names it, and whether it must be there.

    An append that was interrupted may have been kept or not. ``place`` is what the reader has passed.
    """

    def __init__(self) -> None:
        self.names: list[int] = []
        self.sure: list[bool] = []
        self.place = 0

    def add(self, name: int, *, sure: bool) -> None:
        self.names.append(name)
        self.sure.append(sure)

    def was_read(self, name: int) -> None:
        """Check that ``name`` is the next one that must be there, or one that may be before it."""
        while self.names[self.place : self.place + 1] != [name]:
            assert self.place < len(self.names), f"{name} is invented, doubled or out of order"
            assert not self.sure[self.place], f"{self.names[self.place]} is lost"
            self.place += 1
        self.place += 1

    def nothing_is_left(self) -> None:
        assert not any(self.sure[self.place :]), "something is lost at the end"


class JournalMachine(RuleBasedStateMachine):
    """A trainer and a shipper around one journal, taking turns."""

    cap = 1 << 30

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(writer_module, "RETRY_AFTER", 0.0)
        self.patch.setattr(sealing, "SETTLED_AFTER", 0.0)
        self.small = small_segments(512, reserve=96)
        self.small.__enter__()
        self.names = 0
        self.dropped = 0
        self.begun = False

    @initialize()
    def begin(self) -> None:
        """A new attempt, with nothing in it."""
        self.journal = new_journal(self.root)
        self.writer = JournalWriter(self.journal, cap=self.cap)
        self.samples = Samples(self.writer)
        self.emitted = Emitted()
        self.cursor = Cursor()
        self.acknowledged = 0
        self.dropped = 0
        self.reader = JournalReader(self.journal)
        self.sealer = Sealer(self.journal)
        self.begun = True

    # The trainer

    @rule(size=st.sampled_from([0, 1, 1, 2, 3, 5, 8, 30, 200]), times=st.integers(1, 12))
    def append_samples(self, size: int, times: int) -> None:
        for _ in range(times):
            name = self.new_name()
            values = {f"m{n}": 1.0 for n in range(size)}
            self.append(MetricsRecord(0, name, 1, None, None, values), name)

    @rule(
        size=st.sampled_from([0, 1, 1, 2, 3, 8, 30]),
        times=st.integers(1, 12),
        epoch=st.none() | st.just(1.0),
        renamed=st.booleans(),
    )
    def log_samples(self, size: int, times: int, epoch: float | None, renamed: bool) -> None:
        """Under names that are mostly known already."""
        for _ in range(times):
            name = self.new_name()
            values = {f"{name if renamed else 'm'}{n}": 1.0 for n in range(size)}
            if self.samples.log(values, 1, epoch, None, name * MILLISECOND):
                self.emitted.add(name, sure=True)
            else:
                record = MetricsRecord(0, name, 1, epoch, None, values)
                self.append(record, name)
                self.samples.learn(record)

    @rule(place=st.integers(1, 8), size=st.sampled_from([1, 3, 8]))
    def log_interrupted(self, place: int, size: int) -> None:
        """A KeyboardInterrupt somewhere in the midst of it."""
        name = self.new_name()
        kept = False
        with contextlib.suppress(KeyboardInterrupt), Interrupt(place, interrupted) as interrupt:
            kept = self.samples.log({f"m{n}": 1.0 for n in range(size)}, 1, None, None, name * MILLISECOND)
        if kept or interrupt.came:
            self.emitted.add(name, sure=kept)

    @rule(place=st.integers(1, 8), size=st.sampled_from([1, 3, 8]), again=st.integers(1, 3))
    def log_in_a_handler(self, place: int, size: int, again: int) -> None:
        """A signal handler that logs as well, whether it comes before the sample or after it."""
        values = {f"m{n}": 1.0 for n in range(size)}
        name, own = self.new_name(), [self.new_name() for _ in range(again)]

        def handler() -> None:
            order.extend(each for each in own if self.samples.log(values, 1, None, None, each * MILLISECOND))

        order: list[int] = []
        with Interrupt(place, handler):
            kept = self.samples.log(values, 1, None, None, name * MILLISECOND)
        # Both orders are right. The journal has one of them.
        written = [entry.record.timestamp_ms for entry in self.peek()]
        assert sorted(written) == sorted([*order, *[name] * kept])
        for each in written:
            self.emitted.add(each, sure=True)

    def peek(self) -> list[Entry]:
        """What was written since the last of ``emitted``, read by a reader of its own."""
        reader = JournalReader(self.journal, self.cursor.position)
        found: list[Entry] = []
        while entries := reader.read():
            found += entries
        reader.close()
        known = set(self.emitted.names)
        return [entry for entry in found if entry.record.timestamp_ms not in known]

    @rule()
    def append_lifecycle(self) -> None:
        name = self.new_name()
        self.append(LifecycleRecord(0, name, "crashed", message="x" * (name % 30)), name)

    @rule(size=st.integers(0, 3000))
    def append_config(self, size: int) -> None:
        name = self.new_name()
        self.append(ConfigRecord(0, name, {"key": "x" * size}, {}), name)

    @rule(
        kind=st.sampled_from([ParamsRecord, TagsRecord]), size=st.integers(0, 300), times=st.integers(1, 12)
    )
    def append_texts(self, kind: type[ParamsRecord | TagsRecord], size: int, times: int) -> None:
        """Params or tags one by one, between samples of known names."""
        for _ in range(times):
            name = self.new_name()
            self.append(kind(0, name, {"key": "x" * size}), name)

    @rule(size=st.sampled_from([0, 1, 3, 30]), times=st.integers(1, 3))
    def append_linked_metrics(self, size: int, times: int) -> None:
        for _ in range(times):
            name = self.new_name()
            values = {f"m{n}": 1.0 for n in range(size)}
            self.append(LinkedMetricsRecord(0, name, 1, None, None, values, MetricLink("m-1")), name)

    @rule(place=st.integers(1, 40), size=st.sampled_from([0, 3, 30]))
    def append_interrupted(self, place: int, size: int) -> None:
        """A KeyboardInterrupt somewhere in the midst of it."""
        name = self.new_name()
        values = {f"m{n}": 1.0 for n in range(size)}
        dropped = self.writer.scoreboard.dropped_samples
        try:
            with Interrupt(place, interrupted):
                kept = self.writer.append(MetricsRecord(0, name, 1, None, None, values))
        except KeyboardInterrupt:
            self.emitted.add(name, sure=False)
            self.dropped += self.writer.scoreboard.dropped_samples - dropped
        else:
            self.note(name, kept=kept)

    @rule()
    def append_what_cannot_be_encoded(self) -> None:
        with pytest.raises(OverflowError):
            self.writer.append(MetricsRecord(0, 1, 2**70, None, None, {}))

    def new_name(self) -> int:
        self.names += 1
        return self.names

    def append(self, record: Record, name: int) -> None:
        self.note(name, kept=self.writer.append(record))

    def note(self, name: int, *, kept: bool) -> None:
        if kept:
            self.emitted.add(name, sure=True)
        else:
            self.dropped += 1

    # The shipper

    @rule(limit=st.integers(1, 30))
    def read(self, limit: int) -> None:
        for entry in self.reader.read(limit):
            self.emitted.was_read(entry.record.timestamp_ms)
            self.cursor.position = entry.after

    @rule()
    def acknowledge(self) -> None:
        save_cursor(self.journal.cursor("x"), self.cursor, durable=True)
        self.acknowledged = self.emitted.place
        for number in self.journal.segment_numbers():
            if number < self.cursor.position.segment:
                self.journal.segment(number).unlink()

    @rule()
    def restart_shipper(self) -> None:
        """It begins again behind what was acknowledged."""
        self.reader.close()
        self.sealer = Sealer(self.journal)
        self.cursor = load_cursor(self.journal.cursor("x"))
        self.reader = JournalReader(self.journal, self.cursor.position)
        self.emitted.place = self.acknowledged

    @rule()
    def make_next_segment_ready(self) -> None:
        begun = [
            number
            for number in self.journal.segment_numbers()
            if any(self.journal.segment(number).read_bytes()[:8])
        ]
        segment_ready_after(self.journal, max(begun, default=1), cap=self.cap)

    @rule()
    def seal(self) -> None:
        """A shipper gives samples their checksums, under the pen of the trainer."""
        numbers = self.journal.segment_numbers()
        newest = max((number for number in numbers if is_begun(self.journal, number)), default=1)
        self.sealer.seal(numbers, newest=newest, writer_dead=False)

    @rule()
    def read_everything(self) -> None:
        """A living writer's journal is read to its very end: the reader waits for nothing."""
        while entries := self.reader.read(7):
            for entry in entries:
                self.emitted.was_read(entry.record.timestamp_ms)
            self.cursor.position = entries[-1].after
        self.emitted.nothing_is_left()

    # The end

    @rule()
    def crash(self) -> None:
        """The trainer is gone, and the files are as of now; a new attempt begins."""
        left = JournalDirectory(self.root / f"left-{self.names}")
        shutil.copytree(self.journal.path, left.path, dirs_exist_ok=True)
        reader = JournalReader(left, self.cursor.position)
        reader.writer_dead = True
        while entries := reader.read(7):
            for entry in entries:
                self.emitted.was_read(entry.record.timestamp_ms)
        self.emitted.nothing_is_left()
        assert lost(reader) == 0
        assert reader.torn <= 1
        reader.close()
        shutil.rmtree(left.path)
        self.finish()
        self.begin()

    @rule()
    @precondition(lambda self: self.names > 20)
    def close(self) -> None:
        """The trainer ends; nothing is taken after that, and everything can be read."""
        self.writer.close()
        assert not self.writer.append(LifecycleRecord(0, 0, "finished"))
        self.read_everything()
        assert self.reader.torn == 0
        self.finish()
        self.begin()

    def finish(self) -> None:
        self.reader.close()
        self.writer.close()
        shutil.rmtree(self.journal.path)

    @invariant()
    def nothing_is_lost_so_far(self) -> None:
        """Not by the reader's own account either; and drops are counted, each once."""
        if self.begun:
            assert (lost(self.reader), self.reader.torn) == (0, 0)
            assert self.writer.scoreboard.dropped_samples == self.dropped
            assert self.journal.segment_bytes() <= self.cap

    def teardown(self) -> None:
        if self.begun:
            self.finish()
        self.small.__exit__(None, None, None)
        self.patch.undo()
        shutil.rmtree(self.root)


class CappedMachine(JournalMachine):
    """The same with so little room that samples are dropped, and room comes back."""

    cap = 6000

    @rule()
    def deliver_everything(self) -> None:
        """Whatever the cap, a journal that is delivered takes the next sample."""
        self.read_everything()
        self.acknowledge()
        name = self.new_name()
        assert self.writer.append(MetricsRecord(0, name, 1, None, None, {}))
        self.emitted.add(name, sure=True)


relaxed = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestJournal = JournalMachine.TestCase
TestJournal.settings = relaxed
TestCappedJournal = CappedMachine.TestCase
TestCappedJournal.settings = relaxed


@pytest.mark.slow
@pytest.mark.parametrize("machine", [JournalMachine, CappedMachine])
def test_journal_model_at_length(machine: type[JournalMachine]) -> None:
    """The same machines, for longer."""
    run_state_machine_as_test(machine, settings=settings(relaxed, max_examples=400))
