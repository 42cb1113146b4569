"""Images, figures, histograms, sounds and videos that have a key and a step, in MLflow's own layout.

MLflow's page reads the key, step and time of an image from its name in the folder ``images``, and takes the
part behind them for one image: the full PNG, and a small one to show in the grid (``Client.log_image``, in
``mlflow/tracking/client.py``). Since 3.11 the parts are separated by ``+``, and ``~`` stands for ``/``. The
pages of older servers know ``+`` as well. What these wrote themselves (``%`` and ``#``) can't be downloaded.

Invariant: names come from the record alone. So an upload that is repeated, by another shipper too, replaces
the first one.
"""

from __future__ import annotations

import re
import uuid
from hashlib import blake2b
from typing import TYPE_CHECKING

from trackside.encoding.finished import finished
from trackside.encoding.histograms import HISTOGRAM
from trackside.encoding.pixels import PIXELS, picture_of
from trackside.encoding.rasters import suffix_of, write_raster, write_small

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.journal.format import ArtifactRecord

LOGGED_IMAGES = "mlflow.loggedImages"
"""The tag that makes the page look for images (``MLFLOW_LOGGED_IMAGES``)."""

SMALL = 256
"""The longest side of an image in the grid, in pixels (``COMPRESSED_IMAGE_SIZE``)."""

_NOT_IN_A_KEY = re.compile(r"[^a-zA-Z0-9_\-./ ]")
_FOLDERS = {"figure": "figures", "audio": "audio", "video": "videos"}
_MAX_KEY = 120


def write_picture(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Upload an image or a figure: into the grid, or as the file of its own name."""
    if record.step is None:
        run.upload(finished(record, content, run.folder), record.place)
    elif record.form in {PIXELS, HISTOGRAM}:
        _write_to_grid(run, record, content)
    else:
        write_keyed_file(run, record, content)


def write_keyed_file(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Upload what the page's grid doesn't show. It is named as images are, in a folder of its kind."""
    made = finished(record, content, run.folder)
    suffix = record.details.get("suffix") or suffix_of(made.name)
    run.upload(made, f"{_FOLDERS.get(record.kind, record.kind)}/{_stem(run, record)}{suffix}")


def _write_to_grid(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    picture = picture_of(record, content)
    stem = f"images/{_stem(run, record)}"
    full = run.folder / "full.png"
    write_raster(picture, full)
    run.upload(full, f"{stem}.png")
    small = write_small(picture, run.folder, SMALL)
    run.upload(small, f"{stem}+compressed{small.suffix}")
    run.set_tag(LOGGED_IMAGES, "True")


def _stem(run: ArtifactRun, record: ArtifactRecord) -> str:
    # Behind a slash, so that the page shows the picture in one section with the percentiles.
    place = f"{record.place}/histogram" if record.form == HISTOGRAM else record.place
    key = image_key(place).replace("/", "~")
    unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{run.connection.journal_id}/{record.seq}")
    return f"{key}+step+{record.step}+timestamp+{record.timestamp_ms}+{unique}"


def image_key(key: str) -> str:
    """``key`` in the characters that MLflow takes. Keys that differ only in others stay two keys."""
    plain = _NOT_IN_A_KEY.sub("_", key)
    if plain == key and len(key) <= _MAX_KEY:
        return key
    return f"{plain[:_MAX_KEY]}-{blake2b(key.encode(), digest_size=4).hexdigest()}"
