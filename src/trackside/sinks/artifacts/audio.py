"""Sounds: samples become a WAV file in the call, which only needs a header, and files are claimed."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import type_name
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.sinks.artifacts.arrays import is_array, is_tensor, numbers_of
from trackside.sinks.artifacts.files import absolute_path, hold_path
from trackside.sinks.artifacts.places import key_at
from trackside.sinks.described import subject_of

if TYPE_CHECKING:
    from trackside.artifact_events import AudioEvent, VideoEvent
    from trackside.journal.format import HeldFile
    from trackside.sinks.artifacts.keeping import Keeping
    from trackside.sinks.artifacts.places import Place

MAX_CHANNELS = 8
"""More would rather be the samples themselves, transposed."""

_LOUDEST = 32767
_FASTEST = 4_000_000
_LARGEST = 2**32 - 64
_BYTES = 2
_PCM = 1
_SIZE = struct.Struct("<I")
_FORMAT = struct.Struct("<4sIHHIIHH")


def audio_record(event: AudioEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the sound. Raises :class:`ArtifactError` for what is none, and ``OSError``."""
    place = key_at(event.key, event.step, keeping)
    if is_path(event.audio):
        return file_record_at(event, event.audio, place, keeping)
    if not is_array(event.audio):
        raise ArtifactError(
            "log_audio() takes samples in an array or tensor, or the path of a file, not "
            f"{type_name(type(event.audio))}. {_advice(event.audio)}"
        )
    rate = _rate(event.sample_rate)
    samples = _samples(event.audio, keeping, subject_of(event))
    held = keeping.keep_bytes(_header(samples, rate), samples.data.cast("B"))
    details = {"suffix": ".wav", "sample_rate": rate, "channels": samples.shape[1]}
    return keyed_record(event, place, held, details)


def _advice(audio: Any) -> str:
    return "Pass numpy.asarray() of it" if isinstance(audio, (list, tuple)) else "Convert it"


def is_path(value: Any) -> bool:
    """Whether ``value`` is the path of a file."""
    return isinstance(value, (str, os.PathLike))


def file_record_at(
    event: AudioEvent | VideoEvent, path: Any, place: Place, keeping: Keeping
) -> ArtifactRecord:
    """Claim a file that is shown by the ending of its name. Raises :class:`ArtifactError`, ``OSError``."""
    found = absolute_path(path)
    if found.is_dir():
        raise ArtifactError(f"{found.name!r} is a folder. Pass the path of a file")
    suffix = PurePath(found).suffix.lower()
    if not suffix[1:].isalnum():
        raise ArtifactError(f"{found.name!r} has no ending such as .wav or .mp4, which says what it is")
    return keyed_record(event, place, hold_path(keeping, found), {"suffix": suffix})


def keyed_record(
    event: AudioEvent | VideoEvent, place: Place, held: HeldFile, details: dict[str, Any]
) -> ArtifactRecord:
    """The record of a file that is ready, under a key."""
    kind = type(event).__name__.removesuffix("Event").lower()
    return ArtifactRecord(0, event.timestamp_ms, kind, place.name, place.step, held, "file", details=details)


def _rate(sample_rate: Any) -> int:
    try:
        rate = int(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = 0
    if not 0 < rate <= _FASTEST:
        raise ArtifactError(f"sample_rate={sample_rate!r}: pass the samples a second, such as 16000")
    return rate


def _samples(audio: Any, keeping: Keeping, subject: str) -> Any:
    """Samples of 16 bits, of shape (time, channels)."""
    array = numbers_of(audio, "log_audio")
    if array.ndim == 3 and array.shape[0] == 1:  # noqa: PLR2004 - a batch of one
        array = array[0]
    array = _by_time(array, tensor=is_tensor(audio))
    numpy = sys.modules["numpy"]
    if array.dtype.kind == "f":
        levels = _of_floats(numpy, array, keeping, subject)
    elif array.dtype == numpy.uint8:  # 128 is silence
        levels = (array.astype("<i2") - 128) * 256
    else:
        levels = _of_integers(numpy, array)
    return numpy.ascontiguousarray(levels, "<i2")


def _of_floats(numpy: Any, array: Any, keeping: Keeping, subject: str) -> Any:
    with numpy.errstate(all="ignore"):
        finite = numpy.nan_to_num(array.astype(numpy.float32), nan=0.0, posinf=1.0, neginf=-1.0)
        peak = float(numpy.abs(finite).max())
        if peak > 1:
            keeping.tell(
                subject, "has samples outside -1 to 1, so all of it is made quieter. Scale it yourself"
            )
        return numpy.rint(finite * (_LOUDEST / max(1.0, peak))).astype("<i2")


def _of_integers(numpy: Any, array: Any) -> Any:
    """As 16 bits: the upper half of 32 bits, as sound files have them, unless the lower half is enough."""
    peak = max(int(array.max()), -int(array.min()))
    if peak <= _LOUDEST + 1:
        return numpy.clip(array, -_LOUDEST - 1, _LOUDEST)
    return array // (1 << 16 if peak <= 1 << 31 else -(-peak // _LOUDEST))


def _by_time(array: Any, *, tensor: bool) -> Any:
    if array.ndim == 1:
        return array.reshape(-1, 1)
    if array.ndim != 2 or min(array.shape) > MAX_CHANNELS:  # noqa: PLR2004
        raise ArtifactError(
            f"shape {tuple(array.shape)} is no sound. Pass (T,), (T, channels) or (channels, T), with up to "
            f"{MAX_CHANNELS} channels, and one sound of a batch"
        )
    rows, columns = array.shape
    first = rows < columns or (rows == columns and tensor)
    return array.T if first else array


def _header(samples: Any, rate: int) -> bytes:
    """The beginning of a WAV file of these samples."""
    size, channels = samples.nbytes, samples.shape[1]
    if size > _LARGEST:
        raise ArtifactError("the sound is larger than a WAV file can be, 4 GiB. Log a part of it")
    block = _BYTES * channels
    sound = _FORMAT.pack(b"fmt ", 16, _PCM, channels, rate, rate * block, block, 8 * _BYTES)
    return b"RIFF" + _SIZE.pack(36 + size) + b"WAVE" + sound + b"data" + _SIZE.pack(size)
