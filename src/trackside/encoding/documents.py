"""Nested data as JSON or YAML, as ``mlflow.log_dict`` writes it.

In JSON ``NaN`` and the infinities are texts. JSON has no such numbers, and MLflow's page shows nothing of a
file that is not JSON.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

DOCUMENT = "document"
"""The form: MessagePack."""

_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def document_file(record: ArtifactRecord, content: Path, folder: Path) -> Path:
    """Write the document in ``content`` into ``folder``. Raises :class:`RejectedError`, and ``OSError``."""
    try:
        document = msgspec.msgpack.decode(content.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the document {record.place!r} can't be read: {error}") from error
    text = _yaml(document) if record.place.endswith((".yaml", ".yml")) else _json(document)
    made = folder / "document"
    made.write_text(text, "utf-8", "backslashreplace")
    return made


def _yaml(document: Any) -> str:
    import yaml  # takes a while, and most documents are JSON

    # The C library's dumper, where there is one, is ten times as fast.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        document, Dumper=dumper, indent=2, default_flow_style=False, sort_keys=False, allow_unicode=True
    )
    return text


def _json(document: Any) -> str:
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _NOT_FINITE.get(value, "NaN")
    return value
