"""Images: what is kept of arrays, tensors and images of Pillow, read back from the file that is delivered."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.sinks.artifacts.delivered import file_of, pixels_of, told
from tests.sinks.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOURS[:, :, 0]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def delivered(kept: Kept, folder: Path) -> Any:
    """The pixels of the file that is delivered for the only record."""
    return pixels_of(file_of(kept, kept.record(), folder))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (COLOURS, COLOURS),
        (GREY, GREY),
        (GREY[:, :, None], GREY),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (np.asfortranarray(COLOURS), COLOURS),
        (COLOURS[::-1, ::-1], COLOURS[::-1, ::-1]),
        (COLOURS[None], COLOURS),
        (COLOURS.astype(np.int64), COLOURS),
        (COLOURS.astype(">u2"), COLOURS),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float32), COLOURS),
        ((COLOURS / 255).astype(np.float16), COLOURS),
        ((COLOURS / 255).astype(np.float32).transpose(2, 0, 1), COLOURS),
        (GREY > 100, (GREY > 100) * np.uint8(255)),
        (np.ma.masked_less(GREY, 100), np.where(GREY < 100, 0, GREY)),
        (np.dstack([COLOURS, GREY]), np.dstack([COLOURS, GREY])),
    ],
)
def test_arrays(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture, image: Any, expected: Any
) -> None:
    """Every layout and type that means one image for certain arrives as it is, without a word."""
    image.flags.writeable = False
    kept.bus.log_image(image, key="samples", step=3)
    assert np.array_equal(delivered(kept, tmp_path), expected)
    assert told(caplog) == ""


def test_tensors(kept: Kept, tmp_path: Path) -> None:
    """The same of torch: with a gradient, as a view, in every type of float, and of a subclass."""
    torch = pytest.importorskip("torch")
    floats = torch.from_numpy(COLOURS.transpose(2, 0, 1) / 255).float()

    class Picture(torch.Tensor):  # type: ignore[misc, name-defined]
        """As torchvision and fastai have them."""

    for image in (
        torch.from_numpy(COLOURS.copy()),
        floats,
        floats.requires_grad_(),
        floats.permute(1, 2, 0),
        floats[None],
        floats.double(),
        floats.half(),
        floats.to_sparse(),
        floats.detach().as_subclass(Picture),
        -torch.from_numpy(-COLOURS.astype(np.float32) / 255).conj(),
        torch.nn.Parameter(floats),
    ):
        kept.bus.log_image(image, key="samples", step=3)
        assert np.array_equal(delivered(kept, tmp_path), COLOURS)
    kept.bus.log_image(floats.to(torch.bfloat16), key="samples", step=3)
    assert np.abs(delivered(kept, tmp_path).astype(int) - COLOURS).max() <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "La", "RGBa"]
)
def test_images_of_pillow(kept: Kept, tmp_path: Path, mode: str) -> None:
    """Every mode arrives as Pillow itself converts it."""
    source = Image.fromarray(np.dstack([COLOURS, GREY]), "RGBA")
    via = source.convert("RGB") if mode in {"CMYK", "YCbCr", "HSV", "P"} else source
    image = (via.convert("LA") if mode in {"La", "PA"} else via).convert(mode)
    kept.bus.log_image(image, key="samples", step=3)
    plain = image.convert("LA") if mode == "La" else image
    expected = plain.convert(
        "L" if mode in {"1", "L"} else "RGBA" if mode in {"LA", "PA", "RGBA", "La", "RGBa"} else "RGB"
    )
    assert np.array_equal(delivered(kept, tmp_path), np.asarray(expected))


def test_a_palette_with_a_transparent_colour(kept: Kept, tmp_path: Path) -> None:
    """It stays transparent."""
    image = Image.fromarray(GREY // 64, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.info["transparency"] = 1
    kept.bus.log_image(image, key="samples", step=3)
    assert np.array_equal(delivered(kept, tmp_path), np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_wide_images_of_pillow_are_spread(
    kept: Kept, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Depth maps and scans: the smallest number is black, the largest is white, and that is told."""
    wide = np.array([[1000, 2000], [3000, 5000]])
    image = Image.fromarray(wide.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    kept.bus.log_image(image, key="depth", step=0)
    assert np.array_equal(delivered(kept, tmp_path), [[0, 64], [128, 255]])
    assert "spread over the range from black to white" in told(caplog)


def test_wide_numbers_in_the_usual_range_stay(kept: Kept, tmp_path: Path) -> None:
    """By the rules for arrays: integers of 0 to 255, and floats of 0 to 1."""
    for image in (GREY.astype(np.int32), GREY.astype(np.uint16), GREY.astype(np.float32) / 255):
        kept.bus.log_image(Image.fromarray(image), key="depth", step=0)
        assert np.array_equal(delivered(kept, tmp_path), GREY)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([[-1.0, 0.0], [0.0, 1.0]], [[0, 128], [128, 255]]),
        ([[0.0, 255.0], [51.0, 102.0]], [[0, 255], [51, 102]]),
        ([[-5, 0], [5, 5]], [[0, 128], [255, 255]]),
        ([[7.0, 7.0], [7.0, 7.0]], [[0, 0], [0, 0]]),
        ([[0, 2**62], [0, -(2**62)]], [[128, 255], [128, 0]]),
    ],
)
def test_numbers_beyond_the_range_are_spread(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: Any, expected: Any
) -> None:
    """As MLflow does with floats, and for integers too. It is told once."""
    for _ in range(2):
        kept.bus.log_image(np.array(numbers), key="samples", step=3)
        assert np.array_equal(delivered(kept, tmp_path), expected)
    assert told(caplog).count("spread over the range from black to white") == 1


def test_a_float_that_was_rounded_is_no_other_range(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Resizing gives 1.0000001. The other pixels keep their brightness."""
    kept.bus.log_image(np.array([[0.5, 1.0000001], [-1e-7, 0.25]]), key="samples", step=3)
    assert np.array_equal(delivered(kept, tmp_path), [[128, 255], [0, 64]])
    assert told(caplog) == ""


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([[np.nan, 0.5], [1.0, 0.0]], [[0, 128], [255, 0]]),
        ([[np.inf, 0.5], [-np.inf, 1.0]], [[255, 128], [0, 255]]),
        ([[np.nan, 10.0], [np.inf, 20.0]], [[0, 0], [255, 255]]),
        ([[np.nan, np.nan], [np.nan, np.inf]], [[0, 0], [0, 0]]),
    ],
)
def test_pixels_that_are_no_number(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: Any, expected: Any
) -> None:
    """NaN is black, an infinity is the end of the range, and that is told. numpy says nothing."""
    kept.bus.log_image(np.array(numbers), key="samples", step=3)
    assert np.array_equal(delivered(kept, tmp_path), expected)
    assert "NaN or infinite" in told(caplog)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
@pytest.mark.parametrize("classes", [2, 20])
def test_a_mask_of_whole_numbers_is_told(
    kept: Kept, caplog: pytest.LogCaptureFixture, dtype: Any, classes: int
) -> None:
    """0 and 1 of 255 look black, and so do 20 classes. That was not meant."""
    kept.bus.log_image((GREY % classes).astype(dtype), key="mask", step=0)
    assert "the image 'mask' has only small whole numbers" in told(caplog)


def test_dark_is_not_black(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """An image that is all black, or as bright as a photo at night, is nothing to tell of."""
    kept.bus.log_image(np.zeros((4, 4), np.uint8), key="night", step=0)
    kept.bus.log_image(np.full((4, 4), 60, np.uint8), key="night", step=1)
    assert told(caplog) == ""


def test_a_warning_names_the_image_and_comes_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """The program may log several. A loop that gives each another name is told once."""
    for step in range(3):
        kept.bus.log_image(RNG.random((5, 8, 8)), key=f"val/{step}", step=step)
        kept.bus.log_image(RNG.random((8, 8)) * 9, f"a{step}.png")
        kept.bus.log_table([{"shown": Image.new("F", (8, 8), 9.0)}], f"t{step}.json")
    named = [message.partition(" is ")[0].partition(" has ")[0] for message in caplog.messages]
    assert named == ["the image 'val/0'", "the image 'a0.png'", "an image of the table 't0.json', of mode F,"]
    assert kept.writer.scoreboard.artifacts_not_kept == 3


def test_what_has_no_name_is_told_so(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A name of another type is not one."""
    kept.bus.log_image(GREY)
    kept.bus.log_image(GREY, key=7, step=1)  # type: ignore[arg-type]
    kept.bus.log_audio(GREY, None, sample_rate=8)  # type: ignore[arg-type]
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "an image is not logged",
        "an image is not logged",
        "a sound is not logged",
    ]


def test_an_ambiguous_shape_is_told(kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An array is read as numpy has it, and a tensor as torch has it."""
    torch = pytest.importorskip("torch")
    image = RNG.integers(0, 256, (3, 6, 3), dtype=np.uint8)
    kept.bus.log_image(image, key="a", step=0)
    assert np.array_equal(delivered(kept, tmp_path), image)
    kept.bus.log_image(torch.from_numpy(image), key="a", step=0)
    assert np.array_equal(delivered(kept, tmp_path), image.transpose(1, 2, 0))
    assert "(H, W, C), as numpy has it" in told(caplog)
    assert "(C, H, W), as torch has it" in told(caplog)


class Stranger:
    """An array of another library, such as jax."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """What numpy asks for."""
        return COLOURS


def test_arrays_of_other_libraries(kept: Kept, tmp_path: Path) -> None:
    """Whatever numpy reads."""
    kept.bus.log_image(Stranger(), key="samples", step=3)
    assert np.array_equal(delivered(kept, tmp_path), COLOURS)


def _closed() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "PNG")
    image = Image.open(file)
    image.close()
    return image


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        (RNG.random((2, 3, 4, 5)), "make_grid"),
        (RNG.random((2, 5, 5)), "1, 3 or 4 channels"),
        (RNG.random(5), "is no image"),
        (np.float64(0.5), "is no image"),
        (RNG.random((1, 1, 3, 4, 5)), "is no image"),
        (np.zeros((0, 5)), "empty"),
        (np.zeros((5, 0, 3)), "empty"),
        (np.array([[None, "a"], [1, 2]], object), "no numbers"),
        (np.array([["a", "b"]]), "no numbers"),
        (np.array([[1j, 2]]), "complex"),
        (np.zeros((2, 2), "M8[s]"), "no numbers"),
        (np.zeros((2, 2), [("a", "f4")]), "no numbers"),
        ("image.png", "log_artifact()"),
        ([[1, 2], [3, 4]], "numpy.asarray()"),
        (None, "not NoneType"),
        (object(), "not object"),
        (_closed(), "closed"),
        (Image.new("RGB", (0, 5)), "empty"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "Log a smaller one"),
        (Image.new("1", (10_000, 10_000)), "Log a smaller one"),
    ],
)
def test_what_is_no_image_is_told(
    kept: Kept, caplog: pytest.LogCaptureFixture, image: Any, advice: str
) -> None:
    """Nothing is raised and nothing is kept. The warning says what to do."""
    kept.bus.log_image(image, key="samples", step=3)
    assert kept.records() == []
    assert advice in told(caplog)


def test_tensors_without_numbers_are_told(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """As arrays are."""
    torch = pytest.importorskip("torch")
    for image in (
        torch.empty(3, 4, 5, device="meta"),
        torch.zeros(4, 5, dtype=torch.complex64),
        torch.zeros(0, 5),
    ):
        kept.bus.log_image(image, key="samples", step=3)
    assert kept.records() == []
    assert told(caplog).count("is not logged") == 3


def test_an_image_may_change_after_the_call(kept: Kept, tmp_path: Path) -> None:
    """Its pixels were copied."""
    image = COLOURS.copy()
    kept.bus.log_image(image, key="samples", step=3)
    image[:] = 0
    assert np.array_equal(delivered(kept, tmp_path), COLOURS)


def test_a_missing_step_is_that_of_the_latest_metrics(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """So an image stands where its metrics do. Before any it is 0."""
    kept.bus.log_image(COLOURS, key="a")
    kept.emit(41, metrics={"loss": 0.5})
    kept.bus.log_image(COLOURS, key="a")
    kept.bus.log_image(COLOURS, key="a", step=np.int64(7))  # type: ignore[arg-type]
    kept.bus.log_image(COLOURS, key="a", step="nine")  # type: ignore[arg-type]
    steps = [record.step for record in kept.records()]
    assert steps == [0, 41, 41, 7, 41]
    assert "the step 'nine' is not a 64-bit whole number" in told(caplog)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "Pass key= and step="),
        ({"key": ""}, "a key is a text"),
        ({"key": 3}, "a key is a text"),
        ({"key": "k" * 251}, "at most 250"),
        ({"key": "a", "artifact_file": "a.png"}, "two places"),
        ({"step": 3, "artifact_file": "a.png"}, "two places"),
        ({"artifact_file": "a.svg"}, "End it in .png"),
        ({"artifact_file": "image"}, "End it in .png"),
        ({"artifact_file": "../a.png"}, "leaves the run's artifacts"),
    ],
)
def test_an_image_has_one_place(
    kept: Kept, caplog: pytest.LogCaptureFixture, options: Any, advice: str
) -> None:
    """A key and a step, or the name of a file."""
    kept.bus.log_image(COLOURS, **options)
    assert kept.records() == []
    assert advice in told(caplog)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "gif", "bmp", "tiff"])
def test_a_file_has_the_format_of_its_name(kept: Kept, tmp_path: Path, suffix: str) -> None:
    """Also with opacity, which not all formats have."""
    kept.bus.log_image(np.dstack([COLOURS, GREY]), f"images/a.{suffix}")
    record = kept.record()
    assert (record.place, record.step) == (f"images/a.{suffix}", None)
    with Image.open(file_of(kept, record, tmp_path)) as made:
        assert made.format == {"JPG": "JPEG"}.get(suffix.upper(), suffix.upper())
        assert made.size == (7, 5)
