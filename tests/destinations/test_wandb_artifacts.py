"""Pictures, tables, histograms, files and models in W&B, offline, as its own files say."""

from __future__ import annotations

import json
import math
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.destinations.test_wandb import (
    logs,
    no_core_is_left,
    opened,
    pytestmark,
    raw,
    rows,
    tell_end,
)
from tests.destinations.tools import START_MS, artifact, records
from trackside.destinations.wandb import media
from trackside.encoding.tables import ROWS
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from trackside.destinations.wandb.destination import WandbDestination

__all__ = ["no_core_is_left", "pytestmark"]  # what every test of W&B needs

NUMBERS = {"min": -1.0, "max": 2.0, "sum": 4.5, "sum_squares": 9.25, "num": 10}
HISTOGRAM = {"edges": [-1.0, 0.0, 0.5, 2.0], "counts": [2, 3, 5], **NUMBERS}


def picture(path: Path, colour: int = 9) -> Path:
    """A picture of five by three pixels. What is held has a name without an ending."""
    Image.new("RGB", (5, 3), (colour, 2, 1)).save(path, "PNG")
    return path


def files_of(directory: Path) -> Path:
    """The folder with the run's files."""
    (path,) = logs(directory)
    return path.parent / "files"


def saved(directory: Path) -> set[str]:
    """The files that W&B was told of."""
    return {item.path for record in raw(directory) for item in record.files.files}


def models(directory: Path) -> list[Any]:
    """The models that W&B was told of."""
    return [record.artifact for record in raw(directory) if record.artifact.type == "model"]


def write_all(made: WandbDestination, directory: Path) -> None:
    """One of each way, between two rows of metrics."""
    held = directory / "held"
    held.mkdir(exist_ok=True)
    made.write_metrics(records(1))
    content = picture(held / "0a1b")
    made.write_artifact(artifact("image", "val/samples", content, step=3), content)
    made.write_artifact(
        artifact("histogram", "weights", None, step=4, form="histogram", details=HISTOGRAM), None
    )
    table = {"rows": [["step", "guess"], [[1, "seven"], [2, None]]]}
    made.write_artifact(artifact("table", "rows.json", None, form=ROWS, details=table), None)
    (held / "text").write_text("hello", "utf-8")
    made.write_artifact(artifact("text", "config.yaml", held / "text"), held / "text")
    details = {"file": "last.pt", "metrics": {"loss": 0.5}}
    made.write_artifact(artifact("checkpoint", "last", held / "text", step=5, details=details), held / "text")
    made.write_metrics(records(6))


def check_all(directory: Path) -> None:
    """What :func:`write_all` wrote is there once, and each file that is named exists."""
    found = rows(directory)
    # W&B gives a row without a step the last one.
    assert [row["trainer/global_step"] for row in found] == [1, 3, 4, 4, 6]
    first, samples, weights, table, last = found
    assert (first["loss"], last["loss"]) == (1.0, 6.0)
    files = files_of(directory)
    shown = samples["val/samples"]
    assert (shown["_type"], shown["width"], shown["height"]) == ("image-file", 5, 3)
    assert Image.open(files / shown["path"]).getpixel((0, 0)) == (9, 2, 1)
    assert samples["_timestamp"] == START_MS / 1000
    assert weights["weights"] == {
        "_type": "histogram",
        "values": HISTOGRAM["counts"],
        "bins": HISTOGRAM["edges"],
    }
    assert table["rows.json"]["_type"] == "table-file"
    content = json.loads((files / table["rows.json"]["path"]).read_text())
    assert (content["columns"], content["data"]) == (["step", "guess"], [[1, "seven"], [2, None]])
    assert (files / "artifacts" / "config.yaml").read_text() == "hello"
    assert {shown["path"], table["rows.json"]["path"], "artifacts/config.yaml"} <= saved(directory)
    (model,) = models(directory)
    assert (model.name, sorted(model.aliases)) == ("last", ["latest", "step-5"])
    assert json.loads(model.metadata) == {"step": 5, "metrics": {"loss": 0.5}, "params": None}
    (content,) = model.manifest.contents
    assert content.path == "last.pt"
    assert Path(content.local_path).read_text() == "hello"


def test_each_kind_has_its_place(tmp_path: Path) -> None:
    """What has a step is in a row, and so is a table. Files are the run's, and a checkpoint is a model."""
    made = opened(tmp_path)
    write_all(made, tmp_path)
    tell_end(made)
    check_all(tmp_path)


def test_a_restarted_shipper_brings_all_of_it_again(tmp_path: Path) -> None:
    """The held files are gone by then. It is in the one run that is left, once."""
    made = opened(tmp_path)
    write_all(made, tmp_path)
    made._abandon()
    for path in (tmp_path / "held").iterdir():
        path.unlink()
    again = opened(tmp_path, made.state())
    again._abandon()
    tell_end(opened(tmp_path, again.state()))
    check_all(tmp_path)


def test_what_was_not_acknowledged_comes_once(tmp_path: Path) -> None:
    """A shipper that died before the acknowledgement gets the artifact again."""
    made = opened(tmp_path)
    content = picture(tmp_path / "held")
    made.write_artifact(artifact("image", "samples", content, step=1), content)
    kept = made.state()
    made.write_artifact(artifact("image", "samples", content, step=2), content)
    made.write_artifact(artifact("checkpoint", "last", content, step=2), content)
    made._abandon()
    again = opened(tmp_path, kept)
    again.write_artifact(artifact("image", "samples", content, step=2), content)
    again.write_artifact(artifact("checkpoint", "last", content, step=2), content)
    tell_end(again)
    assert [row["trainer/global_step"] for row in rows(tmp_path)] == [1, 2]
    assert {model.digest for model in models(tmp_path)} == {models(tmp_path)[0].digest}


def test_pictures_pages_sounds_and_videos(tmp_path: Path) -> None:
    """By what the file is. Without a step it is a file of the run."""
    made = opened(tmp_path)
    page, sound, video = tmp_path / "page.html", tmp_path / "a.wav", tmp_path / "a.gif"
    page.write_text("<html>plot", "utf-8")
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(200))
    Image.new("P", (4, 4)).save(video)
    pdf = tmp_path / "a.pdf"
    pdf.write_bytes(b"%PDF")
    made.write_artifact(artifact("figure", "plot", page, step=1), page)
    made.write_artifact(artifact("audio", "voice", sound, step=2), sound)
    made.write_artifact(artifact("video", "clip", video, step=3), video)
    made.write_artifact(artifact("figure", "paper", pdf, step=4), pdf)
    made.write_artifact(artifact("figure", "plots/page.html", page), page)
    tell_end(made)
    found = rows(tmp_path)
    kinds = [(name, row[name]["_type"]) for row in found for name in row if isinstance(row[name], dict)]
    assert kinds == [("plot", "html-file"), ("voice", "audio-file"), ("clip", "video-file")]
    assert (files_of(tmp_path) / found[1]["voice"]["path"]).read_bytes() == sound.read_bytes()
    assert (files_of(tmp_path) / "artifacts/plots/page.html").read_text() == "<html>plot"


def test_a_folder_is_kept_whole(tmp_path: Path) -> None:
    """As files of the run, or as a model of several files. Names may hold anything."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("a[1].txt", "inner/größe *.txt"):
        (folder / name).write_text(name, "utf-8")
    made = opened(tmp_path)
    made.write_artifact(artifact("folder", "data", folder), folder)
    made.write_artifact(artifact("model", "digits model", folder), folder)
    tell_end(made)
    assert {"artifacts/data/a[1].txt", "artifacts/data/inner/größe *.txt"} <= saved(tmp_path)
    (model,) = models(tmp_path)
    assert (model.name, list(model.aliases)) == ("digits_model", ["latest"])
    assert {entry.path for entry in model.manifest.contents} == {"a[1].txt", "inner/größe *.txt"}


def test_a_place_outside_the_run_is_rejected(tmp_path: Path) -> None:
    """Whatever a record says. The run goes on."""
    content = picture(tmp_path / "held")
    made = opened(tmp_path)
    for place in ("../../over", "/tmp/over", "a/../../../b"):
        with pytest.raises(RejectedError, match="no place below"):
            made.write_artifact(artifact("file", place, content), content)
    with pytest.raises(RejectedError, match="no place below"):
        made.write_artifact(artifact("model", "m", content, details={"file": "../m.json"}), content)
    made.write_metrics(records(1))
    tell_end(made)
    assert saved(tmp_path) == set()
    assert models(tmp_path) == []


def test_what_can_never_be_delivered_is_rejected(tmp_path: Path) -> None:
    """A place that is a file and a folder, a page that is no text. The next one is delivered."""
    content, page = picture(tmp_path / "held"), tmp_path / "page.html"
    page.write_bytes(b"<html>\xff")
    made = opened(tmp_path)
    made.write_artifact(artifact("file", "a", content), content)
    with pytest.raises(RejectedError, match="can't be a copy"):
        made.write_artifact(artifact("file", "a/b", content), content)
    with pytest.raises(RejectedError, match="W&B takes no figure 'plot'"):
        made.write_artifact(artifact("figure", "plot", page, step=1), page)
    with pytest.raises(RejectedError, match="gone from this machine"):
        made.write_artifact(artifact("image", "gone", tmp_path / "gone", step=1), tmp_path / "gone")
    made.write_artifact(artifact("image", "samples", content, step=1), content)
    tell_end(made)
    assert [row["samples"]["_type"] for row in rows(tmp_path)] == ["image-file"]
    assert "artifacts/a" in saved(tmp_path)


@pytest.mark.parametrize("kind", ["dataset", "hologram"])
def test_what_wandb_has_no_word_for_is_left_out(kind: str, tmp_path: Path) -> None:
    """Quietly."""
    made = opened(tmp_path)
    made.write_artifact(artifact(kind, "place", None, form="of a later version"), None)
    made.write_metrics(records(1))
    tell_end(made)
    assert len(rows(tmp_path)) == 1


def test_a_histogram_of_many_bins_is_made_smaller(tmp_path: Path) -> None:
    """W&B takes 512 at most. No value is left out, and both ends stay."""
    import wandb

    details = {"edges": [float(edge) for edge in range(1302)], "counts": [1] * 1301, **NUMBERS}
    made = media.histogram(wandb, artifact("histogram", "weights", None, details=details))
    assert len(made.histogram) <= 512
    assert len(made.bins) == len(made.histogram) + 1
    assert math.isclose(sum(made.histogram), 1301)
    assert (made.bins[0], made.bins[-1]) == (0.0, 1301.0)


def test_tables_wait_beside_the_run_and_not_in_your_home(tmp_path: Path) -> None:
    """Where ``wandb sync`` reads them."""
    made = opened(tmp_path)
    table = {"rows": [["a"], [[1]]]}
    made.write_artifact(artifact("table", "rows.json", None, form=ROWS, details=table), None)
    tell_end(made)
    (kept,) = [record.artifact for record in raw(tmp_path) if record.WhichOneof("record_type") == "artifact"]
    (content,) = kept.manifest.contents
    assert Path(content.local_path).is_relative_to(tmp_path)
