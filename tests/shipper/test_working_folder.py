"""A shipper runs where MLflow can name the files of a new experiment."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from trackside.shipper.spawn import spawn, working_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_the_trainers_folder_comes_first(tmp_path: Path) -> None:
    """Relative paths mean there what they mean in the training."""
    assert working_folder(str(tmp_path), "sqlite:////elsewhere/mlflow.db") == str(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"removed"])
def test_a_folder_that_mlflow_cannot_use(tmp_path: Path, name: bytes) -> None:
    """MLflow records the path for good, so it is one beside the database."""
    trainers = os.path.join(str(tmp_path), os.fsdecode(name))
    if name != b"removed":
        os.mkdir(trainers)
    stores = tmp_path / "stores"
    stores.mkdir()
    log = tmp_path / "log"
    here = [sys.executable, "-c", "import os; print(os.getcwd())"]
    child = spawn(log=log, command=here, tracking_uri=f"sqlite:///{stores}/ml.db", working_directory=trainers)
    assert child.wait(60) == 0
    assert log.read_text() == f"{stores}\n"
    assert working_folder(trainers, "http://host:5000") == os.sep
