"""Logs files for each line that it gets, and removes them. Says how long that took and what it reads."""

import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import mlflow

mlflow.set_experiment("files")


def log(word: str) -> float:
    """Log a large file, a folder and a text."""
    folder = Path(word)
    folder.mkdir()
    (folder / f"{word}.bin").write_bytes(hashlib.sha256(word.encode()).digest() * 50_000)
    (folder / "small.txt").write_text(word)
    before = time.perf_counter()
    mlflow.log_artifact(str(folder / f"{word}.bin"), "large")
    mlflow.log_artifacts(str(folder), f"folder/{word}")
    mlflow.log_text(word, f"texts/{word}.txt")
    took = time.perf_counter() - before
    shutil.rmtree(folder)
    return took


with mlflow.start_run() as run:
    print(run.info.run_id, flush=True)
    for line in sys.stdin:
        said = f"{log(line.strip()):.3f}"
        if os.environ.get("READS"):
            listed = mlflow.MlflowClient().list_artifacts(run.info.run_id, "texts")
            said += f" {[file.path for file in listed]}"
        print(said, flush=True)
