"""Files and models of a W&B run: copies in the run's folder, where ``wandb sync`` finds them.

A file becomes one of the run's files, below ``artifacts``, so that it never replaces one of W&B's own.
A checkpoint or model becomes a W&B artifact of the type ``model``. Its copy lies beside the run's files, in a
folder of its own with a note.

Invariant: what is here can be told to W&B again from the folder alone. So a restarted shipper moves the old
run's folders to the new one, and tells W&B of all that is in them.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.journal.format import ArtifactRecord

FILES = Path("files", "artifacts")
MODELS = Path("models")
NOTE = "model.json"
_NEVER = {errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}
"""A place that is a file for one artifact and a folder for another, or a file that is gone."""

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.\-]")


class KeptFiles:
    """The files and models of ``run``, whose folder is ``folder``."""

    def __init__(self, wandb: Any, run: Any, folder: Path) -> None:
        self._wandb, self._run, self._folder = wandb, run, folder

    def save(self, place: str, source: Path) -> int:
        """Keep the file or folder ``source`` at ``place``. Returns how many files W&B was told of."""
        target = self._folder / FILES / checked(place)
        _copy(source, target)
        return self._tell_files(target)

    def log_model(self, record: ArtifactRecord, source: Path) -> int:
        """Keep a checkpoint or model. Returns how many artifacts W&B was told of."""
        file_name = record.details.get("file") or source.name
        metadata = {"step": record.step, **{name: record.details.get(name) for name in ("metrics", "params")}}
        name = _NOT_IN_A_NAME.sub("_", record.place)[:120] or "model"
        note = {"name": name, "metadata": metadata, "step": record.step}
        text = json.dumps(note, sort_keys=True)
        # The same record has the same folder, so that one which arrives twice is kept once.
        key = hashlib.sha256(f"{text} {record.timestamp_ms}".encode()).hexdigest()[:16]
        place = self._folder / MODELS / key
        _copy(source, place / "content" if source.is_dir() else place / "content" / checked(str(file_name)))
        (place / NOTE).write_text(text, "utf-8")
        return self._tell_model(place)

    def take_over(self, old: Path) -> tuple[int, int]:
        """Move what an earlier run's folder holds to this one, and tell W&B of it: files, and models."""
        for part in (FILES, MODELS):
            for source in _files_in(old / part):
                target = self._folder / part / source.relative_to(old / part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
        files = self._tell_files(self._folder / FILES) if (self._folder / FILES).exists() else 0
        notes = sorted((self._folder / MODELS).glob(f"*/{NOTE}"), key=lambda note: note.stat().st_mtime_ns)
        return files, sum(self._tell_model(note.parent) for note in notes)

    def _tell_files(self, target: Path) -> int:
        told = 0
        for path in _files_in(target):
            self._run.save(glob.escape(str(path)), base_path=str(self._folder / "files"), policy="now")
            told += 1
        return told

    def _tell_model(self, place: Path) -> int:
        note = json.loads((place / NOTE).read_text("utf-8"))
        artifact = self._wandb.Artifact(note["name"], "model", metadata=note["metadata"])
        for path in _files_in(place / "content"):
            name = path.relative_to(place / "content").as_posix()
            artifact.add_file(str(path), name, skip_cache=True, policy="immutable")
        step = note["step"]
        self._run.log_artifact(artifact, aliases=["latest", *([] if step is None else [f"step-{step}"])])
        return 1


def checked(place: str) -> PurePosixPath:
    """``place`` as a relative path. Raises :class:`RejectedError` for one that leaves its folder."""
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts or "\0" in place:
        raise RejectedError(f"{place!r} is no place below the run's files")
    return path


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or all files of a folder. Raises :class:`RejectedError` for what can never be copied."""
    try:
        for path in _files_in(source):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except OSError as error:
        if error.errno in _NEVER:
            raise RejectedError(f"{target} can't be a copy of {source}: {error.strerror}") from error
        raise


def _files_in(place: Path) -> Iterator[Path]:
    """The files under ``place``, or itself if it is one, in the order of their names."""
    if place.is_file():
        yield place
    for root, folders, names in os.walk(place):
        folders.sort()
        yield from (Path(root, name) for name in sorted(names))
