"""Pictures, histograms, texts, tables and sounds, as TensorBoard reads them back."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from tests.destinations.test_tensorboard import opened, read, tell_end
from tests.destinations.tools import START_MS, artifact, metrics
from tests.sinks.kept import Kept
from trackside.destinations.tensorboard.artifacts import MAX_ROWS, MAX_TEXT, as_markdown_table
from trackside.encoding.tables import ROWS, Rows, pack_rows
from trackside.errors import RejectedError
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def written(directory: Path, records: Sequence[tuple[ArtifactRecord, Path | None]]) -> EventAccumulator:
    """What TensorBoard sees of ``records``, between metrics that have to be there, too."""
    made = opened(directory)
    made.write_metrics([metrics(1)])
    for record, content in records:
        made.write_artifact(record, content)
    made.write_metrics([metrics(2)])
    tell_end(made)
    made.close()
    found = read(directory / "runs")
    assert [point.step for point in found.Scalars("loss")] == [1, 2]
    return found


def picture(path: Path, colour: int = 9, kind: str = "PNG") -> Path:
    """A picture of five by three pixels."""
    Image.new("RGB", (5, 3), (colour, 2, 1)).save(path, kind)
    return path


def texts(found: EventAccumulator, tag: str) -> list[tuple[int, str]]:
    """Step and text of each event in the Text tab."""
    events = found.Tensors(tag)
    return [(event.step, event.tensor_proto.string_val[0].decode("utf-8")) for event in events]


@pytest.mark.parametrize("kind", ["image", "figure"])
def test_pictures_are_in_the_images_tab(kind: str, tmp_path: Path) -> None:
    """By key, with step, time, size, and the pixels that were logged."""
    paths = [picture(tmp_path / f"{step}.png", step) for step in (3, 4)]
    records = [
        (artifact(kind, "val/samples", path, step=step), path)
        for step, path in zip((3, 4), paths, strict=True)
    ]
    found = written(tmp_path, records)
    assert found.Tags()["images"] == ["val/samples"]
    for step, event in zip((3, 4), found.Images("val/samples"), strict=True):
        assert (event.step, event.wall_time, event.width, event.height) == (step, START_MS / 1000, 5, 3)
        pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert (pixels.shape, pixels[0, 0].tolist()) == ((3, 5, 3), [step, 2, 1])


@pytest.mark.parametrize(("kind", "shown"), [("JPEG", True), ("GIF", True), ("BMP", True), ("TIFF", False)])
def test_a_picture_in_another_format_is_shown_if_browsers_show_it(
    kind: str, shown: bool, tmp_path: Path
) -> None:
    """A picture that has a file name is called by that. The last of one name is the one that is shown."""
    path = picture(tmp_path / "picture", kind=kind)
    found = written(tmp_path, [(artifact("image", "plots/first.jpg", path), path)])
    assert found.Tags()["images"] == (["plots/first.jpg"] if shown else [])


def test_a_figure_that_is_a_page_is_left_out(tmp_path: Path) -> None:
    """TensorBoard shows no HTML. Nothing fails."""
    page = tmp_path / "page.html"
    page.write_text("<html>")
    assert written(tmp_path, [(artifact("figure", "page.html", page), page)]).Tags()["images"] == []


def histogram(**changes: Any) -> ArtifactRecord:
    """Of ten values in three bins."""
    details = {
        "edges": [-1.0, 0.0, 0.5, 2.0],
        "counts": [2, 3, 5],
        "min": -1.0,
        "max": 2.0,
        "sum": 4.5,
        "sum_squares": 9.25,
        "num": 10,
    }
    return artifact("histogram", "weights", None, step=7, form="histogram", details={**details, **changes})


def test_histograms_are_in_the_histograms_tab(tmp_path: Path) -> None:
    """With their bins and their sums, as ``SummaryWriter.add_histogram`` writes them."""
    found = written(tmp_path, [(histogram(), None)])
    (event,) = found.Histograms("weights")
    values = event.histogram_value
    assert (event.step, event.wall_time) == (7, START_MS / 1000)
    assert (values.min, values.max, values.num, values.sum, values.sum_squares) == (-1, 2, 10, 4.5, 9.25)
    assert (list(values.bucket_limit), list(values.bucket)) == ([0, 0.5, 2], [2, 3, 5])


@pytest.mark.parametrize(
    "changes",
    [
        {"edges": [1.0]},
        {"counts": []},
        {"counts": None},
        {"min": "small"},
        {"num": None},
        {"edges": [[1]] * 4},
    ],
)
def test_a_histogram_that_is_none_is_rejected(changes: dict[str, Any], tmp_path: Path) -> None:
    """For good. What comes behind it is written."""
    made = opened(tmp_path)
    with pytest.raises(RejectedError, match="weights"):
        made.write_artifact(histogram(**changes), None)
    made.write_artifact(histogram(), None)
    made.close()
    assert len(read(tmp_path / "runs").Histograms("weights")) == 1


def test_texts_are_in_the_text_tab(tmp_path: Path) -> None:
    """As they are, in a block of code, so that Markdown changes nothing. Markdown itself is shown as such."""
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_text("# a comment\n  x = 1 * 2 * 3\nlast", "utf-8")
    marked.write_text("# A title\n", "utf-8")
    records = [(artifact("text", "a.py", plain), plain), (artifact("text", "b.md", marked), marked)]
    found = written(tmp_path, records)
    assert texts(found, "a.py") == [(0, "    # a comment\n      x = 1 * 2 * 3\n    last\n")]
    assert texts(found, "b.md") == [(0, "# A title\n")]


def test_documents_are_texts(tmp_path: Path) -> None:
    """As JSON or YAML, by their name."""
    content = tmp_path / "held"
    content.write_bytes(msgspec.msgpack.encode({"lr": 0.1}))
    found = written(tmp_path, [(artifact("document", "a.yaml", content, form="document"), content)])
    assert texts(found, "a.yaml") == [(0, "    lr: 0.1\n")]


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    """The tab shows all of a text on one page. The whole of it is in MLflow."""
    path = tmp_path / "long"
    path.write_text("é" * (MAX_TEXT + 1), "utf-8")
    ((_, text),) = texts(written(tmp_path, [(artifact("text", "a.md", path), path)]), "a.md")
    assert text == "é" * MAX_TEXT + "\n... (only the beginning of the text is here)\n"


def test_tables_are_in_the_text_tab(tmp_path: Path) -> None:
    """The rows of each call, as a table of Markdown. Few rows are in the record, many in a file."""
    content = tmp_path / "held"
    content.write_bytes(pack_rows(Rows(["a|b", "c"], [["x\ny", None], ["|", {"d": [1]}]])))
    inline = {"rows": [["a"], [[1], [2.5]]]}
    found = written(
        tmp_path,
        [
            (artifact("table", "t.json", content, form=ROWS), content),
            (artifact("table", "t.json", None, form=ROWS, details=inline), None),
        ],
    )
    assert texts(found, "t.json") == [
        (0, '| a\\|b | c |\n|---|---|\n| x y | null |\n| \\| | {"d": [1]} |'),
        (0, "| a |\n|---|\n| 1 |\n| 2.5 |"),
    ]


def test_a_long_table_is_cut() -> None:
    """And says how much is missing."""
    lines = as_markdown_table(["a"], [[number] for number in range(MAX_ROWS + 2)]).splitlines()
    assert (len(lines), lines[-1]) == (MAX_ROWS + 4, "2 more rows are not shown here.")


def test_sounds_are_in_the_audio_tab(tmp_path: Path) -> None:
    """A WAV file with its rate and length. Other files that browsers play as they are."""
    path, other, odd = tmp_path / "a.wav", tmp_path / "b.mp3", tmp_path / "c.xyz"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((2, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(4 * 100))
    other.write_bytes(b"ID3 and so on")
    odd.write_bytes(b"?")
    found = written(
        tmp_path,
        [
            (artifact("audio", "voice", path, step=2), path),
            (artifact("audio", "music", other, step=3), other),
            (artifact("audio", "odd", odd, step=4), odd),
        ],
    )
    (voice,), (music,) = found.Audio("voice"), found.Audio("music")
    assert (voice.step, voice.sample_rate, voice.length_frames, voice.content_type) == (
        2,
        8000,
        100,
        "audio/wav",
    )
    assert voice.encoded_audio_string == path.read_bytes()
    assert (music.step, music.content_type) == (3, "audio/mpeg")
    assert sorted(found.Tags()["audio"]) == ["music", "voice"]


@pytest.mark.parametrize("kind", ["file", "folder", "checkpoint", "model", "dataset", "hologram"])
def test_what_has_no_place_in_event_files_is_left_out(kind: str, tmp_path: Path) -> None:
    """Quietly: MLflow has it. So it is with kinds of a later version."""
    path = tmp_path / "held"
    path.write_text("content")
    before = written(tmp_path / "a", []).Tags()
    record = artifact(kind, "place", path, form="of a later version")
    assert written(tmp_path / "b", [(record, path), (record, None)]).Tags() == before


def test_a_step_beyond_64_bits_is_rejected(tmp_path: Path) -> None:
    """As that of a metric is."""
    path = picture(tmp_path / "a.png")
    made = opened(tmp_path)
    with pytest.raises(RejectedError, match="cannot hold 'samples'"):
        made.write_artifact(artifact("image", "samples", path, step=1 << 63), path)
    made.close()


def test_what_a_training_keeps_is_what_tensorboard_shows(tmp_path: Path) -> None:
    """Each call that has a place there, from the sink's own record to the tab."""
    kept = Kept(tmp_path / "journals")
    kept.bus.log_image(np.full((3, 5, 3), 7, np.uint8), key="samples", step=1)
    kept.bus.log_histogram(np.array([0.0, 1.0, 3.0]), "weights", 2)
    kept.bus.log_text("hello", "a.txt")
    kept.bus.log_dict({"lr": 0.1}, "b.json")
    kept.bus.log_table([{"a": 1}], "c.json")
    kept.bus.log_audio(np.zeros(80, np.float32), "voice", 3, sample_rate=8000)
    kept.bus.log_video(np.zeros((2, 4, 6, 3), np.uint8), "clip", 4, fps=2)
    records = [record for record in kept.records() if isinstance(record, ArtifactRecord)]
    contents = [None if one.held is None else content_of(kept.journal, one.held) for one in records]
    found = written(tmp_path, list(zip(records, contents, strict=True)))
    kept.close()
    (image,), (clip,) = found.Images("samples"), found.Images("clip")
    assert Image.open(io.BytesIO(image.encoded_image_string)).getpixel((4, 2)) == (7, 7, 7)
    assert (image.step, clip.step, clip.width, clip.height) == (1, 4, 6, 4)
    (weights,) = found.Histograms("weights")
    assert (weights.step, weights.histogram_value.num, weights.histogram_value.sum) == (2, 3, 4)
    assert sum(weights.histogram_value.bucket) == 3
    assert texts(found, "a.txt") == [(0, "    hello\n")]
    assert texts(found, "b.json") == [(0, '    {\n      "lr": 0.1\n    }\n')]
    assert texts(found, "c.json") == [(0, "| a |\n|---|\n| 1 |")]
    assert found.Audio("voice")[0].length_frames == 80


def test_a_file_that_is_gone_is_rejected(tmp_path: Path) -> None:
    """It will not come back. To try again without end would hold up what comes after it."""
    made = opened(tmp_path)
    gone = tmp_path / "gone"
    for kind, form in (("image", "file"), ("text", "file"), ("table", ROWS), ("audio", "file")):
        with pytest.raises(RejectedError, match=r"gone from this machine"):
            made.write_artifact(artifact(kind, "place", gone, form=form), gone)
    made.close()


def test_what_was_not_acknowledged_is_written_once(tmp_path: Path) -> None:
    """A restarted shipper delivers it again, behind what was acknowledged."""
    path = picture(tmp_path / "a.png")
    record = artifact("image", "samples", path, step=1)
    made = opened(tmp_path)
    made.write_artifact(record, path)
    kept = made.state()
    made.write_artifact(msgspec.structs.replace(record, step=2), path)
    made.close()
    again = opened(tmp_path, kept)
    again.write_artifact(msgspec.structs.replace(record, step=2), path)
    again.close()
    assert [event.step for event in read(tmp_path / "runs").Images("samples")] == [1, 2]


def test_nothing_is_left_in_the_journal(tmp_path: Path) -> None:
    """What was made for an event goes when that is written, also after an error."""
    content = tmp_path / "held"
    content.write_bytes(msgspec.msgpack.encode({"lr": 0.1}))
    made = opened(tmp_path)
    made.write_artifact(artifact("document", "a.json", content, form="document"), content)
    content.write_bytes(b"\xc1")
    with pytest.raises(RejectedError):
        made.write_artifact(artifact("document", "a.json", content, form="document"), content)
    assert not [*made.context.journal.glob("*-made")]
    made.close()
