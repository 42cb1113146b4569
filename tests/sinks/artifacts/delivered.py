"""What a test sees of an artifact: the file that is delivered, and what was told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from trackside.encoding.finished import finished
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.sinks.kept import Kept
    from trackside.journal.format import ArtifactRecord


def file_of(kept: Kept, record: ArtifactRecord, folder: Path) -> Path:
    """The file that is delivered for ``record``."""
    content = None if record.held is None else content_of(kept.journal, record.held)
    return finished(record, content, folder)


def pixels_of(path: Path) -> Any:
    """The pixels of a picture."""
    with Image.open(path) as image:
        return np.asarray(image)


def told(caplog: pytest.LogCaptureFixture) -> str:
    """All warnings."""
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
