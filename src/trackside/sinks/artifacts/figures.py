"""Figures: matplotlib draws in the call, plotly writes JSON in it, and the shipper makes the file.

A figure of matplotlib can only be drawn where it is, because no other process may read it: pickles run code.
What is left to the shipper is the compression, which takes as long as the drawing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import type_name
from trackside.encoding.plots import PLOTLY
from trackside.encoding.rasters import FORMATS, suffix_of
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.lifecycle.crash import text_of
from trackside.sinks.artifacts.images import pixels_record
from trackside.sinks.artifacts.pixels import MAX_BYTES, Pixels
from trackside.sinks.artifacts.places import place_of

if TYPE_CHECKING:
    from trackside.artifact_events import FigureEvent
    from trackside.journal.format import HeldFile
    from trackside.sinks.artifacts.keeping import Keeping
    from trackside.sinks.artifacts.places import Place

_DRAWN = {".svg", ".pdf", ".eps", ".ps", ".svgz"}
"""Formats of drawings, which matplotlib writes itself."""

_CHANNELS = 4


def figure_record(event: FigureEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the figure. Raises :class:`ArtifactError` for what is none, and ``OSError``."""
    place = place_of(event, keeping)
    if hasattr(event.figure, "to_plotly_json"):
        return _plotly_record(event, place, keeping)
    figure = _matplotlib_figure(event.figure)
    suffix = suffix_of(place.name) if place.step is None else ".png"
    if suffix in _DRAWN:
        keeping.tell(
            f"a figure as {suffix}",
            "is written in your training loop, which takes longer than a .png, which the shipper writes",
        )
        return _record(event, place, keeping.keep_bytes(_saved(figure, suffix[1:])), "file")
    if suffix not in FORMATS:
        known = ", ".join(sorted({*FORMATS, *_DRAWN}))
        raise ArtifactError(f"{place.name!r} names no picture. End it in .png, or one of {known}")
    return pixels_record(event, "figure", place, _pixels(figure), keeping)


def _record(
    event: FigureEvent, place: Place, held: HeldFile, form: str, details: dict[str, Any] | None = None
) -> ArtifactRecord:
    return ArtifactRecord(
        0, event.timestamp_ms, "figure", place.name, place.step, held, form, details=details or {}
    )


def _matplotlib_figure(value: Any) -> Any:
    """The figure of a figure, of one or several axes, of a seaborn grid, or the current one of ``pyplot``."""
    if value is sys.modules.get("matplotlib.pyplot") and value is not None:
        return value.gcf()
    first = _first_of(value)
    for figure in (value, getattr(value, "figure", None), first, getattr(first, "figure", None)):
        if not isinstance(figure, type) and hasattr(figure, "savefig") and hasattr(figure, "get_size_inches"):
            return figure
    raise ArtifactError(
        f"log_figure() takes a figure of matplotlib or plotly, not {type_name(type(value))}. "
        "For an image call log_image(), for a file log_artifact()"
    )


def _first_of(value: Any) -> Any:
    """The first of several axes, as ``plt.subplots()``, ``subplot_mosaic()`` and pandas return them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    elif getattr(getattr(value, "dtype", None), "kind", "") == "O":
        value = list(value.flat)
    return value[0] if isinstance(value, (list, tuple)) and value else None


class _Canvas:
    """A file that keeps the pixels matplotlib writes to it, with their shape."""

    def __init__(self) -> None:
        self.pixels: memoryview | None = None

    def seek(self, *_arguments: Any) -> None:
        """There is nowhere to go. matplotlib tells a file by this method."""
        raise io.UnsupportedOperation("seek")

    def write(self, pixels: memoryview) -> None:
        """Keep the pixels. They are the canvas's own, and are copied right after this."""
        self.pixels = pixels


def _pixels(figure: Any) -> Pixels:
    canvas = _Canvas()
    _save(figure, canvas, "rgba")  # pixels as they are: the same drawing as a PNG, and not compressed
    drawn = canvas.pixels
    shape = () if drawn is None else drawn.shape or ()
    if drawn is None or len(shape) != 3 or shape[2] != _CHANNELS:  # noqa: PLR2004
        raise ArtifactError("matplotlib has drawn no pixels. Save the figure and call log_artifact()")
    height, width, _ = shape
    if drawn.nbytes == 0 or drawn.nbytes > MAX_BYTES:
        raise ArtifactError(
            f"the figure has {width} by {height} pixels. Choose another size or dpi: up to "
            f"{MAX_BYTES >> 20} MiB are kept"
        )
    return Pixels(drawn.cast("B"), height, width, _CHANNELS)


def _saved(figure: Any, kind: str) -> bytes:
    file = io.BytesIO()
    _save(figure, file, kind)
    return file.getvalue()


def _save(figure: Any, file: Any, kind: str) -> None:
    try:
        figure.savefig(file, format=kind)
    except Exception as error:
        raise ArtifactError(
            f"matplotlib can't draw the figure: {type(error).__name__}: {text_of(error)}"
        ) from error


def _plotly_record(event: FigureEvent, place: Place, keeping: Keeping) -> ArtifactRecord:
    """Keep a figure of plotly's as JSON: MLflow shows the page that is made of it."""
    suffix = suffix_of(place.name) if place.step is None else ".html"
    if suffix not in {".html", ".htm", ".json"}:
        raise ArtifactError(
            f"a figure of plotly can't become {place.name!r} without a browser. End it in .html, or call its "
            "write_image() and log_artifact()"
        )
    try:
        document = event.figure.to_json()
        version = sys.modules["plotly"].offline.get_plotlyjs_version()
    except Exception as error:
        raise ArtifactError(
            f"plotly can't write the figure: {type(error).__name__}: {text_of(error)}"
        ) from error
    held = keeping.keep_bytes(document.encode("utf-8", "backslashreplace"))
    if suffix == ".json":
        return _record(event, place, held, "file")
    return _record(event, place, held, PLOTLY, {"version": str(version), "suffix": ".html"})
