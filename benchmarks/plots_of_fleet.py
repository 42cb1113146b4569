"""Draws what fleets of runs got from one server, by their size and over time."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.plots_of_runs import draw_backlog
from benchmarks.spread import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.results import Results
    from benchmarks.worker import Figures

PANELS = {
    "rate": "points a second",
    "visible_median": "seconds until a point is visible, median",
    "requests_s": "requests a second",
    "server_cpu": "processor cores of the server",
}
COLOURS = {"stock store": "#9aa5b1", "bulk store": "#1f6fb4"}
POINTS_A_SECOND = 10


def draw_fleet(results: Results) -> Figure | None:
    """By the number of runs, a line for each store. Both axes are logarithmic."""
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, squeeze=False).ravel()
    drawn = [
        _draw_lines(axes, results, name, title)
        for axes, (name, title) in zip(panels, PANELS.items(), strict=True)
    ]
    if not any(drawn):
        return None
    for axes in panels[2:]:
        axes.set_xlabel("runs (log scale)")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _draw_lines(axes: Axes, results: Results, name: str, title: str) -> bool:
    """Whether there was anything to draw."""
    lines: dict[str, dict[int, float]] = {}
    for rounds in results.rounds.values():
        values = values_of(rounds, name)
        if values:
            lines.setdefault(rounds[0]["store"], {})[rounds[0]["runs"]] = statistics.median(values)
    for store, line in lines.items():
        xs = sorted(line)
        axes.plot(xs, [line[x] for x in xs], marker="o", color=COLOURS[store], label=store)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xscale("log")
    if lines:
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        )
        axis.set_minor_formatter(NullFormatter())
    return bool(lines)


def draw_fleet_course(results: Results) -> Figure | None:
    """How far each fleet was behind, in seconds of what it logs."""
    fleets = {key: rounds[0] for key, rounds in results.rounds.items() if "looks" in rounds[0]}
    if not fleets:
        return None
    figure = Figure(figsize=(7.5, 1.7 * len(fleets) + 0.4), layout="constrained")
    panels = figure.subplots(len(fleets), 1, squeeze=False)[:, 0]
    for axes, (key, fleet) in zip(panels, fleets.items(), strict=True):
        _draw_course(axes, key, fleet)
    panels[-1].set_xlabel("seconds since the runs began")
    return figure


def _draw_course(axes: Axes, key: str, fleet: Figures) -> None:
    seconds = [look[0] for look in fleet["looks"]]
    behind = [look[1] / (POINTS_A_SECOND * fleet["runs"]) for look in fleet["looks"]]
    away = (fleet["seconds"] / 3, fleet["up_again"]) if fleet["outage"] else None
    draw_backlog(axes, seconds, behind, away=away, colour=COLOURS[fleet["store"]])
    axes.set_ylabel("seconds behind")
    axes.set_title(f"{key} (shaded: no server)", loc="left", fontsize=9)
