"""Journals of another user, written by hand as an attacker would."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import pathlib

pathlib.Path({marker!r}).write_text("imported")

def run(context, **options):
    pathlib.Path({marker!r}).write_text("called")
"""


def plant(root: Path, name: str = "20200101T000000-planted-abcdef", **fields: Any) -> Path:
    """A folder ``name`` in ``root`` with a ``meta.json`` that claims whatever is wanted.

    It shows no sign of life, so its training counts as over.
    """
    folder = root / name
    folder.mkdir(parents=True)
    meta = {
        "journal_id": "0123456789abcdef",
        "owner": {"host": "elsewhere", "pid": 1, "started": 0.0, "boot_id": "another boot"},
        "target": {"tracking_uri": "sqlite:///planted.db"},
        "rank": 0,
        "working_directory": "/",
        "started_ms": int(time.time() * 1000) - 3_600_000,
        **fields,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    os.utime(folder / "meta.json", (0, 0))
    return folder


def files_in(folder: Path) -> set[str]:
    """The names of all files below ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
