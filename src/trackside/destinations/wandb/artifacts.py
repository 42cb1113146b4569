"""What becomes of an artifact in W&B: a medium in a row, files of the run, or a model."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from trackside.destinations.finished_files import finished_file, made_folder
from trackside.destinations.wandb import media
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.journal.format import ArtifactRecord

MODELS = {"checkpoint", "model"}
FILES = {"file", "folder", "text", "document"}
_KEYED = {"image", "figure", "audio", "video"}
"""With a step they are media under their key, and without one files."""


class ArtifactWays:
    """The ways into W&B: a row, files, a model. Each is a function that tells W&B, and waits for it."""

    def __init__(
        self,
        wandb: Any,
        context: DestinationContext,
        *,
        row: Callable[[ArtifactRecord, Any], None],
        save: Callable[[str, Path], None],
        model: Callable[[ArtifactRecord, Path], None],
    ) -> None:
        self._wandb, self._context = wandb, context
        self._row, self._save, self._model = row, save, model

    def write(self, record: ArtifactRecord, content: Path | None) -> None:
        """Bring ``record`` to W&B. What W&B has no word for is left out.

        Raises :class:`~trackside.errors.RejectedError` for what can't be encoded, ``OSError``, and what W&B
        raises.
        """
        kind = record.kind
        if kind == "histogram":
            self._row(record, media.histogram(self._wandb, record))
        elif kind == "table":
            self._row(record, media.table(self._wandb, record, content))
        elif kind in MODELS | FILES | _KEYED:
            with finished_file(self._context, record, content) as path:
                self._write_file(record, path)

    def _write_file(self, record: ArtifactRecord, path: Path) -> None:
        if record.kind in MODELS:
            self._model(record, path)
        elif record.kind in FILES or record.step is None:
            self._save(record.place, path)
        else:
            ending = media.ending_for(record, path)
            if ending:
                self._row(record, self._medium(record, self._named(path, ending)))

    def _medium(self, record: ArtifactRecord, path: Path) -> Any:
        try:
            return media.from_file(self._wandb, record.kind, path)
        except (OSError, ValueError) as error:  # W&B has looked into it, and found something else
            raise RejectedError(f"W&B takes no {record.kind} {record.place!r}: {error}") from error

    def _named(self, path: Path, ending: str) -> Path:
        """The same file under a name with that ending. It goes with what was made for this artifact."""
        if path.suffix == ending:
            return path
        named = made_folder(self._context) / f"medium{ending}"
        shutil.copyfile(path, named)
        return named
