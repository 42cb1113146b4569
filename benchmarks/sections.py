"""The tables of each benchmark's section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.samples import SPELLED
from benchmarks.spread import judge, spread, values_of
from benchmarks.step import SHAPES
from benchmarks.tables import Column, Rows, Table, figures_table, named_by, one, select, values_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from benchmarks.results import Results
    from benchmarks.worker import Figures

BY_HAND = "log_batch by hand"
"""What deliveries are compared with."""

PHASES = ("before", "during", "after")
"""Of an outage."""

FAULTS = ("waiting", "lost", "doubled", "wrong", "runs_missing", "runs_doubled", "not_finished", "unfinished")
"""Of a fleet whose figures mean something, all of them are 0. ``waiting``: points that its journals still
have, because the patience was over. ``lost``: points that were acknowledged, and are not there."""

MOST_OF_A_STEP = 1.02
"""Times a step without logging that one with it may take."""


def show(results: Results, console: Console) -> None:
    """Print a benchmark's tables."""
    for table in TABLES[results.benchmark](results):
        console.print(table.rich())


def _cost_of_log(results: Results) -> Iterator[Table]:
    fields = "metrics", "values", "busy", "threads"
    for metrics, values, busy, threads in values_seen(results, *fields):
        chosen = {"metrics": metrics, "values": values, "busy": busy, "threads": threads}
        rows = named_by(select(results, **chosen), "logger")
        found = [one for rounds in rows.values() for one in rounds]
        steps = values_of(found, "step")
        in_loop = _in_loop(rows) if steps else []
        tight = [
            Column(f"tight loop: {figure}", f"tight_{figure}")
            for figure in (("median",) if steps else ("median", "mean", "p99", "p99.9"))
        ]
        ours = Column("tight loop: times trackside's", "tight_median", base=rows.get("trackside", []))
        title = f"A call with {metrics} {SPELLED[values]}{'' if metrics == 1 else 's'}"
        title += f", from each of {threads} threads" if threads > 1 else ""
        title += ", beside a busy Python thread" if busy else ""
        title += f", behind a step of {spread(steps, '.0f')} µs" if steps else ", in a tight loop only"
        yield figures_table(f"{title}, in µs", "logger", rows, [*in_loop, *tight, *([] if steps else [ours])])


def _in_loop(rows: Rows) -> list[Column]:
    return [
        Column("in the loop: median", "loop_median"),
        Column("times a JSON line's", "by_line", ",.2f"),
        Column("times trackside's", "loop_median", base=rows.get("trackside", [])),
        Column("p99", "loop_p99"),
        Column("p99.9", "loop_p99.9"),
        Column("p99.9 by median", "tail"),
        Column("p99.9 of an empty call", "empty_p99.9"),
        Column("calls", "loop_calls", ",.0f"),
    ]


def _cost_of_artifacts(results: Results) -> Iterator[Table]:
    for (kind,) in values_seen(results, "kind"):
        rows = named_by(select(results, kind=kind), "logger")
        steps = values_of([one for rounds in rows.values() for one in rounds], "step")
        columns = [
            Column("in the loop: median", "loop_median", ",.0f"),
            Column("times trackside's", "loop_median", ",.2f", rows.get("trackside", [])),
            Column("p99", "loop_p99", ",.0f"),
            Column("max", "loop_max", ",.0f"),
            Column("calls", "loop_calls", ",.0f"),
            Column("a step beside it: times one without", "step_ratio", ",.2f"),
        ]
        title = f"{kind[0].upper()}{kind[1:]}, behind a step of {spread(steps, '.0f')} µs, in µs"
        yield figures_table(title, "logger", rows, columns)


def _training_step(results: Results) -> Iterator[Table]:
    for shape, metrics in values_seen(results, "shape", "metrics"):
        rows = named_by(select(results, shape=shape, metrics=metrics), "logger")
        base = rows.get("no logging", [])
        columns = [
            Column("times the steps without, in turns", "ratio", ".3f"),
            Column("at least", "ratio_low", ".3f"),
            Column("at most", "ratio_high", ".3f"),
            Column("pairs of blocks", "pairs", ",.0f"),
            *(Column(f"step: {figure}", figure, ",.0f") for figure in ("median", "mean", "p99")),
            Column("mean: times a process without logging", "mean", ".2f", base),
        ]
        on_gpu = any(rounds[0].get("device") == "cuda" for rounds in rows.values())
        logged = f"{metrics} {SPELLED['cuda']}s" if on_gpu else f"{metrics} metrics"
        made = figures_table(f"A step of {SHAPES[shape]} that logs {logged}, in µs", "logger", rows, columns)
        cells = [[*row, step_verdict(rounds)] for row, rounds in zip(made.rows, rows.values(), strict=True)]
        yield made._replace(head=[*made.head, f"≤ {MOST_OF_A_STEP}?"], rows=cells)


def step_verdict(rounds: list[Figures]) -> str:
    """Whether a step is long enough that logging is not felt, by what all rounds leave possible."""
    lows, highs = values_of(rounds, "ratio_low"), values_of(rounds, "ratio_high")
    return judge(min(lows), max(highs), MOST_OF_A_STEP) if lows else "-"


def _start_and_end(results: Results) -> Iterator[Table]:
    columns = [
        Column("import alone", "import", ",.2f"),
        Column("start call", "start", ",.2f"),
        Column("start call, busy", "start_busy", ",.2f"),
        Column("process start to training", "until_started", ",.2f"),
        Column("last step to exit", "end", ",.2f"),
        Column("first point at the server", "first_point", ",.2f"),
        Column("first point, busy", "first_point_busy", ",.2f"),
        Column("shipper's own memory, MiB", "shipper_mib", ",.0f"),
    ]
    yield figures_table("Seconds", "logger", named_by(results.rounds, "logger"), columns)


def _survival(results: Results) -> Iterator[Table]:
    columns = [
        *(Column(figure, figure, ",.0f") for figure in ("logged", "kept", "lost")),
        Column("kept in part", "partial", ",.0f"),
        Column("doubles", "doubles", ",.0f"),
        Column("status it shows", "status"),
        Column("still running after 5 min", "left"),
    ]
    for (end,) in values_seen(results, "end"):
        rows = named_by(select(results, end=end), "logger")
        yield figures_table(f"Samples of 10 metrics, {end}", "logger", rows, columns)


def _delivery(results: Results) -> Iterator[Table]:
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
        yield figures_table(f"Into {place}{server}, {points:,} points of 10 keys", "way", rows, columns)


def _scale(results: Results) -> Iterator[Table]:
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
        by_hand = _sized(select(results, growth=growth, way=BY_HAND))
        yield figures_table(by, "run", ours, [*rate, *emit])
        yield figures_table("The same by hand", "run", by_hand, rate)
        yield figures_table("Memory, MiB", "run", ours, memory)


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


def _outage(results: Results) -> Iterator[Table]:
    columns = [
        Column("points", "points", ",.0f"),
        Column("caught up", "caught_up"),
        Column("seconds", "seconds"),
        Column("points/s", "rate", ",.0f"),
    ]
    yield figures_table("Catching up", "place", named_by(results.rounds, "place"), columns)
    head = ["place", *PHASES, "during: times before"]
    rows = [[place, *_steps(results, place)] for place in results.rounds]
    yield Table("A training step, ms (median / p99)", head, rows)


def _steps(results: Results, place: str) -> Iterator[str]:
    rounds = results.of(place)
    for phase in PHASES:
        found = [step_times(rounds, phase, figure) for figure in ("p50", "p99")]
        yield " / ".join(spread(values) for values in found if values) or "-"
    pairs = zip(step_times(rounds, "during", "p50"), step_times(rounds, "before", "p50"), strict=True)
    times = [during / before for during, before in pairs]
    yield spread(times, ".2f") if times else "-"


def step_times(rounds: list[Figures], phase: str, figure: str) -> list[float]:
    """``figure`` of the steps of ``phase``, of each round that has it; ms."""
    return values_of([found[phase] for found in rounds if phase in found], figure)


def _fleet(results: Results) -> Iterator[Table]:
    got = [
        Column("points/s", "rate", ",.0f"),
        Column("requests/s", "requests_s"),
        Column("visible after s: p50", "visible_median"),
        Column("p99", "visible_p99"),
        Column("a run's page s: p50", "page_median", ",.2f"),
        Column("server cores", "server_cpu", ",.2f"),
        Column("PostgreSQL cores", "postgresql_cpu", ",.2f"),
    ]
    moments = [
        Column("all runs started s", "started"),
        Column("no server s", "without_server"),
        Column("caught up s after that", "caught_up"),
        Column("all runs ended s", "ended"),
        Column("requests a run", "requests_a_run"),
        Column("steps logged of those due", "pace", ",.2f"),
    ]
    points = [Column("points", "logged", ",.0f")]
    points += [Column(name.replace("_", " "), name, ",.0f") for name in FAULTS]
    calm = "While all runs log, before the outage; what is visible also after it"
    yield figures_table(calm, "fleet", results.rounds, got)
    yield figures_table("The start, the outage and the end", "fleet", results.rounds, moments)
    yield figures_table("In PostgreSQL, at the end", "fleet", results.rounds, points)


TABLES: dict[str, Callable[[Results], Iterator[Table]]] = {
    "cost_of_log": _cost_of_log,
    "cost_of_artifacts": _cost_of_artifacts,
    "training_step": _training_step,
    "start_and_end": _start_and_end,
    "survival": _survival,
    "delivery": _delivery,
    "scale": _scale,
    "outage": _outage,
    "fleet": _fleet,
}
