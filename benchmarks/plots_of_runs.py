"""Draws what went on in one run: its memory, and an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.tables import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from benchmarks.results import Results
    from benchmarks.worker import Figures

TRAINER, SHIPPER = "#1f6fb4", "#d1671f"
STEP = "#6b7785"


def draw_memory(results: Results) -> Figure | None:
    """Of both processes, over the points delivered, in the largest run."""
    runs = [
        rounds[0]
        for rounds in select(results, growth="points", way="trackside").values()
        if "memory" in rounds[0]
    ]
    if not runs:
        return None
    run = max(runs, key=lambda found: found["points"])
    looks = {name: [look[at] for look in run["memory"]] for at, name in enumerate(run["memory_fields"])}
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("trainer", TRAINER), ("shipper", SHIPPER)):
        axes.plot(looks["points"], looks[name], color=colour, label=f"{name}: resident")
        own = f"{name}: not backed by a file"
        axes.plot(looks["points"], looks[f"{name}_own"], color=colour, linestyle="--", linewidth=1, label=own)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(f"points delivered, of {run['points']:,}")
    axes.set_ylabel("MiB")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_outage(results: Results) -> Figure | None:
    """For each place: points behind, and the mean step between two looks."""
    runs = {place: rounds[0] for place, rounds in results.rounds.items() if "backlog" in rounds[0]}
    if not runs:
        return None
    figure = Figure(figsize=(7.5, 2.4 * len(runs) + 0.3), layout="constrained")
    panels = figure.subplots(len(runs), 1, squeeze=False)[:, 0]
    for axes, (place, run) in zip(panels, runs.items(), strict=True):
        _outage_panel(axes, place, run)
    panels[-1].set_xlabel("seconds since the training began")
    return figure


def draw_backlog(
    axes: Axes,
    seconds: Sequence[float],
    behind: Sequence[float],
    *,
    away: tuple[float, float] | None,
    colour: str,
) -> None:
    """How far the delivery is behind, with the time shaded in which the server is ``away``."""
    if away is not None:
        axes.axvspan(*away, color="#f3dcd3", zorder=0)
    axes.fill_between(seconds, behind, color=colour, alpha=0.35, linewidth=0)
    axes.plot(seconds, behind, color=colour)
    axes.set_ylim(bottom=0)


def _outage_panel(axes: Axes, place: str, run: Figures) -> None:
    seconds, behind, steps = zip(*run["backlog"], strict=True)
    draw_backlog(axes, seconds, behind, away=(run["outage_at"], run["up_at"]), colour=SHIPPER)
    axes.set_ylabel("points behind", color=SHIPPER)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title(
        f"{place}, {run['points']:,} points (shaded: nothing can be delivered)", loc="left", fontsize=9
    )
    right = axes.twinx()
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    right.plot(seconds, steps, color=STEP, linewidth=1)
    right.set_ylabel("ms a step", color=STEP)
    right.set_ylim(0, 1.3 * max(steps))
