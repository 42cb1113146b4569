"""Figures: as matplotlib itself saves them, and plotly's as a page."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tests.sinks.artifacts.delivered import file_of, pixels_of, told
from tests.sinks.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def figure(**options: Any) -> Figure:
    """A small figure with a line."""
    made = Figure(figsize=(3, 2), dpi=80, **options)
    made.subplots().plot([1, 3, 2])
    return made


def saved(drawn: Figure, **options: Any) -> Any:
    """The pixels of the PNG that matplotlib saves."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", **options)
    return np.asarray(Image.open(file))


def test_a_figure_is_what_matplotlib_saves(kept: Kept, tmp_path: Path) -> None:
    """Pixel by pixel, in the figure's own size, and without a change of its canvas."""
    drawn = figure()
    canvas = FigureCanvasAgg(drawn)
    kept.bus.log_figure(drawn, key="curve", step=3)
    record = kept.record()
    assert (record.kind, record.place, record.step, record.form) == ("figure", "curve", 3, "pixels")
    found = pixels_of(file_of(kept, record, tmp_path))
    assert found.shape == (160, 240, 4)
    assert np.array_equal(found, saved(drawn))
    assert drawn.canvas is canvas


def test_the_users_own_settings_are_kept(kept: Kept, tmp_path: Path) -> None:
    """Resolution and a tight box, as ``savefig`` has them."""
    with mpl.rc_context({"savefig.dpi": 40, "savefig.bbox": "tight", "savefig.facecolor": "red"}):
        drawn = figure()
        kept.bus.log_figure(drawn, key="curve", step=3)
        found = pixels_of(file_of(kept, kept.record(), tmp_path))
        assert np.array_equal(found, saved(drawn))
    assert found.shape[0] < 80


def test_axes_and_a_closed_figure(kept: Kept, tmp_path: Path) -> None:
    """Closing a figure takes away its window alone. Axes, also several, and grids stand for their figure."""
    import matplotlib.pyplot as plt

    with plt.rc_context({"backend": "Agg"}):
        drawn, axes = plt.subplots(figsize=(1, 1), dpi=50)
        axes.plot([1, 2])
        expected = saved(drawn)
        kept.bus.log_figure(plt, key="curve", step=3)
        plt.close(drawn)
    several = np.array([[axes, axes]])
    named = {"left": axes}
    for shown in (axes, SimpleNamespace(figure=drawn), drawn, several, [axes], (drawn, several), named):
        kept.bus.log_figure(shown, key="curve", step=3)
    for record in kept.records():
        assert np.array_equal(pixels_of(file_of(kept, record, tmp_path)), expected)


@pytest.mark.parametrize(
    ("suffix", "beginning"),
    [("png", b"\x89PNG"), ("jpg", b"\xff\xd8"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("eps", b"%!PS")],
)
def test_a_file_has_the_format_of_its_name(
    kept: Kept, tmp_path: Path, suffix: str, beginning: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Drawings are written in the loop, and that is told."""
    kept.bus.log_figure(figure(), f"figures/curve.{suffix}")
    record = kept.record()
    assert record.place == f"figures/curve.{suffix}"
    assert file_of(kept, record, tmp_path).read_bytes().startswith(beginning)
    assert ("written in your training loop" in told(caplog)) == (suffix in {"svg", "pdf", "eps"})


class Broken:
    """A figure that can't be drawn."""

    def get_size_inches(self) -> Any:
        """As a figure of matplotlib has it."""

    def savefig(self, *_arguments: Any, **_options: Any) -> None:
        """Fail as one with a fault in a formula does."""
        raise ValueError("Expected end of text, found '$'")


@pytest.mark.parametrize(
    ("shown", "options", "advice"),
    [
        (None, {}, "not NoneType"),
        ("curve.png", {}, "log_artifact()"),
        (np.zeros((4, 4)), {}, "log_image()"),
        (Figure, {}, "not type"),
        ([], {}, "not list"),
        (np.array([], object), {}, "not numpy.ndarray"),
        ({}, {}, "not dict"),
        (Broken(), {}, "can't draw the figure: ValueError: Expected end of text"),
        (Figure(figsize=(100, 100), dpi=100), {}, "Choose another size or dpi"),
        (figure(), {"artifact_file": "curve.html"}, "End it in .png"),
        (figure(), {"artifact_file": "curve"}, "End it in .png"),
        (figure(), {"artifact_file": "curve.png", "key": "a"}, "two places"),
    ],
)
def test_what_is_no_figure_is_told(
    kept: Kept, caplog: pytest.LogCaptureFixture, shown: Any, options: Any, advice: str
) -> None:
    """Nothing is raised and nothing is kept. The warning says what to do."""
    kept.bus.log_figure(shown, **(options or {"key": "curve", "step": 0}))
    assert kept.records() == []
    assert advice in told(caplog)


class Plotly:
    """What is used of a figure of plotly's, which the tests' environment does not have."""

    def to_plotly_json(self) -> Any:
        """What tells it from others."""

    def to_json(self) -> str:
        """With a text that would end a script."""
        return json.dumps({"data": [{"y": [1, 2]}], "layout": {"title": "</script> ü"}}, ensure_ascii=False)


@pytest.fixture
def _plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    offline = SimpleNamespace(get_plotlyjs_version=lambda: "3.1.2")
    monkeypatch.setitem(sys.modules, "plotly", SimpleNamespace(offline=offline))


@pytest.mark.usefixtures("_plotly")
def test_a_figure_of_plotly_is_a_page(kept: Kept, tmp_path: Path) -> None:
    """With the script of its own version, and its data, whatever texts are in it."""
    kept.bus.log_figure(Plotly(), "curve.html")
    kept.bus.log_figure(Plotly(), key="curve", step=3)
    for record in kept.records():
        page = file_of(kept, record, tmp_path).read_text("utf-8")
        assert "https://cdn.plot.ly/plotly-3.1.2.min.js" in page
        (line,) = [line for line in page.splitlines() if line.startswith("const figure = ")]
        assert line.isascii() or "ü" in line
        assert json.loads(line.removeprefix("const figure = ").removesuffix(";")) == json.loads(
            Plotly().to_json()
        )
        assert page.count("</script>") == 2


@pytest.mark.usefixtures("_plotly")
def test_the_data_of_plotly_alone(kept: Kept, tmp_path: Path) -> None:
    """As the file that plotly reads again."""
    kept.bus.log_figure(Plotly(), "curve.json")
    assert json.loads(file_of(kept, kept.record(), tmp_path).read_bytes()) == json.loads(Plotly().to_json())


@pytest.mark.usefixtures("_plotly")
def test_a_picture_of_plotly_needs_a_browser(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Starting one takes seconds, so it is yours to do."""
    kept.bus.log_figure(Plotly(), "curve.png")
    assert kept.records() == []
    assert "write_image()" in told(caplog)
