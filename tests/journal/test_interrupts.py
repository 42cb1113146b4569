"""What interrupts an append: threads, signal handlers, exceptions, SIGKILL.

An interrupt is played at every place at which one can come, one after the other. Then real signals play
them at random.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.journal.tools import (
    SCRIPTS,
    Interrupt,
    kill_at_random,
    lost,
    new_journal,
    read_all,
    sample,
    small_segments,
    steps,
)
from trackside.journal.directory import JournalDirectory
from trackside.journal.reader import JournalReader
from trackside.journal.writer import JournalWriter
from trackside.system.mapping import FileBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self


def interrupted() -> None:
    """A Ctrl-C."""
    raise KeyboardInterrupt


def places() -> Iterator[int]:
    """1, 2, 3, ... for as long as anybody asks."""
    return iter(range(1, 10_000))


class SmallJournal:
    """A writer with small segments in a directory of its own, filled up to somewhere."""

    def __init__(self, filled: int) -> None:
        self._root = tempfile.TemporaryDirectory()
        self._small = small_segments()
        self.filled = filled

    def __enter__(self) -> Self:
        self._small.__enter__()
        self.journal = new_journal(Path(self._root.name))
        self.writer = JournalWriter(self.journal)
        for step in range(self.filled):
            assert self.writer.append(sample(step))
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self._small.__exit__(None, None, None)
        self._root.cleanup()

    def read(self, *, dead: bool = False) -> list[int]:
        """The steps that are there; nothing may be damaged or missing."""
        found, reader = read_all(self.journal, dead=dead)
        assert (lost(reader), reader.torn) == (0, 0)
        return steps(found)


def crossings() -> dict[str, int]:
    """How many records to write before the one that has an easy way, prepares or rotates."""
    with SmallJournal(0) as small:
        writer, first, found = small.writer, small.writer.segment, {"easy": 3}
        while writer.segment is first:
            ready, number = writer._ready, writer.last_seq
            writer.append(sample(0))
            if writer._ready is not None and ready is None:
                found["prepares"] = number
        found["rotates"] = writer.last_seq - 1
    return found


CROSSINGS = crossings()


@pytest.mark.parametrize("kind", CROSSINGS)
def test_exception_at_any_place_leaves_no_hole(kind: str) -> None:
    """The interrupted record is there once or not at all; the ones before and behind it all are."""
    filled = CROSSINGS[kind]
    for place in places():
        with SmallJournal(filled) as small:
            interrupt = Interrupt(place, interrupted)
            try:
                with interrupt:
                    small.writer.append(sample(1000))
            except KeyboardInterrupt:
                pass
            for step in range(2000, 2003):
                assert small.writer.append(sample(step))
            read = small.read()
            assert [step for step in read if step != 1000] == [*range(filled), 2000, 2001, 2002]
            assert read.count(1000) <= 1
            assert_not_locked(small.writer)
        if not interrupt.came:
            assert place > 5
            return


def assert_not_locked(writer: JournalWriter) -> None:
    """Another thread can append: the interrupt has not left the lock taken."""
    kept: list[bool] = []
    thread = threading.Thread(target=lambda: kept.append(writer.append(sample(3000))), daemon=True)
    thread.start()
    thread.join(10)
    assert kept == [True]


@pytest.mark.parametrize("kind", CROSSINGS)
def test_handler_that_appends_at_any_place_is_kept_at_once(kind: str) -> None:
    """Its records can be read before it returns, and the interrupted one follows or precedes them."""
    filled = CROSSINGS[kind]
    for place in places():
        with SmallJournal(filled) as small:
            seen: list[int] = []

            def handler(small: SmallJournal = small, seen: list[int] = seen) -> None:
                for step in range(2000, 2003):
                    assert small.writer.append(sample(step))
                seen += small.read()

            interrupt = Interrupt(place, handler)
            with interrupt:
                assert small.writer.append(sample(1000))
            assert small.writer.append(sample(4000))
            read = small.read()
            assert [s for s in read if s < 1000] == list(range(filled))
            if not interrupt.came:
                return
            assert [s for s in seen if s >= 2000] == [2000, 2001, 2002]
            assert sorted(read[filled:]) == [1000, 2000, 2001, 2002, 4000]
            assert [s for s in read if s >= 2000] == [2000, 2001, 2002, 4000]


@pytest.mark.parametrize("kind", CROSSINGS)
@pytest.mark.parametrize("many", [15, 40, 55, 100])
@pytest.mark.parametrize("buffers", ["mapped", "written"])
@pytest.mark.outside
def test_handler_that_fills_segments_at_any_place(
    kind: str, many: int, buffers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment of the interrupted append is used up, the next one prepared, begun, used up too."""
    if buffers == "written":
        monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)
    filled = CROSSINGS[kind]
    for place in places():
        with SmallJournal(filled) as small:

            def handler(small: SmallJournal = small) -> None:
                for step in range(2000, 2000 + many):
                    assert small.writer.append(sample(step))

            interrupt = Interrupt(place, handler)
            with interrupt:
                assert small.writer.append(sample(1000))
            for step in range(4000, 4060):
                assert small.writer.append(sample(step))
            if not interrupt.came:
                return
            read = small.read()
            others = [*range(filled), *range(2000, 2000 + many), *range(4000, 4060)]
            assert [s for s in read if s != 1000] == others
            assert read.count(1000) == 1


def test_handler_that_closes_the_journal_at_any_place() -> None:
    """The interrupted append is kept or refused, as it says itself."""
    for place in places():
        with SmallJournal(3) as small:
            interrupt = Interrupt(place, small.writer.close)
            with interrupt:
                kept = small.writer.append(sample(1000))
            assert small.read(dead=True) == [0, 1, 2] + [1000] * kept
            if not interrupt.came:
                return


def pairs(kind: str, stride: int) -> Iterator[tuple[int, int]]:
    """Places for an interrupt, and for another within it; every ``stride``-th pair."""
    most = {"easy": 15, "prepares": 90, "rotates": 60}[kind]
    every = ((outer, inner) for outer in range(1, most) for inner in range(1, most))
    return itertools.islice(every, 0, None, stride)


def play_twice(kind: str, outer: int, inner: int, points: int = 1) -> None:
    """A handler whose own append is interrupted by an exception, which it catches."""
    filled = CROSSINGS[kind]
    with SmallJournal(filled) as small:

        def handler() -> None:
            with contextlib.suppress(KeyboardInterrupt), Interrupt(inner, interrupted):
                small.writer.append(sample(2000, points))

        with Interrupt(outer, handler):
            assert small.writer.append(sample(1000))
        for step in range(4000, 4040):
            assert small.writer.append(sample(step))
        read = small.read()
        assert [s for s in read if s != 2000] == [*range(filled), 1000, *range(4000, 4040)]
        assert read.count(2000) <= 1


@pytest.mark.parametrize(("kind", "stride"), [("easy", 1), ("prepares", 67), ("rotates", 31)])
@pytest.mark.outside
def test_handler_whose_append_is_itself_interrupted(kind: str, stride: int) -> None:
    """Two deep: whatever said that it was kept is kept, once."""
    for outer, inner in pairs(kind, stride):
        play_twice(kind, outer, inner)


def test_handler_that_rotates_for_a_large_record_is_interrupted() -> None:
    """It leaves a new segment and nothing in it; the record it interrupted finds its way there."""
    for outer in range(1, 12):
        for inner in range(1, 90, 4):
            play_twice("easy", outer, inner + outer % 4, points=60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prepares", "rotates"])
def test_handler_whose_append_is_itself_interrupted_at_every_pair(kind: str) -> None:
    """The same at each pair of places."""
    for outer, inner in pairs(kind, 1):
        play_twice(kind, outer, inner)


@pytest.mark.parametrize("error", [TimeoutError("too slow"), RuntimeError("stop"), ValueError("x")])
@pytest.mark.parametrize("buffers", ["mapped", "written"])
def test_exception_of_a_handler_comes_out(
    error: Exception, buffers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a signal handler raises is the caller's: none is taken for a trouble of the disk."""
    if buffers == "written":
        monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)

    def handler() -> None:
        raise error

    for place in places():
        with SmallJournal(CROSSINGS["rotates"]) as small:
            interrupt = Interrupt(place, handler)
            caught = None
            try:
                with interrupt:
                    small.writer.append(sample(1000))
            except type(error) as raised:
                caught = raised
            assert caught is (error if interrupt.came else None)
            assert small.writer.scoreboard.dropped_samples == 0
            assert small.writer.append(sample(4000))
            assert_not_locked(small.writer)
            assert [s for s in small.read() if s != 1000][CROSSINGS["rotates"] :] == [4000, 3000]
        if not interrupt.came:
            return


def test_exception_while_waiting_for_another_thread(tmp_path: Path) -> None:
    """A Ctrl-C in an append that waits for its turn comes out as what it is, and costs no turn."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with writer._lock:
            taken.set()
            let_go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)
    with pytest.raises(KeyboardInterrupt), Timer(interrupted, 0.05):
        writer.append(sample(1))
    let_go.set()
    holder.join()
    assert writer.append(sample(2))
    assert_not_locked(writer)
    assert steps(read_all(journal)[0]) == [2, 3000]
    writer.close()


def test_handler_that_gets_room_for_the_interrupted_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk refuses a record; before it is given up a handler finds room and writes it."""
    monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)
    real, full, asked = os.pwrite, False, 0

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if full:
            raise OSError(28, os.strerror(28))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    for place in places():
        with SmallJournal(3) as small:

            def handler(small: SmallJournal = small) -> None:
                nonlocal full
                full = False
                assert small.writer.append(sample(2000))

            full, interrupt = True, Interrupt(place, handler)
            with interrupt:
                kept = small.writer.append(sample(1000))
            full = False
            asked += kept
            assert small.writer.append(sample(4000, 3))
            read = small.read()
            assert [s for s in read if s != 1000] == [0, 1, 2] + [2000] * interrupt.came + [4000]
            assert read.count(1000) == kept
        if not interrupt.came:
            assert 0 < asked < place
            return


def test_written_journal_survives_interrupts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where frames go through ``pwrite``: an exception or a handler at any place."""
    monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)
    for place in places():
        with SmallJournal(3) as small:
            assert isinstance(small.writer.segment.buffer, FileBuffer)

            def handler(small: SmallJournal = small) -> None:
                assert small.writer.append(sample(2000))

            interrupt = Interrupt(place, handler)
            with interrupt:
                assert small.writer.append(sample(1000))
            try:
                with Interrupt(place, interrupted):
                    small.writer.append(sample(3000))
            except KeyboardInterrupt:
                pass
            assert small.writer.append(sample(4000))
            read = small.read()
            assert sorted(s for s in read if s != 3000) == [0, 1, 2, 1000] + (
                [2000] if interrupt.came else []
            ) + [4000]
            assert read.count(3000) <= 1
        if not interrupt.came:
            return


def test_written_journal_survives_handlers_in_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second handler uses up the segment in which the first one is finishing a record."""
    monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)
    for outer in range(10, 18):
        for inner in range(1, 20):
            with SmallJournal(3) as small:

                def second(small: SmallJournal = small) -> None:
                    for step in range(3000, 3040):
                        assert small.writer.append(sample(step))

                def first(small: SmallJournal = small, inner: int = inner) -> None:
                    with Interrupt(inner, second):
                        assert small.writer.append(sample(2000))

                twice = Interrupt(outer, first)
                with twice:
                    assert small.writer.append(sample(1000))
                assert small.writer.append(sample(4000))
                read = small.read()
                assert sorted(set(read)) == sorted(read)
                assert {0, 1, 2, 1000, 4000} | ({2000} if twice.came else set()) <= set(read)
                nested = [s for s in read if 3000 <= s < 4000]
                assert nested in ([], list(range(3000, 3040)))


def cannot_map(*_: object) -> None:
    """Stand in for a file system without ``mmap``."""
    raise OSError(19, os.strerror(19))


# Real signals


class Timer:
    """SIGALRM at a high rate, handled by ``handler``, for as long as ``with`` this."""

    def __init__(self, handler: Callable[[], Any], seconds: float) -> None:
        self._handler = handler
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, lambda *_: self._handler())
        signal.setitimer(signal.ITIMER_REAL, self._seconds, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def test_signal_handler_appends_while_the_main_thread_does(tmp_path: Path) -> None:
    """Thousands of real signals: no deadlock, every record of either kept once."""
    with small_segments(16 << 10):
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        handled: list[int] = []  # handlers interrupt each other too
        numbers = itertools.count(1_000_000)

        depth = 0

        def handler() -> None:
            nonlocal depth
            if depth < 4:  # deeper, a slow machine would run into the recursion limit
                depth += 1
                number = next(numbers)
                assert writer.append(sample(number))
                handled.append(number)
                depth -= 1

        main = 0
        deadline = time.monotonic() + 20
        with Timer(handler, 0.0001):
            while len(handled) < 3000 and time.monotonic() < deadline:
                assert writer.append(sample(main))
                main += 1
        found, reader = read_all(journal, dead=False)
        writer.close()
    read = steps(found)
    assert lost(reader) == 0
    assert [s for s in read if s < 1_000_000] == list(range(main))
    assert sorted(s for s in read if s >= 1_000_000) == sorted(handled)
    assert len(handled) > 100


# In Python 3.10, what a signal handler raises as a function returns can come out as this error instead.
INTERRUPTED = (KeyboardInterrupt,) if sys.version_info >= (3, 11) else (KeyboardInterrupt, SystemError)


def test_keyboard_interrupts_in_the_midst_of_appends(tmp_path: Path) -> None:
    """Thousands of them: no hole, no record that was acknowledged is lost, none is there twice."""
    with small_segments(16 << 10):
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        acknowledged: list[int] = []
        armed = False
        interrupts = 0

        def handler() -> None:
            nonlocal armed
            if armed:
                armed = False  # here, because another tick may come before the exception is caught
                raise KeyboardInterrupt

        step = 0
        deadline = time.monotonic() + 20
        with Timer(handler, 0.0001):
            while interrupts < 2000 and time.monotonic() < deadline:
                step += 1
                try:
                    armed = True
                    writer.append(sample(step))
                    armed = False
                    acknowledged.append(step)
                except INTERRUPTED:
                    interrupts += 1
        assert writer.append(sample(step + 1))
        found, reader = read_all(journal, dead=False)
        writer.close()
    read = steps(found)
    assert lost(reader) == 0
    assert read == sorted(set(read))
    assert set(acknowledged) <= set(read)
    assert read[-1] == step + 1
    assert interrupts > 100


# Threads and processes


def test_threads_append_while_another_process_reads(tmp_path: Path) -> None:
    """Eight threads and a reader elsewhere: all records once, each thread's in its order."""
    threads, each = 8, 2000
    with small_segments(64 << 10):
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        follower = subprocess.Popen(
            [sys.executable, SCRIPTS / "follow.py", journal.path, str(threads * each)],
            stdout=subprocess.PIPE,
            text=True,
        )

        def work(number: int) -> None:
            for n in range(each):
                assert writer.append(sample(number * 1_000_000 + n, 1 + n % 5))

        workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        output, _ = follower.communicate(timeout=60)
        writer.close()
    told = json.loads(output)
    assert told["lost"] == 0
    for number in range(threads):
        mine = [s % 1_000_000 for s in told["steps"] if s // 1_000_000 == number]
        assert mine == list(range(each))
    assert len(told["steps"]) == threads * each


@pytest.mark.parametrize("round_", range(20))
def test_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, round_: int) -> None:
    """SIGKILL at a random moment: every append that returned is readable; at most the tail is torn."""
    journal = new_journal(tmp_path)
    returned = kill_at_random("append_until_killed.py", journal)
    found, reader = read_all(journal)
    assert steps(found) == list(range(1, len(found) + 1))
    assert returned <= len(found) <= returned + 1
    assert (reader.damaged, reader.missing) == (0, 0)
    assert reader.torn <= 1


def test_reader_waits_for_no_one_after_an_interrupt_at_the_very_end(tmp_path: Path) -> None:
    """The last append of a living writer was interrupted: everything before it is read."""
    for place in places():
        with SmallJournal(3) as small:
            interrupt = Interrupt(place, interrupted)
            try:
                with interrupt:
                    small.writer.append(sample(1000))
            except KeyboardInterrupt:
                pass
            reader = JournalReader(JournalDirectory(small.journal.path))
            assert [e.record.seq for e in reader.read()][:3] == [1, 2, 3]
            reader.writer_dead = True
            reader.read()
            assert lost(reader) == 0
            assert reader.torn <= 1
            reader.close()
        if not interrupt.came:
            return
