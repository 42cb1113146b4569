"""A figure of plotly's as a page: its JSON, and the address of the script that draws it, as plotly has it.

The script comes from the address that plotly itself names with ``include_plotlyjs="cdn"``, as
``mlflow.log_figure`` has it, because it is larger than a thousand figures.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

PLOTLY = "plotly"
"""The form: a figure's JSON. ``details`` has the ``version`` of the script."""

_PAGE = """\
<!doctype html>
<html>
<head>
<meta charset="utf-8">
<style>html, body, #figure {{ height: 100%; margin: 0 }}</style>
<script src="https://cdn.plot.ly/plotly-{version}.min.js" charset="utf-8"></script>
</head>
<body>
<div id="figure"></div>
<script>
const figure = {figure};
Plotly.newPlot("figure", figure.data, figure.layout, {{responsive: true}}).then((plot) => {{
  if (figure.frames) Plotly.addFrames(plot, figure.frames);
}});
</script>
</body>
</html>
"""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.\-]*")


def plotly_file(record: ArtifactRecord, content: Path, folder: Path) -> Path:
    """Write the page of the figure into ``folder``. Raises :class:`RejectedError`, and ``OSError``."""
    version = str(record.details.get("version"))
    if not _VERSION.fullmatch(version):
        raise RejectedError(f"the figure {record.place!r} names no version of plotly's script")
    # A text in it may hold the end of the script. JSON has no "<" outside of texts.
    figure = content.read_text("utf-8", "backslashreplace").replace("<", "\\u003c")
    path = folder / "figure.html"
    path.write_text(_PAGE.format(version=version, figure=figure), "utf-8")
    return path
