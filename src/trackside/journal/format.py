"""What the bytes of a segment mean. Pure: no clock, no disk.

A segment is a row of frames, each starting at a multiple of 8 bytes::

    length u32 LE | crc32 u32 LE | payload | zero padding up to the next multiple of 8

A payload is one of the records below, in MessagePack, or what :mod:`trackside.journal.layouts` describes.

The checksum is seeded with the length, so it vouches for both. Eight zero bytes where a frame
should start mean "nothing here yet". There is no file header: every byte belongs to one record, or
to none.

Invariant: damage costs the records it touches and no others. A reader that meets a bad frame looks
for the next 8-byte boundary at which a whole frame with a right checksum starts.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from trackside.events import MetricLink
from trackside.names import bare_prefix, delivered, prefixed
from trackside.text import plain_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import LifecycleEvent

FRAME_HEADER = struct.Struct("<II")
HEADER_SIZE = FRAME_HEADER.size
ALIGNMENT = 8
MAX_PAYLOAD = 1 << 26
"""64 MiB in bytes. A length above it is damage. MLflow itself takes no request above 1 MB."""

QUIET = 5 * 1024
"""Bytes up to which ``zlib.crc32`` keeps the GIL. Above it lets it go, and a busy Python thread that takes it
then gives it back after 5 ms."""

SEARCH_BUDGET = 1 << 30
"""Bytes. It takes about a second. Records that were damaged by accident take a small part of it."""

_BEGINNING = re.compile(rb"\xa1(?=[mkcptlnf])|\xc1(?=..S)", re.DOTALL)
"""The records below begin with a byte for the array, then this: a text of one letter. Samples and layouts
(:mod:`trackside.journal.layouts`) begin with a word of their own, and as the records below."""


class MetricsRecord(msgspec.Struct, tag="m", array_like=True, gc=False):
    """The metrics of one step, coerced. ``seq`` numbers the records of a journal from 1."""

    seq: int
    timestamp_ms: int
    step: int
    epoch: float | None
    prefix: str | None
    metrics: dict[str, float]

    @property
    def points(self) -> int:
        """How many points (name, value, step, time) the destinations get from this record."""
        return len(self.metrics) + self.has_epoch

    @property
    def has_epoch(self) -> bool:
        """Whether the epoch is one of the points: a metric of that name goes before it."""
        # A prefix puts a slash into every name, so only a bare "epoch" takes the epoch's place.
        return self.epoch is not None and ("epoch" not in self.metrics or bool(bare_prefix(self.prefix)))

    def full_names(self) -> dict[str, float]:
        """The metrics under the names they are delivered by, without ``epoch``."""
        return prefixed(self.prefix, self.metrics.items())

    def named_values(self) -> dict[str, float]:
        """All this record delivers: the prefixed metrics, and ``epoch`` unless they name it."""
        return delivered(self.prefix, self.metrics.items(), self.epoch)


class LinkedMetricsRecord(MetricsRecord, tag="k"):
    """Metrics of a logged model or a dataset. Code that knows no links treats them as ordinary metrics."""

    link: MetricLink


class ConfigRecord(msgspec.Struct, tag="c", array_like=True):
    """The configuration: flat params as text, and the whole of it as a masked, plain document."""

    seq: int
    timestamp_ms: int
    params: dict[str, str]
    document: dict[str, Any]

    @property
    def points(self) -> int:
        """Params are no points."""
        return 0


class _SingleTexts(msgspec.Struct, array_like=True):
    """Masked texts that were logged one by one."""

    seq: int
    timestamp_ms: int
    texts: dict[str, str]

    @property
    def points(self) -> int:
        """Texts are no points."""
        return 0


class ParamsRecord(_SingleTexts, tag="p"):
    """Params that were logged one by one: masked texts, and no document."""

    def as_config(self) -> ConfigRecord:
        """The same as a configuration, with numbers where a text is one."""
        document = {name: plain_value(text) for name, text in self.texts.items()}
        return ConfigRecord(self.seq, self.timestamp_ms, self.texts, document)


class TagsRecord(_SingleTexts, tag="t"):
    """Tags that were set: masked texts. Of several values of one tag the last one counts."""


class HeldFile(msgspec.Struct, array_like=True):
    """A file or folder that waits in the journal, or beside the original, until it is delivered."""

    name: str
    """Its entry in the journal's folder of held files (:mod:`trackside.journal.held_files`)."""
    way: str
    """How the training process has claimed it. ``copy``: its bytes are in the journal. ``link``: by a hard
    link. ``original``: where it lies. A folder has the last of these that a file in it has."""
    source: str
    """The path that was logged, absolute, for a person. Empty for values."""
    size: int
    """Bytes, of all files of a folder."""
    changed_ns: int = 0
    """When the file was last written to, at the time of the call, in nanoseconds since the epoch. Of a
    folder: the time of the file that was written to last."""
    writing: bool = False
    """Whether it was still open for writing at the time of the call: another state is expected then."""


class ArtifactRecord(msgspec.Struct, tag="f", array_like=True):
    """Something that is kept as files of the run."""

    seq: int
    timestamp_ms: int
    kind: str
    """``file``, ``folder``, ``text``, ``image``, ``figure``, ``table``, ``histogram``, ``audio``, ``video``,
    ``dataset``, ``checkpoint`` or ``model``. It may be one of a later version."""
    place: str
    """What it is in the run: the path of a file or folder below the run's artifacts, or the key of what has
    one for each step. A newer one of the same place may cancel an older one."""
    step: int | None = None
    held: HeldFile | None = None
    """None where the record says it all."""
    form: str = ""
    """How the held bytes are encoded. ``file``: they are what is delivered. Others are made into that by the
    shipper (:mod:`trackside.encoding`)."""
    policy: str = "now"
    details: dict[str, Any] = {}
    """What ``kind`` and ``form`` need besides: height and width of pixels, metrics of a checkpoint."""

    @property
    def points(self) -> int:
        """Files are no points."""
        return 0


class LifecycleRecord(msgspec.Struct, tag="l", array_like=True):
    """A :class:`trackside.events.LifecycleEvent` in the journal.

    The same fields, in the order they have on disk. ``kind`` and ``status`` may be of a later version.
    """

    seq: int
    timestamp_ms: int
    kind: str
    status: str | None = None
    message: str | None = None
    signal: int | None = None
    exit_code: int | None = None
    error_type: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, event: LifecycleEvent) -> LifecycleRecord:
        """The record of ``event``, which the journal's writer numbers."""
        return cls(0, **msgspec.structs.asdict(event))

    @property
    def points(self) -> int:
        """Lifecycle events are no points."""
        return 0


TextsRecord: TypeAlias = ConfigRecord | ParamsRecord | TagsRecord
"""What is delivered between two batches of metrics."""

Record: TypeAlias = MetricsRecord | LinkedMetricsRecord | TextsRecord | ArtifactRecord | LifecycleRecord

encode = msgspec.msgpack.Encoder().encode
"""Record to payload. Raises ``TypeError``, ``UnicodeEncodeError`` or ``OverflowError``."""

decode: Callable[[bytes], Record] = msgspec.msgpack.Decoder(Record).decode
"""Payload to record. Raises :class:`msgspec.MsgspecError` (or ``UnicodeDecodeError``)."""


def decode_record(payload: bytes) -> Record | None:
    """The record in ``payload``, or None if this version does not know it."""
    try:
        return decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Frame(NamedTuple):
    """A payload whose checksum is right, and where the next frame would start."""

    payload: bytes
    end: int


def frame_header(payload: bytes) -> bytes:
    """The eight bytes that go before ``payload``. Never lets go of the GIL of its own accord."""
    size = checksum = len(payload)
    for start in range(0, size, QUIET):
        checksum = zlib.crc32(payload[start : start + QUIET], checksum)
    return FRAME_HEADER.pack(size, checksum)


def frame_size(payload_size: int) -> int:
    """Bytes a payload of that size takes in a segment, padding included."""
    return (HEADER_SIZE + payload_size + ALIGNMENT - 1) & -ALIGNMENT


def bytes_wanted(data: bytes, offset: int) -> int:
    """How many bytes from ``offset`` the frame there claims, or 0 when the claim can't be true."""
    if len(data) - offset < HEADER_SIZE:
        return HEADER_SIZE
    size, _ = FRAME_HEADER.unpack_from(data, offset)
    return HEADER_SIZE + size if 0 < size <= MAX_PAYLOAD else 0


def read_frame(data: bytes, offset: int) -> Frame | None:
    """The whole frame at ``offset``, or None if no frame with a right checksum starts there."""
    if len(data) - offset < HEADER_SIZE:
        return None
    size, checksum = FRAME_HEADER.unpack_from(data, offset)
    start = offset + HEADER_SIZE
    if not 0 < size <= MAX_PAYLOAD or len(data) - start < size:
        return None
    payload = data[start : start + size]
    if zlib.crc32(payload, size) != checksum:
        return None
    return Frame(payload, offset + frame_size(size))


class SearchBudget:
    """How many bytes a search for frames may still put through the checksum.

    Bytes made for it may claim a long frame at every second boundary. To check them all would take hours.
    """

    def __init__(self, left: int = SEARCH_BUDGET) -> None:
        self.left = left


def find_frame(
    data: bytes,
    offset: int,
    budget: SearchBudget | None = None,
    whole: Callable[[bytes, int], Frame | None] = read_frame,
) -> int | None:
    """The first 8-byte boundary at or after ``offset`` at which a whole frame starts, or None.

    Only places where a record seems to begin are looked at closely: the search passes over unused
    space and over other people's bytes quickly, whatever lengths these seem to claim. It ends where
    ``budget`` is spent. ``whole`` reads the frame at a place, if one is there.
    """
    budget = budget or SearchBudget()
    for found in _BEGINNING.finditer(data, offset + HEADER_SIZE):
        candidate = (found.start() - HEADER_SIZE) & -ALIGNMENT
        if found.start() - HEADER_SIZE - candidate == (found[0] == b"\xa1"):
            if whole(data, candidate) is not None:
                return candidate
            claimed = bytes_wanted(data, candidate)
            budget.left -= claimed if claimed <= len(data) - candidate else 0
            if budget.left < 0:
                return None
    return None
