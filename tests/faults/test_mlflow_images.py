"""Images in MLflow: the same names, pictures and tag as ``mlflow.log_image`` makes, and once each."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient
from PIL import Image

from tests.faults.delivery import Delivery, delivery
from tests.sinks.kept import Kept
from trackside.destinations.mlflow.artifacts.images import LOGGED_IMAGES, image_key
from trackside.encoding import rasters
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.servers import MlflowServer

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (400, 300, 3), dtype=np.uint8)


class Named(NamedTuple):
    """What MLflow's page reads from the name of an image (``imagesByRunUuid`` in its JavaScript)."""

    key: str
    step: int
    timestamp: int
    image: str
    compressed: bool
    suffix: str


def named(path: str) -> Named:
    """As the page reads it: the first separator that occurs splits the name, and only two endings count."""
    name = path.removeprefix("images/")
    stem, _, suffix = name.rpartition(".")
    separator = next(mark for mark in "%+" if mark in stem)
    key, step_word, step, timestamp_word, timestamp, unique, *_ = stem.split(separator)
    assert (step_word, timestamp_word) == ("step", "timestamp")
    assert suffix in {"png", "webp"}
    return Named(
        re.sub("[~#]", "/", key), int(step), int(timestamp), unique, stem.endswith("compressed"), suffix
    )


class Pictures:
    """A run to log pictures to, and what MLflow has of them."""

    def __init__(self, rig: Delivery, kept: Kept, uri: str) -> None:
        self._rig, self.bus, self._kept = rig, kept.bus, kept
        self.client = MlflowClient(uri)
        rig.destination.open()

    def deliver(self) -> None:
        """Deliver what was logged since the last time, twice: a shipper that dies repeats its last one."""
        for record in self._kept.records():
            if not isinstance(record, ArtifactRecord):
                continue
            content = content_of(self._kept.journal, record.held) if record.held else None
            for _ in range(2):
                self._rig.destination.write_artifact(record, content)

    def restart(self) -> None:
        """Go on with a new shipper's destination."""
        self._rig.make_destination()
        self._rig.destination.open()

    @property
    def run_id(self) -> str:
        """The run."""
        return self._rig.run_id

    def names(self, folder: str = "images") -> list[str]:
        """The files in one folder of the run."""
        return sorted(file.path for file in self.client.list_artifacts(self.run_id, folder))


@pytest.fixture
def pictures(server: MlflowServer, journals: Path, tmp_path: Path) -> Iterator[Pictures]:
    """At a real server."""
    kept = Kept(tmp_path)
    with delivery(journals, server.url) as rig:
        yield Pictures(rig, kept, server.url)
    kept.close()


def picture(client: MlflowClient, run_id: str, path: str, into: Path) -> Any:
    """An artifact's pixels."""
    into.mkdir(exist_ok=True)
    with open(client.download_artifacts(run_id, path, str(into)), "rb") as file:
        return np.asarray(Image.open(io.BytesIO(file.read())))


def test_a_keyed_image_is_as_mlflow_writes_it(
    pictures: Pictures, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that the page reads alike, equal pixels, a small one of the same size and kind, and the tag."""
    pictures.bus.log_image(COLOURS, key="samples 1", step=7)
    pictures.deliver()
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)  # MLflow 3.6 uploads to this one
    client = pictures.client
    own = client.create_run(client.get_run(pictures.run_id).info.experiment_id).info.run_id
    # MLflow 3.6 itself loses images with a slash in their key, and of steps such as 12: "%12" is a character.
    client.log_image(own, COLOURS, key="samples 1", step=7)
    theirs = sorted(file.path for file in client.list_artifacts(own, "images"))
    ours = pictures.names()
    shown = [[(n.key, n.step, n.compressed, n.suffix) for n in map(named, names)] for names in (ours, theirs)]
    assert sorted(shown[0]) == sorted(shown[1])
    assert sorted(shown[0]) == [("samples 1", 7, False, "png"), ("samples 1", 7, True, "webp")]
    assert len({named(name).image for name in ours}) == 1
    full, small = (next(n for n in ours if named(n).suffix == kind) for kind in ("png", "webp"))
    assert np.array_equal(picture(client, pictures.run_id, full, tmp_path / "full"), COLOURS)
    assert picture(client, pictures.run_id, small, tmp_path / "small").shape == (256, 192, 3)
    tags = [client.get_run(run_id).data.tags[LOGGED_IMAGES] for run_id in (pictures.run_id, own)]
    assert tags == ["True", "True"]


def test_a_key_may_have_slashes(pictures: Pictures) -> None:
    """The page groups images by them."""
    pictures.bus.log_image(COLOURS[:9, :9], key="val/samples", step=12)
    pictures.deliver()
    assert {(named(name).key, named(name).step) for name in pictures.names()} == {("val/samples", 12)}


def test_each_step_has_one_image(pictures: Pictures) -> None:
    """However often a delivery is repeated, also by another shipper, and two of one step stay two."""
    for step in (1, 1, 2):
        pictures.bus.log_image(COLOURS[:20, :20], key="samples", step=step)
    pictures.deliver()
    before = pictures.names()
    pictures.bus.log_image(COLOURS[:20, :20], key="samples", step=3)
    pictures.restart()
    pictures.deliver()
    after = pictures.names()
    assert len(before) == 6
    assert len(after) == 8
    assert sorted(named(name).step for name in after if name.endswith(".png")) == [1, 1, 2, 3]


def test_an_image_of_its_own_name(pictures: Pictures, tmp_path: Path) -> None:
    """It is that file, and no part of the grid."""
    pictures.bus.log_image(COLOURS, "pictures/a.png")
    pictures.deliver()
    assert pictures.names("pictures") == ["pictures/a.png"]
    assert pictures.names() == []
    assert np.array_equal(
        picture(pictures.client, pictures.run_id, "pictures/a.png", tmp_path / "full"), COLOURS
    )
    assert LOGGED_IMAGES not in pictures.client.get_run(pictures.run_id).data.tags


def test_the_grid_works_without_pillow(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small picture is a PNG then, which the page takes as well."""
    monkeypatch.setattr(rasters, "pillow", lambda: None)
    pictures.bus.log_image(COLOURS, key="samples", step=12)
    pictures.deliver()
    assert sorted((n.compressed, n.suffix) for n in map(named, pictures.names())) == [
        (False, "png"),
        (True, "png"),
    ]


def test_a_key_that_the_page_would_misread_is_changed() -> None:
    """Each key stays another one, and MLflow's own characters stay."""
    odd = ["a+step+3", "50%", "a#b", "ü", "ö", "a:b", "k" * 250, "k" * 249, "a~b"]
    made = [image_key(key) for key in odd]
    assert len({*made}) == len(odd)
    for key in made:
        assert re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", key)
        assert len(key) <= 130
    assert image_key("val/a b_c-d.e") == "val/a b_c-d.e"


def test_the_tag_is_that_of_mlflow() -> None:
    """The names are ours, so a change of MLflow's shows here and not on a user's page."""
    assert mlflow.utils.mlflow_tags.MLFLOW_LOGGED_IMAGES == LOGGED_IMAGES


def test_figures_and_histograms_are_in_the_grid(pictures: Pictures) -> None:
    """Each kind of picture has the page's own view of steps. What is no picture has a folder of its own.

    A histogram's picture is below its key, where the page groups it with the percentiles.
    """
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    pictures.bus.log_figure(figure, key="curve", step=1)
    pictures.bus.log_histogram(RNG.normal(size=100), "weights", step=2)
    pictures.bus.log_audio(np.zeros(8, np.int16), "takes/first", step=3, sample_rate=8000)
    pictures.bus.log_video(COLOURS[None, :8, :8].repeat(2, axis=0), "walk", step=4, fps=5)
    pictures.deliver()
    assert sorted((n.key, n.step, n.suffix) for n in map(named, pictures.names())) == [
        ("curve", 1, "png"),
        ("curve", 1, "webp"),
        ("weights/histogram", 2, "png"),
        ("weights/histogram", 2, "webp"),
    ]
    (sound,) = pictures.names("audio")
    assert sound.startswith("audio/takes~first+step+3+")
    assert sound.endswith(".wav")
    (video,) = pictures.names("videos")
    assert video.endswith(".gif")
