"""Pixels as files, with Pillow and without, and made small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trackside.encoding import rasters
from trackside.encoding.rasters import MODES, Raster, png, raster_of, write_raster, write_small
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

SIDES = st.integers(1, 20)


def picture(width: int, height: int, channels: int) -> Raster:
    """Random pixels, the same at every call."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Raster(pixels.tobytes(), width, height, channels)


def array(raster: Raster) -> np.ndarray:
    """The pixels of ``raster``."""
    return np.frombuffer(raster.data, np.uint8).reshape(raster.height, raster.width, raster.channels)


def opened(path: Path) -> Image.Image:
    """The picture in ``path``, read to the end."""
    with Image.open(path) as image:
        image.load()
        return image


@pytest.fixture
def _no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no Pillow."""
    monkeypatch.setattr(rasters, "pillow", lambda: None)


@given(width=SIDES, height=SIDES, channels=st.sampled_from([*MODES]))
def test_a_png_made_without_pillow_is_the_picture(
    width: int, height: int, channels: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any decoder reads it."""
    path = tmp_path_factory.mktemp("png") / "a.png"
    raster = picture(width, height, channels)
    path.write_bytes(png(raster))
    image = opened(path)
    assert image.mode == MODES[channels]
    assert np.array_equal(np.asarray(image).reshape(height, width, channels), array(raster))


def test_planes_are_interleaved() -> None:
    """A tensor's channels come one behind the other."""
    raster = picture(4, 3, 3)
    planes = array(raster).transpose(2, 0, 1).tobytes()
    details = {"width": 4, "height": 3, "channels": 3, "planar": True}
    assert raster_of(planes, details) == raster


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"width": 4, "height": 3},
        {"width": 4, "height": 3, "channels": 2},
        {"width": 4, "height": 4, "channels": 3},
        {"width": -4, "height": -3, "channels": 3},
        {"width": "four", "height": 3, "channels": 3},
    ],
)
def test_bytes_that_are_no_picture_are_rejected(details: dict[str, object]) -> None:
    """A journal may be damaged, or of another version."""
    with pytest.raises(RejectedError):
        raster_of(bytes(36), details)


def test_other_formats_need_pillow(_no_pillow: None, tmp_path: Path) -> None:  # noqa: PT019
    """PNG does not. What can't be written says what to do."""
    write_raster(picture(4, 3, 3), tmp_path / "a.png")
    assert opened(tmp_path / "a.png").size == (4, 3)
    with pytest.raises(RejectedError, match=r"Install it, or log a \.png"):
        write_raster(picture(4, 3, 3), tmp_path / "a.webp")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1000, 300), (300, 1000), (257, 1), (1, 5000), (20, 10)])
def test_a_small_picture_keeps_its_shape(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    """No side is longer than asked for, and none is empty. What is small enough stays as large as it is."""
    small = write_small(picture(*size, channels), tmp_path, 256)
    made = opened(small)
    assert (made.format, max(made.size)) == ("WEBP", min(256, max(size)))
    assert min(made.size) >= 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1000, 300), (300, 1000), (257, 1), (20, 10)])
def test_a_small_picture_without_pillow(
    _no_pillow: None,  # noqa: PT019
    tmp_path: Path,
    size: tuple[int, int],
    channels: int,
) -> None:
    """Every n-th pixel of it, as PNG."""
    raster = picture(*size, channels)
    small = write_small(raster, tmp_path, 256)
    every = -(-max(size) // 256)
    expected = array(raster)[::every, ::every]
    assert small.suffix == ".png"
    assert np.array_equal(np.asarray(opened(small)).reshape(expected.shape), expected)
