"""Videos: files are claimed. Frames are kept as pixels, and the shipper makes a GIF of them."""

from __future__ import annotations

import math
import sys
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import type_name
from trackside.encoding.animations import FRAMES
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.sinks.artifacts.arrays import is_array, is_tensor, numbers_of
from trackside.sinks.artifacts.audio import file_record_at, is_path
from trackside.sinks.artifacts.pillow import is_pillow
from trackside.sinks.artifacts.pixels import COLOURS, MAX_BYTES, levels_of
from trackside.sinks.artifacts.places import key_at
from trackside.sinks.described import subject_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.artifact_events import VideoEvent
    from trackside.sinks.artifacts.keeping import Keeping

_FASTEST = 1000


def video_record(event: VideoEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the video. Raises :class:`ArtifactError` for what is none, and ``OSError``."""
    place = key_at(event.key, event.step, keeping)
    if is_path(event.video):
        return file_record_at(event, event.video, place, keeping)
    if not is_array(event.video) and not isinstance(event.video, (list, tuple)):
        raise ArtifactError(
            "log_video() takes the path of a file, or frames in an array, a tensor or a list, not "
            f"{type_name(type(event.video))}"
        )
    if not _has_pillow():
        raise ArtifactError(
            "frames become a GIF with Pillow, which is not installed. Install it, or write a video file "
            "yourself and pass its path"
        )
    fps = _fps(event.fps)
    frames, details = _frames(event, keeping)
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "video",
        place.name,
        place.step,
        keeping.keep_bytes(frames),
        FRAMES,
        details={**details, "fps": fps, "suffix": ".gif"},
    )


@cache
def _has_pillow() -> bool:
    return find_spec("PIL") is not None


def _fps(fps: Any) -> float:
    if fps is None:
        raise ArtifactError("pass fps=, the frames a second, such as 10")
    try:
        number = float(fps)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= _FASTEST:
        raise ArtifactError(f"fps={fps!r}: pass the frames a second, such as 10")
    return number


def _frames(event: VideoEvent, keeping: Keeping) -> tuple[memoryview, dict[str, Any]]:
    video = event.video
    if isinstance(video, (list, tuple)):
        array, video = _stacked(video), video[0]
    else:
        array = numbers_of(video, "log_video")
    if array.ndim == 5 and array.shape[0] == 1:  # noqa: PLR2004 - a batch of one
        array = array[0]
    if array.ndim == 3:  # noqa: PLR2004
        array = array[..., None]
    planar = _is_planar(array.shape, tensor=is_tensor(video))
    _check_size(array.shape)
    levels = levels_of(array, keeping, subject_of(event)).data.cast("B")
    if planar:
        count, channels, height, width = array.shape
    else:
        count, height, width, channels = array.shape
    return levels, {
        "frames": count,
        "height": height,
        "width": width,
        "channels": channels,
        "planar": planar and channels > 1,
    }


def _stacked(frames: Sequence[Any]) -> Any:
    """Frames one by one, as environments and diffusion pipelines return them, as one array."""
    if not frames:
        raise ArtifactError("log_video() got an empty list. Pass at least one frame")
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise ArtifactError("log_video() needs numpy for a list of frames. Import it, or pass a file")
    arrays = [_frame(numpy, number, frame) for number, frame in enumerate(frames)]
    shape = arrays[0].shape
    for number, array in enumerate(arrays):
        if array.shape != shape:
            raise ArtifactError(f"frame {number} has shape {array.shape}, and frame 0 has {shape}. Resize it")
    _check_size((len(arrays), *shape))
    return numpy.stack(arrays)


def _frame(numpy: Any, number: int, frame: Any) -> Any:
    if is_pillow(frame):
        return numpy.asarray(frame.convert("RGB"))
    if not is_array(frame):
        raise ArtifactError(
            f"frame {number} of the list is no array, no tensor and no image of Pillow, but "
            f"{type_name(type(frame))}"
        )
    return numbers_of(frame, "log_video")


def _check_size(shape: tuple[int, ...]) -> None:
    if math.prod(shape) > MAX_BYTES:
        raise ArtifactError(
            f"the video has {shape}, more than {MAX_BYTES >> 20} MiB of pixels. Write a video file and pass "
            "its path"
        )


def _is_planar(shape: tuple[int, ...], *, tensor: bool) -> bool:
    """Whether the colours come before height and width. Raises :class:`ArtifactError` for odd shapes."""
    first, last = (shape[1] in COLOURS, shape[3] in COLOURS) if len(shape) == 4 else (False, False)  # noqa: PLR2004
    if not first and not last:
        raise ArtifactError(
            f"shape {tuple(shape)} is no video. Pass (T, H, W), (T, H, W, C) or (T, C, H, W), with C of 1, 3 "
            "or 4"
        )
    return tensor if first and last else first
