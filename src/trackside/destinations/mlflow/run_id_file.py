"""The file beside the checkpoints that names the run they belong to.

A restarted job finds its checkpoints and, in ``mlflow_run_id`` next to them, the run to resume. The file is
replaced as a whole. Half an id, left by a job that is killed while it writes, would send the next one's
metrics to a new run.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.opening import MAX_WORD, read_file
from trackside.system.files import replacing

if TYPE_CHECKING:
    import os

logger = logging.getLogger("trackside.destinations")

RUN_ID_FILE = "mlflow_run_id"

# What MLflow takes for a run id: `_RUN_ID_REGEX` in mlflow/utils/validation.py.
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


def read_run_id_file(checkpoint_dir: str | os.PathLike[str]) -> str | None:
    """Return the run id kept in ``checkpoint_dir``, or None.

    A file that cannot be read, or that holds no run id, causes one warning. The training can use a new run.
    Raises nothing.
    """
    path = Path(checkpoint_dir) / RUN_ID_FILE
    try:
        text = read_file(path, MAX_WORD, follow_links=True).decode("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        logger.warning("cannot read the run id in %s: %s", path, error)
        return None
    if _RUN_ID.fullmatch(text):
        return text
    logger.warning("%s is ignored, because it holds no run id but %.80r", path, text)
    return None


def is_newer(checkpoint_dir: str | os.PathLike[str], at_ms: int, run_id: str) -> bool:
    """Whether ``checkpoint_dir`` names another run than ``run_id``, and has done so only since ``at_ms``.

    Then a later attempt has written it. Both times are by this machine's clock, or by one that agrees.
    """
    path = Path(checkpoint_dir) / RUN_ID_FILE
    try:
        written_ms = path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return False
    return written_ms > at_ms and read_run_id_file(checkpoint_dir) not in {None, run_id}


def write_run_id_file(checkpoint_dir: str | os.PathLike[str], run_id: str) -> None:
    """Make ``checkpoint_dir`` name ``run_id``, creating the directory if needed.

    Any reader, at any moment, sees the old file or the new one. On return it is on the disk.

    Raises:
        ValueError: ``run_id`` is no run id.
        OSError: the file cannot be written. The old one is unchanged.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"not an MLflow run id: {run_id!r}")
    directory = Path(checkpoint_dir)
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / RUN_ID_FILE, durable=True) as temporary:
        temporary.write_text(run_id, "utf-8", newline="")
