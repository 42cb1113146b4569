"""Pictures, histograms, texts, tables and sounds as TensorBoard's events.

Files, folders, checkpoints, models and datasets have no place in event files.

Invariant: the same record always makes the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import wave
from typing import TYPE_CHECKING, Any

from trackside.destinations.finished_files import finished_file
from trackside.destinations.media import ending_of, picture_size, picture_type
from trackside.encoding.tables import rows_of
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.destinations.tensorboard.events import Events
    from trackside.journal.format import ArtifactRecord

MAX_TEXT = 1 << 20
"""Characters of a text, and MAX_ROWS rows of a table, that the Text tab gets. It shows them on one page."""
MAX_ROWS = 1000

SHOWN = {"png", "jpeg", "gif", "bmp"}
"""What the Images tab can show (``tensorboard/plugins/image/images_plugin.py``)."""

_SOUNDS = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".flac": "audio/flac"}


def artifact_events(
    events: Events, context: DestinationContext, record: ArtifactRecord, content: Path | None
) -> list[bytes]:
    """Make the events of ``record``: one, or none for what TensorBoard has no place for.

    Raises :class:`RejectedError` for what can't be encoded, and ``OSError``.
    """
    make = _MAKERS.get(record.kind)
    event = None if make is None else make(events, context, record, content)
    return [] if event is None else [event]


def _picture(
    events: Events, context: DestinationContext, record: ArtifactRecord, content: Path | None
) -> bytes | None:
    with finished_file(context, record, content) as path:
        data = path.read_bytes()
    if picture_type(data) not in SHOWN:
        return None
    width, height = picture_size(data)
    size = width or _number(record, "width"), height or _number(record, "height")
    return events.picture(_seconds(record), record.step or 0, record.place, data, size)


def _histogram(
    events: Events, _context: DestinationContext, record: ArtifactRecord, _content: Path | None
) -> bytes:
    details = record.details
    try:
        edges, counts = [[float(number) for number in details[name]] for name in ("edges", "counts")]
        numbers = {name: float(details[name]) for name in ("min", "max", "num", "sum", "sum_squares")}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RejectedError(f"the histogram {record.place!r} can't be read: {error!r}") from error
    if not counts or len(edges) != len(counts) + 1:
        raise RejectedError(f"the histogram {record.place!r} has {len(edges)} edges for {len(counts)} counts")
    fields = {"bucket_limit": edges[1:], "bucket": counts, **numbers}
    return events.histogram(_seconds(record), record.step or 0, record.place, fields)


def _text(events: Events, context: DestinationContext, record: ArtifactRecord, content: Path | None) -> bytes:
    with (
        finished_file(context, record, content) as path,
        open(path, encoding="utf-8", errors="replace") as file,
    ):
        text = file.read(MAX_TEXT + 1)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}\n... (only the beginning of the text is here)\n"
    if not record.place.endswith(".md"):
        text = as_code(text)
    return events.text(_seconds(record), record.place, text, record.step or 0)


def _table(
    events: Events, _context: DestinationContext, record: ArtifactRecord, content: Path | None
) -> bytes:
    if content is not None and not content.exists():
        raise RejectedError(f"rows of the table {record.place!r} are gone from this machine")
    found = rows_of(record, content)
    return events.text(_seconds(record), record.place, as_markdown_table(found.columns, found.rows))


def _sound(
    events: Events, context: DestinationContext, record: ArtifactRecord, content: Path | None
) -> bytes | None:
    with finished_file(context, record, content) as path:
        data = path.read_bytes()
        ending = ending_of(record, path)
    channels, rate, frames = _wave_header(data)
    content_type = "audio/wav" if rate else _SOUNDS.get(ending)
    if content_type is None:
        return None
    sound = {
        "sample_rate": float(rate),
        "num_channels": channels,
        "length_frames": frames,
        "encoded_audio_string": data,
        "content_type": content_type,
    }
    return events.sound(_seconds(record), record.step or 0, record.place, sound)


_MAKERS: dict[str, Callable[[Events, DestinationContext, ArtifactRecord, Path | None], bytes | None]] = {
    "image": _picture,
    "figure": _picture,
    "video": _picture,  # an animated GIF, as SummaryWriter.add_video makes it
    "histogram": _histogram,
    "text": _text,
    "document": _text,
    "table": _table,
    "audio": _sound,
}


def as_code(text: str) -> str:
    """``text``, indented so that Markdown shows it as it is."""
    return "".join(f"    {line.rstrip(chr(10))}\n" for line in io.StringIO(text))


def as_markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The first rows as a table of Markdown."""
    lines = [_line(columns), "|---" * len(columns) + "|", *(_line(row) for row in rows[:MAX_ROWS])]
    more = len(rows) - MAX_ROWS
    return "\n".join([*lines, *([f"\n{more} more rows are not shown here."] if more > 0 else [])])


def _line(cells: Sequence[Any]) -> str:
    texts = [cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False) for cell in cells]
    return "| " + " | ".join(" ".join(text.replace("|", "\\|").split()) for text in texts) + " |"


def _wave_header(data: bytes) -> tuple[int, int, int]:
    """Channels, samples a second and frames. Zeros for what is no WAV file."""
    with contextlib.suppress(wave.Error, EOFError), wave.open(io.BytesIO(data)) as sound:
        return sound.getnchannels(), sound.getframerate(), sound.getnframes()
    return 0, 0, 0


def _number(record: ArtifactRecord, name: str) -> int:
    value = record.details.get(name)
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0


def _seconds(record: ArtifactRecord) -> float:
    seconds = record.timestamp_ms / 1000
    return seconds if math.isfinite(seconds) else 0.0
