"""Samples under known names: what is written as one, what is not, and that nothing comes in between."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journal.tools import (
    Interrupt,
    kill_at_random,
    lost,
    new_journal,
    read_all,
    sample,
    small_segments,
    steps,
)
from trackside.coerce import floats
from trackside.coerce.metrics import to_float_metrics
from trackside.journal import samples as samples_module
from trackside.journal.format import MetricsRecord, decode_record, read_frame
from trackside.journal.layouts import LAST_SEQ
from trackside.journal.samples import CANDIDATES, LAYOUTS, Samples
from trackside.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from trackside.journal.directory import JournalDirectory

TEN = {f"m{n}": n / 3 for n in range(10)}
SAMPLE_OF_TEN = 112


class Logged:
    """A journal with a writer, and what logs into it as the sink does."""

    def __init__(self, journal: JournalDirectory) -> None:
        self.journal = journal
        self.writer = JournalWriter(journal)
        self.samples = Samples(self.writer)
        self.quick = 0

    def log(
        self, metrics: dict[str, float], step: int, epoch: float | None = None, prefix: str | None = None
    ) -> bool:
        """Keep a sample, one way or the other. Returns whether it was journaled as a sample."""
        if self.samples.log(metrics, step, epoch, prefix):
            self.quick += 1
            return True
        record = MetricsRecord(0, 1, step, epoch, prefix, dict(metrics))
        assert self.writer.append(record)
        self.samples.learn(record)
        return False

    def make_known(
        self, metrics: dict[str, float], epoch: float | None = None, prefix: str | None = None
    ) -> None:
        """Log until the names are known."""
        for step in range(10):
            if self.log(metrics, step, epoch, prefix):
                return
        raise AssertionError("never learnt")

    def read(self, *, dead: bool = False) -> list[MetricsRecord]:
        """All samples; nothing may be damaged or missing."""
        found, reader = read_all(self.journal, dead=dead)
        assert (lost(reader), reader.torn) == (0, 0)
        return [record for record in found if isinstance(record, MetricsRecord)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    """As above, in segments of the usual size."""
    with Logged(new_journal(tmp_path)) as made:
        yield made


def layouts_at(logged: Logged) -> list[int]:
    """The places of the layout records in the segment in use."""
    data = logged.journal.segment(logged.writer.segment.number).read_bytes()
    places, place = [], 0
    while place < logged.writer.segment.offset:
        frame = read_frame(data, place)
        if frame is None:
            place += SAMPLE_OF_TEN
            continue
        if decode_record(frame.payload) is None:
            places.append(place)
        place = frame.end
    return places


# What is written


def test_names_that_came_twice_are_journaled_once(logged: Logged) -> None:
    """Then a sample takes its values and 32 bytes."""
    assert [logged.log(TEN, step) for step in range(5)] == [False, False, False, True, True]
    before = logged.writer.segment.offset
    assert logged.log(TEN, 5)
    assert logged.writer.segment.offset - before == SAMPLE_OF_TEN
    assert [record.metrics for record in logged.read()] == [TEN] * 6
    assert [record.seq for record in logged.read()] == [1, 2, 3, 4, 5, 6]


def test_a_sample_has_its_time_step_epoch_and_prefix(logged: Logged) -> None:
    """All as they were given, of any size that has 64 bits. The time is in nanoseconds, and read in ms."""
    logged.make_known({"a": 1.0}, 0.5, "val")
    before = time.time_ns() // 1_000_000
    assert logged.samples.log({"a": 2.0}, -(2**63), 1.5, "val")
    assert logged.samples.log({"a": 3.0}, 2**63 - 1, 2, "val", -4_000_001)
    now, given_time = logged.read()[-2:]
    assert before <= now.timestamp_ms <= time.time_ns() // 1_000_000
    assert (now.step, now.epoch, now.prefix, now.metrics) == (-(2**63), 1.5, "val", {"a": 2.0})
    assert (given_time.timestamp_ms, given_time.step, given_time.epoch) == (-5, 2**63 - 1, 2.0)
    assert logged.samples.last_step == 2**63 - 1


def test_names_in_turns_are_all_known(logged: Logged) -> None:
    """Training and validation alternate, with the same names under other prefixes, too."""
    for step in range(8):
        logged.log({"loss": 1.0}, step, None, "train")
        logged.log({"loss": 2.0}, step, None, "val")
        logged.log({"loss": 3.0, "epoch_loss": 4.0}, step, 1.0)
    assert logged.quick == 3 * (8 - 3)
    found = logged.read()
    assert [record.prefix for record in found] == ["train", "val", None] * 8
    assert [record.metrics for record in found[-3:]] == [
        {"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0, "epoch_loss": 4.0},
    ]  # fmt: skip


def test_the_order_of_names_is_kept(logged: Logged) -> None:
    """The same names in another order are another layout."""
    logged.make_known({"a": 1.0, "b": 2.0})
    logged.make_known({"b": 3.0, "a": 4.0})
    assert logged.log({"a": 5.0, "b": 6.0}, 1)
    assert [*logged.read()[-1].metrics.items()] == [("a", 5.0), ("b", 6.0)]


def test_a_layout_comes_again_in_a_segment_and_in_the_next(tmp_path: Path) -> None:
    """4 KiB behind its first copy, 64 KiB behind the second, and at the begin of each segment."""
    with Logged(new_journal(tmp_path)) as logged:
        for step in range(1500):
            logged.log(TEN, step)
        first, second, third = layouts_at(logged)
        assert abs(second - first - 4096) < 600
        assert abs(third - second - 65536) < 600
        while logged.writer.segment.number == 1:
            logged.log(TEN, 0)
        for step in range(10):
            logged.log(TEN, step)
        assert layouts_at(logged)[0] < 600
        assert len(logged.read()) == logged.writer.last_seq


def test_names_that_never_come_again_fill_nothing(logged: Logged) -> None:
    """The step in a name: no layout, and a bounded memory of names."""
    for step in range(500):
        assert not logged.log({f"loss_{step}": 1.0}, step)
    assert len(logged.samples._candidates) == CANDIDATES
    assert logged.samples._known == {}
    assert layouts_at(logged) == []


def test_there_is_an_end_to_layouts(logged: Logged) -> None:
    """Names that come in pairs: those known stay known, and the rest is kept as well."""
    for name in range(LAYOUTS + 50):
        for step in range(4):
            logged.log({f"loss_{name}": float(name)}, step)
    assert len(logged.samples._known) == LAYOUTS
    logged.log({"loss_0": 0.0}, 8)  # its layout is far behind
    assert logged.log({"loss_0": 0.0}, 9)
    assert len(logged.read()) == 4 * (LAYOUTS + 50) + 2


def test_many_values_are_written_as_before(logged: Logged) -> None:
    """A sample of more than a page has its names with it."""
    many = {f"m{n}": 1.0 for n in range(600)}
    assert not any(logged.log(many, step) for step in range(10))
    assert [record.metrics for record in logged.read()] == [many] * 10


def test_numbers_do_not_run_out(logged: Logged) -> None:
    """A record whose number has no room in a sample is written as before."""
    logged.make_known(TEN)
    logged.writer.last_seq = LAST_SEQ - 3
    logged.samples._latest[-1].segment = None
    assert not any(logged.log(TEN, step) for step in range(10))
    assert logged.writer.last_seq == LAST_SEQ + 7


def test_a_journal_that_is_not_mapped_takes_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a store is a system call, header and tail do not reach the file in their order."""

    def cannot_map(*_: object) -> None:
        raise OSError(19, os.strerror(19))

    monkeypatch.setattr("trackside.system.mapping.mmap.mmap", cannot_map)
    with Logged(new_journal(tmp_path)) as logged:
        assert not any(logged.log(TEN, step) for step in range(10))
        assert len(logged.read()) == 10


def test_without_the_gil_nothing_is_learnt(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then other threads would come in between."""
    monkeypatch.setattr(samples_module, "CAN_WRITE", False)
    assert not any(logged.log(TEN, step) for step in range(10))


def test_a_closed_journal_takes_no_samples(logged: Logged) -> None:
    """Nor does one that was given up, which counts them as dropped."""
    logged.make_known(TEN)
    logged.writer.give_up()
    assert not logged.samples.log(TEN, 1)
    logged.writer.close()
    assert not logged.samples.log(TEN, 1)


def test_a_forked_child_writes_nothing(logged: Logged) -> None:
    """The parent's samples go on."""
    logged.make_known(TEN)
    before = logged.writer.last_seq
    pid = os.fork()
    if pid == 0:
        logged.writer.abandon()
        os._exit(int(logged.samples.log(TEN, 66)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert logged.log(TEN, 1)
    assert [record.seq for record in logged.read()] == [*range(1, before + 2)]


# Values


class Odd:
    """A number of a type of its own."""

    def __float__(self) -> float:
        return 1.5


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
numpy_scalars = st.builds(
    lambda dtype, number: np.dtype(dtype).type(number), st.sampled_from(DTYPES), st.integers(0, 100)
)
quick_values = st.floats() | st.integers(-(2**80), 2**80) | st.booleans() | numpy_scalars
other_values = st.sampled_from(
    [
        10**400,
        Decimal("0.1"),
        Fraction(1, 3),
        "text",
        None,
        1j,
        {"nested": 1.0},
        [1.0, 2.0],
        Odd(),
        np.longdouble(2),
        np.timedelta64(3, "s"),
        np.array([1.0, 2.0]),
        np.array(3),
        np.complex64(1),
    ]
)


@given(
    many=st.lists(st.lists(quick_values | other_values, min_size=3, max_size=3), min_size=1, max_size=8),
    epochs=st.none() | quick_values,
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_values_are_those_of_the_ordinary_way(
    many: list[list[Any]], epochs: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is accepted reads back as ``to_float_metrics`` has it, to the bit."""
    with Logged(new_journal(tmp_path_factory.mktemp("j"))) as logged:
        logged.make_known({"a": 1.0, "b": 1.0, "c": 1.0}, None if epochs is None else 1.0)
        for values in many:
            metrics = dict(zip("abc", values, strict=True))
            if logged.samples.log(metrics, 1, epochs):
                record = logged.read()[-1]
                assert repr(record.metrics) == repr(to_float_metrics(metrics))
                assert repr(record.epoch) == repr(None if epochs is None else floats.to_float(epochs))


@given(values=st.lists(quick_values, min_size=3, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_numbers_of_common_types_are_quick(
    values: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Python's and numpy's: once a type was met, nothing else is done with its values."""
    for value in values:
        floats.to_float(value)
    with Logged(new_journal(tmp_path_factory.mktemp("j"))) as logged:
        logged.make_known({"a": 1.0, "b": 1.0, "c": 1.0})
        assert logged.samples.log(dict(zip("abc", values, strict=True)), 1)


@pytest.mark.torch
def test_tensors_on_the_host_are_read_and_others_are_not(logged: Logged) -> None:
    """Whatever their dtype, and with a graph behind them. Several elements and none are refused."""
    torch = pytest.importorskip("torch")
    logged.make_known({"a": 1.0, "b": 1.0})
    floats.to_float(torch.tensor(0.0))
    dtypes = (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
    )
    for dtype in dtypes:
        metrics = {"a": torch.tensor(1, dtype=dtype), "b": 2.0}
        assert logged.samples.log(metrics, 1)
        assert repr(logged.read()[-1].metrics) == repr(to_float_metrics(metrics))
    assert logged.samples.log({"a": torch.tensor(0.1, requires_grad=True), "b": torch.ones(1, 1)}, 1)
    assert logged.read()[-1].metrics == {"a": torch.tensor(0.1).item(), "b": 1.0}
    for odd in (torch.ones(3), torch.empty(1, device="meta"), torch.tensor(1j), torch.ones(0)):
        assert not logged.samples.log({"a": odd, "b": 1.0}, 1)


@pytest.mark.torch
@pytest.mark.parametrize("known", [True, False])
def test_a_tensor_elsewhere_is_never_read(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """``item()`` would wait for the accelerator. Here, every tensor is said to be on one."""
    torch = pytest.importorskip("torch")
    logged.make_known({"a": 1.0})
    floats.to_float(torch.tensor(0.0))
    if known:
        assert logged.samples.log({"a": torch.tensor(0.0)}, 1)
    monkeypatch.setattr(floats, "on_host_only", False)
    monkeypatch.setitem(floats.QUICK, torch.Tensor, floats._read_on_host)

    class Elsewhere:
        is_cpu = False

        def item(self) -> float:
            raise AssertionError("read")

    monkeypatch.setattr(floats, "tensor_type", Elsewhere)
    monkeypatch.setitem(floats.QUICK, Elsewhere, floats._read_on_host)
    assert not logged.samples.log({"a": Elsewhere()}, 1)


@pytest.mark.parametrize(
    ("metrics", "step"),
    [
        ({"m": 1.0}, None),
        ({"m": 1.0}, 1.0),
        ({"m": 1.0}, True),
        ({"m": 1.0}, 2**63),
        ({"m": 1.0, "n": 1.0}, 1),
        ({}, 1),
        ({1: 1.0}, 1),
        ([("m", 1.0)], 1),
        (None, 1),
    ],
)
def test_anything_odd_is_refused_and_changes_nothing(logged: Logged, metrics: Any, step: Any) -> None:
    """Nothing is written, counted or remembered."""
    logged.make_known({"m": 1.0})
    writer, samples = logged.writer, logged.samples
    before = (writer.segment.offset, writer.last_seq, samples.last_step, writer.scoreboard.dropped_samples)
    assert not samples.log(metrics, step)
    assert not samples.log(metrics, step, object())
    assert before == (
        writer.segment.offset, writer.last_seq, samples.last_step, writer.scoreboard.dropped_samples
    )  # fmt: skip


def test_nothing_is_taken_outside_the_quiet_time(logged: Logged) -> None:
    """Before and after it, the caller has something else to do. With a timestamp it has done that."""
    logged.make_known(TEN)
    now = time.time_ns()
    logged.samples.quiet_until = now
    assert not logged.samples.log(TEN, 1)
    assert logged.samples.log(TEN, 1, None, None, 5)
    logged.samples.quiet_from, logged.samples.quiet_until = now + 10**15, now + 2 * 10**15
    assert not logged.samples.log(TEN, 1)  # the clock was set back


# Interrupts


def places() -> Iterator[int]:
    """1, 2, 3, ... for as long as anybody asks."""
    return iter(range(1, 10_000))


class SmallLogged(Logged):
    """In small segments, with a few samples."""

    def __init__(self, root: Path, filled: int) -> None:
        self._small = small_segments(4096)
        self._small.__enter__()
        super().__init__(new_journal(root))
        self.filled = filled
        for step in range(filled):
            self.log(TEN, step)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._small.__exit__(None, None, None)


def crossings() -> dict[str, int]:
    """How many samples go before one that is easy, and before ones that want a look at the segment."""
    with tempfile.TemporaryDirectory() as root, SmallLogged(Path(root), 0) as logged:
        kept, begins = [], []
        for step in range(80):
            kept.append(logged.log(TEN, step))
            begins.append(logged.writer.segment.number)
        looks = [step for step, quick in enumerate(kept) if not quick]
        rotates = begins.index(2)
    assert {rotates, rotates + 1} <= {*looks}
    return {"easy": 6, "first": looks[2], "looks": looks[3], "rotates": rotates, "begins": rotates + 1}


CROSSINGS = crossings()


@pytest.mark.parametrize("kind", CROSSINGS)
@pytest.mark.parametrize("other", ["sample", "record"])
def test_handler_that_logs_at_any_place(tmp_path: Path, kind: str, other: str) -> None:
    """A signal handler's samples and records are kept at once, and so is the one it interrupted."""
    filled = CROSSINGS[kind]
    for place in places():
        with SmallLogged(tmp_path / str(place), filled) as logged:
            seen: list[int] = []

            def handler(logged: SmallLogged = logged, seen: list[int] = seen) -> None:
                for step in range(2000, 2003):
                    if other == "sample":
                        logged.log(TEN, step)
                    else:
                        assert logged.writer.append(sample(step))
                seen += [record.step for record in logged.read()]

            interrupt = Interrupt(place, handler)
            with interrupt:
                logged.log(TEN, 1000)
            logged.log(TEN, 4000)
            read = [record.step for record in logged.read()]
        if not interrupt.came:
            assert place > 2
            return
        assert [step for step in seen if step >= 2000] == [2000, 2001, 2002]
        assert read[:filled] == [*range(filled)]
        assert sorted(read[filled:]) == [1000, 2000, 2001, 2002, 4000]


@pytest.mark.parametrize("kind", CROSSINGS)
def test_exception_at_any_place_leaves_no_hole(tmp_path: Path, kind: str) -> None:
    """A Ctrl-C: the sample is there once or not at all, and the others are."""
    filled = CROSSINGS[kind]

    def interrupted() -> None:
        raise KeyboardInterrupt

    for place in places():
        with SmallLogged(tmp_path / str(place), filled) as logged:
            interrupt = Interrupt(place, interrupted)
            with contextlib.suppress(KeyboardInterrupt), interrupt:
                logged.log(TEN, 1000)
            for step in range(2000, 2003):
                logged.log(TEN, step)
            read = [record.step for record in logged.read()]
        assert [step for step in read if step != 1000] == [*range(filled), 2000, 2001, 2002]
        assert read.count(1000) <= 1
        if not interrupt.came:
            return


@contextmanager
def failing_profiler(first: Callable[[], object]) -> Iterator[None]:
    """For the block, have a profiler that calls ``first`` right before a sample's store, and raises."""

    def profile(_frame: object, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__name__", "") == "pack_into":
            first()
            raise ValueError("a profiler's own error")

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_a_profiler_that_raises_costs_nothing(logged: Logged) -> None:
    """It comes in right before the store, where no signal does. The place is given back."""
    logged.make_known(TEN)
    raised: list[int] = []
    with failing_profiler(lambda: raised.append(1)):
        kept = logged.samples.log(TEN, 1000)
    assert raised == [1]
    assert not kept
    assert logged.log(TEN, 2000)
    assert [record.step for record in logged.read()][-1] == 2000


def test_a_profiler_that_raises_behind_another_thread(logged: Logged) -> None:
    """The place can't be given back when a record follows it: it is filled, since a reader waits there."""
    logged.make_known(TEN)

    def append_on_another_thread() -> None:
        other = threading.Thread(target=logged.writer.append, args=[sample(2000)])
        other.start()
        other.join()

    with failing_profiler(append_on_another_thread):
        kept = logged.samples.log(TEN, 1000)
    assert kept
    assert [record.step for record in logged.read()][-2:] == [1000, 2000]


def test_threads_log_beside_each_other(tmp_path: Path) -> None:
    """Samples and records from eight threads, which take turns at every opportunity."""
    each, threads = 400, 8
    interval = sys.getswitchinterval()
    with small_segments(16 << 10), Logged(new_journal(tmp_path)) as logged:

        def work(number: int) -> None:
            for n in range(each):
                if number % 4 == 3:
                    assert logged.writer.append(sample(number * 10_000 + n, n % 5))
                else:
                    step = number * 10_000 + n
                    logged.log(TEN if n % 10 else {"other": 1.0}, step)

        workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
        sys.setswitchinterval(1e-6)
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            sys.setswitchinterval(interval)
        found = logged.read()
    assert logged.quick > each
    assert [record.seq for record in found] == [*range(1, each * threads + 1)]
    for number in range(threads):
        mine = [record.step % 10_000 for record in found if record.step // 10_000 == number]
        assert mine == [*range(each)]


def test_signal_handler_logs_while_the_main_thread_does(tmp_path: Path) -> None:
    """Real signals: every sample of either once, whatever was interrupted."""
    with small_segments(16 << 10), Logged(new_journal(tmp_path)) as logged:
        handled: list[int] = []
        numbers = itertools.count(1_000_000)
        busy = False

        def handler(*_: object) -> None:
            nonlocal busy
            if not busy:
                busy = True
                number = next(numbers)
                logged.log(TEN, number)
                handled.append(number)
                busy = False

        main = 0
        deadline = time.monotonic() + 20
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        try:
            while len(handled) < 1500 and time.monotonic() < deadline:
                logged.log(TEN, main)
                main += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        read = [record.step for record in logged.read()]
    assert [step for step in read if step < 1_000_000] == [*range(main)]
    assert sorted(step for step in read if step >= 1_000_000) == sorted(handled)
    assert len(handled) > 50
    assert logged.quick > main / 2


# Deaths


def test_a_sample_cut_anywhere_costs_that_sample(tmp_path: Path) -> None:
    """The process is killed between any two of its stores, which go from the front to the end."""
    with Logged(new_journal(tmp_path)) as logged:
        logged.make_known(TEN)
        before = [record.step for record in logged.read()]
        start = logged.writer.segment.offset
        assert logged.log(TEN, 1000)
        end = logged.writer.segment.offset
        path = logged.journal.segment(1)
        frame = path.read_bytes()[start:end]
        for cut in range(0, len(frame), 4):
            with path.open("r+b") as file:
                file.seek(start)
                file.write(frame[:cut].ljust(len(frame), b"\0"))
            found, reader = read_all(logged.journal)
            assert steps(found) == before
            assert lost(reader) == 0
            assert reader.torn <= 1


@pytest.mark.parametrize("round_", range(10))
def test_killed_process_loses_nothing_that_was_logged(tmp_path: Path, round_: int) -> None:
    """SIGKILL at a random moment: every log that returned is there, and at most the one after it."""
    journal = new_journal(tmp_path)
    returned = kill_at_random("log_until_killed.py", journal)
    found, reader = read_all(journal)
    assert steps(found) == [*range(1, len(found) + 1)]
    assert returned <= len(found) <= returned + 1
    assert (reader.damaged, reader.missing) == (0, 0)
    assert reader.torn <= 1
