"""Draws the results: a PNG and an SVG each, the same bytes for the same numbers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.plots_of_fleet import draw_fleet, draw_fleet_course
from benchmarks.plots_of_runs import draw_memory, draw_outage
from benchmarks.sections import BY_HAND
from benchmarks.spread import values_of
from benchmarks.step import SHAPES
from benchmarks.tables import named_by, select, values_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from benchmarks.results import Results
    from benchmarks.tables import Rows

STYLE: Any = {
    "svg.hashsalt": "trackside",  # else names within the file are random
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.facecolor": "white",  # also readable on a dark page
}
OURS, OTHERS = "#1f6fb4", "#9aa5b1"


def draw(results: Mapping[str, Results], directory: Path) -> set[str]:
    """Draw what there are results for; the names of the plots that were made."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = set()
    for name, (benchmark, plot) in PLOTS.items():
        if benchmark not in results:
            continue
        with mpl.rc_context(STYLE):
            figure = plot(results[benchmark])
            if figure is None:
                continue
            figure.savefig(directory / f"{name}.png", dpi=130, metadata={"Software": None})
            figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        drawn.add(name)
    return drawn


def _medians(rows: Rows, figure: str) -> dict[str, float]:
    """Of the rounds, for all that have the figure."""
    found = {name: values_of(rounds, figure) for name, rounds in rows.items()}
    return {name: statistics.median(values) for name, values in found.items() if values}


def _bars(axes: Axes, values: dict[str, float], how: str, ends: dict[str, float] | None = None) -> None:
    """Horizontal bars, the first on top; ``ends`` are whiskers, up to which the text is kept away."""
    names = list(values)
    places = range(len(names))
    colours = [OURS if name.startswith("trackside") else OTHERS for name in names]
    axes.barh(places, list(values.values()), color=colours, height=0.7)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    for place, name in enumerate(names):
        end = max(values[name], (ends or {}).get(name, 0))
        if ends and name in ends:
            axes.plot([values[name], end], [place, place], color="#444444", linewidth=1)
            axes.plot([end], [place], marker="|", color="#444444", markersize=7)
        text = f" {values[name]:{how}}"
        axes.annotate(text, (end, place), (3, 0), textcoords="offset points", va="center", fontsize=8)


def _plain_numbers(axis: Axis) -> None:
    """Rather than powers, on a logarithmic axis too."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _figure(height: float, width: float = 7.5, columns: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _cost_of_log(results: Results) -> Figure | None:
    chosen = select(results, metrics=10, values="floats", busy=False, threads=1)
    rows = named_by(chosen, "logger")
    medians = dict(sorted(_medians(rows, "loop_median").items(), key=lambda item: item[1]))
    if not medians:
        return None
    figure, (axes,) = _figure(0.9 + 0.32 * len(medians))
    _bars(axes, medians, ",.1f", _medians(rows, "loop_p99"))
    axes.set_xscale("log")
    axes.set_xlim(1, axes.get_xlim()[1] * 3)
    _plain_numbers(axes.xaxis)
    axes.set_xlabel("µs a call with 10 floats, in a training loop: median (bar) and p99 (whisker); log scale")
    return figure


def _cost_by_metrics(results: Results) -> Figure | None:
    chosen = select(results, values="floats", busy=False, threads=1)
    lines: dict[str, dict[int, float]] = {}
    for key, median in _medians(chosen, "loop_median").items():
        case = chosen[key][0]
        lines.setdefault(case["logger"], {})[case["metrics"]] = median
    if not lines:
        return None
    figure, (axes,) = _figure(4.2)
    _lines(axes, lines)
    axes.set_xlabel("metrics a call (log scale)")
    axes.set_ylabel("µs a call in a training loop, median (log scale)")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _lines(axes: Axes, lines: Mapping[str, dict[int, float]]) -> None:
    """On two logarithmic axes; ours is the thick one."""
    names = "tab10" if len(lines) <= 10 else "tab20"
    colours = mpl.colormaps[names](range(len(lines)))
    for number, (name, line) in enumerate(lines.items()):
        ours = name == "trackside" or name.startswith("trackside:")
        xs = sorted(line)
        axes.plot(
            xs,
            [line[x] for x in xs],
            marker="o",
            markersize=5 if ours else 4,
            linewidth=2.5 if ours else 1.3,
            color=colours[number % len(colours)],
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)


def _training_step(results: Results) -> Figure | None:
    cases = [case for case in values_seen(results, "shape", "metrics") if case[1] == 10]
    if not cases:
        return None
    rows = [named_by(select(results, shape=shape, metrics=metrics), "logger") for shape, metrics in cases]
    figure, panels = _figure(1.2 + 0.32 * max(map(len, rows)), 3.6 + 3.4 * len(cases), len(cases))
    for axes, (shape, _), found in zip(panels, cases, rows, strict=True):
        _bars(axes, _medians(found, "ratio"), ".2f", _medians(found, "ratio_high"))
        axes.set_xscale("log")
        axes.set_xlim(0.5, max(axes.get_xlim()[1] * 2, 12))
        _plain_numbers(axes.xaxis)
        axes.set_title(f"{SHAPES[shape]}", fontsize=9)
    for axes in panels[1:]:
        axes.set_yticklabels([])
    figure.supxlabel(
        "times a step without logging: median (bar) and its upper bound (whisker); log scale", fontsize=9
    )
    return figure


def _delivery(results: Results) -> Figure | None:
    places = {
        place: named_by(select(results, place=place), "way") for (place,) in values_seen(results, "place")
    }
    rates = {place: found for place, rows in places.items() if (found := _medians(rows, "rate"))}
    if not rates:
        return None
    figure = Figure(figsize=(7.5, 0.7 + sum(0.55 + 0.27 * len(found) for found in rates.values())))
    figure.set_layout_engine("constrained")
    ratios = [len(found) + 1 for found in rates.values()]
    panels = figure.subplots(len(rates), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, (place, found) in zip(panels, rates.items(), strict=True):
        _bars(axes, found, ",.0f")
        axes.set_title(place, loc="left", fontsize=9, fontweight="bold")
    panels[-1].set_xlim(right=1.15 * max(max(found.values()) for found in rates.values()))
    _plain_numbers(panels[-1].xaxis)
    panels[-1].set_xlabel("points a second, median of the rounds")
    return figure


def _growth(results: Results) -> Figure | None:
    figure, panels = _figure(3.8, 9.5, 2)
    for axes, growth in zip(panels, ("points", "keys"), strict=True):
        _lines(axes, _growth_lines(results, growth))
        size = "points of a run" if growth == "points" else "keys"
        axes.set_xlabel(f"{size} (log scale)")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    rates = [rate for axes in panels for line in axes.lines for rate in line.get_ydata()]
    if not rates:
        return None
    for axes in panels:  # whole decades, the same for both
        axes.set_ylim(10 ** math.floor(math.log10(min(rates))), 10 ** math.ceil(math.log10(max(rates))))
    panels[0].set_ylabel("points a second (log scale)")
    return figure


def _growth_lines(results: Results, growth: str) -> dict[str, dict[int, float]]:
    lines: dict[str, dict[int, float]] = {}
    for way in ("trackside", BY_HAND):
        chosen = select(results, growth=growth, way=way)
        for key, rate in _medians(chosen, "rate").items():
            case = chosen[key][0]
            name = f"{way}: {case['metrics']} metrics a sample" if growth == "points" else way
            lines.setdefault(name, {})[case[growth]] = rate
    return lines


PLOTS: dict[str, tuple[str, Callable[[Results], Figure | None]]] = {
    "cost_of_log": ("cost_of_log", _cost_of_log),
    "cost_by_metrics": ("cost_of_log", _cost_by_metrics),
    "training_step": ("training_step", _training_step),
    "delivery": ("delivery", _delivery),
    "growth": ("scale", _growth),
    "memory": ("scale", draw_memory),
    "outage": ("outage", draw_outage),
    "fleet": ("fleet", draw_fleet),
    "fleet_course": ("fleet", draw_fleet_course),
}
"""By name: the benchmark, and what draws it."""
