"""Where a shipper runs: in the trainer's working folder, if MLflow can use it.

MLflow keeps the files of a new experiment in ``./mlruns`` and records that path in the database for good. So
the folder matters even if everything else has an absolute path. MLflow fails in a folder that was removed,
and in one whose name is not UTF-8.
"""

from __future__ import annotations

import os

from trackside.destinations.mlflow.address import database_file
from trackside.text import encodable


def working_folder(trainers: str, tracking_uri: str) -> str:
    """The trainer's folder, or else the database's, or else the root of the file system."""
    file = database_file(tracking_uri)
    for folder in (trainers, os.path.dirname(file) if file else ""):
        if _is_usable(folder):
            return folder
    return os.sep


def _is_usable(folder: str) -> bool:
    """It is there, may be entered (a program may have given up its rights since), and has a name of UTF-8."""
    return os.path.isdir(folder) and os.access(folder, os.X_OK) and encodable(folder) == folder
