"""Sounds and videos: samples and frames, read back from the files that are delivered."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.sinks.artifacts.delivered import file_of, told
from tests.sinks.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLES = np.array([0, 1000, -1000, 32767, -32768], np.int16)
FRAMES = np.arange(3 * 6 * 8 * 3).reshape(3, 6, 8, 3).astype(np.uint8)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def sound(kept: Kept, folder: Path) -> tuple[Any, int]:
    """The samples of the only sound, of shape (time, channels), and how many there are a second."""
    record = kept.record()
    assert (record.kind, record.place, record.step, record.details["suffix"]) == ("audio", "a", 2, ".wav")
    with wave.open(str(file_of(kept, record, folder)), "rb") as file:
        assert file.getsampwidth() == 2
        data = file.readframes(file.getnframes())
        return np.frombuffer(data, "<i2").reshape(-1, file.getnchannels()), file.getframerate()


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (SAMPLES, SAMPLES),
        (SAMPLES.astype(">i2"), SAMPLES),
        (SAMPLES.astype(np.int64), SAMPLES),
        (SAMPLES[::-1], SAMPLES[::-1]),
        (np.array([0.0, 1.0, -1.0, 0.5]), [0, 32767, -32767, 16384]),
        (np.array([0.0, 0.5], np.float16), [0, 16384]),
        (np.array([128, 255, 0], np.uint8), [0, 32512, -32768]),
        (np.array([2**31 - 1, -(2**31), 0], np.int32), [32767, -32768, 0]),
        (np.array([np.nan, 0.5]), [0, 16384]),
    ],
)
def test_samples_are_a_wav_file(kept: Kept, tmp_path: Path, audio: Any, expected: Any) -> None:
    """Of every type, in 16 bits."""
    kept.bus.log_audio(audio, "a", step=2, sample_rate=16000)
    samples, rate = sound(kept, tmp_path)
    assert rate == 16000
    assert samples[:, 0].tolist() == list(expected)


def test_channels_come_first_or_last(kept: Kept, tmp_path: Path) -> None:
    """The shorter axis holds them, as torchaudio and soundfile have it."""
    torch = pytest.importorskip("torch")
    stereo = np.stack([SAMPLES, SAMPLES[::-1]], axis=1)
    for audio in (stereo, stereo.T, torch.from_numpy(stereo.T.copy()), stereo[None]):
        kept.bus.log_audio(audio, "a", step=2, sample_rate=44100)
        assert np.array_equal(sound(kept, tmp_path)[0], stereo)


def test_samples_that_are_too_loud_are_made_quieter(
    kept: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them, so that nothing is cut, and that is told."""
    kept.bus.log_audio(np.array([2.0, -1.0]), "a", step=2, sample_rate=8000)
    assert sound(kept, tmp_path)[0][:, 0].tolist() == [32767, -16384]
    assert "made quieter" in told(caplog)


@pytest.mark.parametrize(
    ("call", "kind", "suffix"), [("log_audio", "audio", ".mp3"), ("log_video", "video", ".mp4")]
)
def test_a_file_is_claimed(kept: Kept, tmp_path: Path, call: str, kind: str, suffix: str) -> None:
    """It arrives as it is, and its ending says what it is."""
    path = tmp_path / f"take{suffix.upper()}"
    path.write_bytes(b"contents")
    getattr(kept.bus, call)(path, "a", step=2)
    path.unlink()
    record = kept.record()
    assert (record.kind, record.details) == (kind, {"suffix": suffix})
    assert file_of(kept, record, tmp_path).read_bytes() == b"contents"


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tensor", [False, True])
def test_frames_are_an_animation(kept: Kept, tmp_path: Path, planar: bool, tensor: bool) -> None:
    """All of them, at their pace, in either order of axes."""
    frames: Any = FRAMES.transpose(0, 3, 1, 2).copy() if planar else FRAMES
    if tensor:
        frames = pytest.importorskip("torch").from_numpy(frames)
    kept.bus.log_video(frames, "a", step=2, fps=4)
    record = kept.record()
    with Image.open(file_of(kept, record, tmp_path)) as made:
        assert (made.format, made.size, made.n_frames, made.info["duration"]) == ("GIF", (8, 6), 3, 250)  # type: ignore[attr-defined]
        for index in range(3):
            made.seek(index)
            seen = np.asarray(made.convert("RGB")).astype(int)
            assert np.abs(seen - FRAMES[index]).max() <= 3


@pytest.mark.parametrize("kind", ["numpy", "torch", "Pillow"])
def test_frames_may_be_a_list(kept: Kept, tmp_path: Path, kind: str) -> None:
    """As the environments of reinforcement learning and diffusion pipelines return them."""
    frames: list[Any] = list(FRAMES)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        frames = [torch.from_numpy(frame.transpose(2, 0, 1).copy()) for frame in frames]
    elif kind == "Pillow":
        frames = [Image.fromarray(frame) for frame in frames]
    kept.bus.log_video(frames, "a", step=2, fps=4)
    kept.bus.log_video(FRAMES, "a", step=2, fps=4)
    first, second = (file_of(kept, record, tmp_path).read_bytes() for record in kept.records())
    assert first == second


def test_frames_in_grey(kept: Kept, tmp_path: Path) -> None:
    """Of floats, without an axis for colours."""
    kept.bus.log_video(np.linspace(0, 1, 3 * 6 * 8).reshape(3, 6, 8), "a", step=2, fps=10)
    with Image.open(file_of(kept, kept.record(), tmp_path)) as made:
        assert made.n_frames == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "value", "options", "advice"),
    [
        ("log_audio", SAMPLES, {}, "pass the samples a second"),
        ("log_audio", SAMPLES, {"sample_rate": "fast"}, "pass the samples a second"),
        ("log_audio", np.zeros((100, 100)), {"sample_rate": 8000}, "is no sound"),
        ("log_audio", np.zeros(0), {"sample_rate": 8000}, "empty"),
        ("log_audio", [0.1, 0.2], {"sample_rate": 8000}, "not list. Pass numpy.asarray() of it"),
        ("log_audio", "missing.wav", {}, "missing.wav"),
        ("log_audio", "/", {}, "is a folder"),
        ("log_audio", __file__.removesuffix(".py"), {}, "has no ending"),
        ("log_video", FRAMES, {}, "pass fps="),
        ("log_video", FRAMES, {"fps": 0}, "pass the frames a second"),
        ("log_video", FRAMES[0, 0], {"fps": 5}, "is no video"),
        ("log_video", FRAMES[..., :2], {"fps": 5}, "is no video"),
        ("log_video", FRAMES[:0], {"fps": 5}, "empty"),
        ("log_video", None, {"fps": 5}, "not NoneType"),
        ("log_video", [], {"fps": 5}, "Pass at least one frame"),
        ("log_video", [FRAMES[0], None], {"fps": 5}, "frame 1 of the list is no array"),
        ("log_video", [FRAMES[0], FRAMES[0, :3]], {"fps": 5}, "frame 1 has shape (3, 8, 3), and frame 0 has"),
        ("log_video", [np.broadcast_to(np.uint8(0), (9000, 9000))] * 4, {"fps": 5}, "MiB of pixels"),
        ("log_video", np.broadcast_to(np.uint8(0), (500, 1000, 1000, 1)), {"fps": 5}, "MiB of pixels"),
    ],
)
def test_what_is_no_sound_or_video_is_told(  # noqa: PLR0917
    kept: Kept, caplog: pytest.LogCaptureFixture, call: str, value: Any, options: Any, advice: str
) -> None:
    """Nothing is raised and nothing is kept. The warning says what to do."""
    getattr(kept.bus, call)(value, "a", step=2, **options)
    assert kept.records() == []
    assert advice in told(caplog)
