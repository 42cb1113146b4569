"""The tables of each benchmark's section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.delivery import BY_HAND
from benchmarks.markdown import Column, Rows, figures_table, named_by, one, select, table, values_seen
from benchmarks.outage import PHASES, step_times
from benchmarks.spread import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Results


def _cost_of_log(results: Results) -> Iterator[str]:
    fields = "metrics", "values", "busy", "threads"
    for metrics, values, busy, threads in values_seen(results, *fields):
        chosen = {"metrics": metrics, "values": values, "busy": busy, "threads": threads}
        ours = one(results, logger="trackside", **chosen)
        columns = [
            *(Column(figure, figure) for figure in ("median", "mean", "p99", "p99.9")),
            Column("median: times trackside's", "median", base=ours),
            Column("mean: times trackside's", "mean", base=ours),
        ]
        plural = "" if metrics == 1 else "s"
        more = f", each of {threads} threads" if threads > 1 else ""
        more += ", beside a busy Python thread" if busy else ""
        what = {"floats": f"float{plural}", "torch": f"torch CPU scalar{plural}"}.get(values, values)
        yield f"A call with {metrics} {what}{more}, µs:"
        yield figures_table("logger", named_by(select(results, **chosen), "logger"), columns)


def _training_step(results: Results) -> Iterator[str]:
    for length, metrics in values_seen(results, "length", "metrics"):
        base = one(results, logger="no logging", length=length, metrics=metrics)
        columns = [
            *(Column(figure, figure, ",.0f") for figure in ("median", "mean", "p99")),
            Column("mean: times no logging's", "mean", ".2f", base),
        ]
        rows = named_by(select(results, length=length, metrics=metrics), "logger")
        yield f"A step of about {length:g} ms that logs {metrics} metrics, µs:"
        yield figures_table("logger", rows, columns)


def _start_and_end(results: Results) -> Iterator[str]:
    columns = [
        Column("import alone", "import", ",.2f"),
        Column("start call", "start", ",.2f"),
        Column("process start to training", "until_started", ",.2f"),
        Column("last step to exit", "end", ",.2f"),
    ]
    yield "Seconds:"
    yield figures_table("logger", named_by(results.rounds, "logger"), columns)


def _survival(results: Results) -> Iterator[str]:
    columns = [
        *(Column(figure, figure, ",.0f") for figure in ("logged", "kept", "lost")),
        Column("kept in part", "partial", ",.0f"),
        Column("doubles", "doubles", ",.0f"),
        Column("status it shows", "status"),
        Column("still running after 60 s", "left"),
    ]
    for (end,) in values_seen(results, "end"):
        yield f"Samples of 10 metrics, {end}:"
        yield figures_table("logger", named_by(select(results, end=end), "logger"), columns)


def _delivery(results: Results) -> Iterator[str]:
    for place, points, workers in values_seen(results, "place", "points", "workers"):
        base = one(results, place=place, points=points, way=BY_HAND)
        rows = named_by(select(results, place=place, points=points), "way")
        for rounds in rows.values():
            for found in rounds:
                if "cpu" in found:
                    found["cpu_us"] = found["cpu"] / found["points"] * 1e6
        columns = [
            Column("points/s", "rate", ",.0f"),
            Column("times by hand", "rate", base=base),
            Column("CPU µs a point", "cpu_us"),
        ]
        server = f", with {workers} worker{'' if workers == 1 else 's'}" if workers else ""
        yield f"Into {place}{server}, {points:,} points of 10 keys:"
        yield figures_table("way", rows, columns)


def _scale(results: Results) -> Iterator[str]:
    rate = [Column("points/s", "rate", ",.0f")]
    emit = [*_both_ends("emit", "emit µs: {} tenth"), Column("journal bytes a point", "journal_bytes")]
    memory = [
        *_both_ends("trainer", "trainer: {} quarter", ",.0f"),
        *_both_ends("trainer_own", "its own: {}", ",.0f"),
        *_both_ends("shipper", "shipper: {} quarter", ",.0f"),
        *_both_ends("shipper_own", "its own: {}", ",.0f"),
    ]
    for growth, by in (("points", "A longer run"), ("keys", "More keys, at a given number of points")):
        ours = _sized(select(results, growth=growth, way="trackside"))
        yield f"{by}:"
        yield figures_table("run", ours, [*rate, *emit])
        yield "The same by hand:"
        yield figures_table("run", _sized(select(results, growth=growth, way=BY_HAND)), rate)
        yield "Memory, MiB:"
        yield figures_table("run", ours, memory)


def _both_ends(figure: str, title: str, how: str = ",.1f") -> Iterator[Column]:
    for end in ("first", "last"):
        yield Column(title.format(end), f"{figure}_{end}", how)


def _sized(rows: Rows) -> Rows:
    named = {}
    for rounds in rows.values():
        size = rounds[0]
        keys = "1 key" if size["keys"] == 1 else f"{size['keys']:,} keys"
        named[f"{size['points']:,} points, {keys}, {size['metrics']} a sample"] = rounds
    return named


def _outage(results: Results) -> Iterator[str]:
    columns = [
        Column("points", "points", ",.0f"),
        Column("caught up", "caught_up"),
        Column("seconds", "seconds"),
        Column("points/s", "rate", ",.0f"),
    ]
    yield "Catching up:"
    yield figures_table("place", named_by(results.rounds, "place"), columns)
    yield "A training step, ms (median / p99):"
    head = ["place", *PHASES, "during: times before"]
    yield table(head, ([place, *_steps(results, place)] for place in results.rounds))


def _steps(results: Results, place: str) -> Iterator[str]:
    rounds = results.of(place)
    for phase in PHASES:
        found = [step_times(rounds, phase, figure) for figure in ("p50", "p99")]
        yield " / ".join(spread(values) for values in found if values) or "-"
    pairs = zip(step_times(rounds, "during", "p50"), step_times(rounds, "before", "p50"), strict=True)
    times = [during / before for during, before in pairs]
    yield spread(times, ".2f") if times else "-"


TABLES: dict[str, Callable[[Results], Iterator[str]]] = {
    "cost_of_log": _cost_of_log,
    "training_step": _training_step,
    "start_and_end": _start_and_end,
    "survival": _survival,
    "delivery": _delivery,
    "scale": _scale,
    "outage": _outage,
}
