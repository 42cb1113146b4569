"""One run into five destinations, each read back by its own reader: ``python -m tests.event_bus.fan_out``.

Midway the shipper is killed (SIGKILL) and the MLflow server too, which comes back three seconds later.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from tests.faults.servers import MlflowServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

Point = tuple[str, int, float]
"""Name, step, value."""

NAMES = ("train/loss", "train/acc", "val/loss")

SCRIPT = """
import sys, time
import trackside

samples = int(sys.argv[1])
run = trackside.start(
    "fan-out",
    run_name="all",
    config={"lr": 0.1, "model": {"depth": 3}},
    destinations=[
        {"type": "tensorboard", "log_dir": "tensorboard"},
        {"type": "wandb", "mode": "offline", "project": "fan-out", "dir": "wandb"},
        {"type": "jsonl", "path": "metrics.jsonl"},
        {"type": "parquet", "path": "parquet"},
    ],
)
for step in range(samples):
    trackside.log({"loss": 1 / (step + 1), "acc": step / samples}, step=step, prefix="train")
    if step % 100 == 0:
        trackside.log({"loss": 2 / (step + 1)}, step=step, prefix="val")
    if step == samples // 2:
        print(run._assembly.shipper.pid, flush=True)
    if step % 20 == 0:
        time.sleep(0.01)  # so that shipping has a middle
print(run.flush(120), flush=True)
run.finish()
print(run.counts, flush=True)
"""


class Seen(NamedTuple):
    """What a reader found, against what was emitted."""

    points: int
    missing: int
    doubles: int
    strange: int

    @property
    def good(self) -> bool:
        """Each point exactly once."""
        return self.missing == self.doubles == self.strange == 0


def expected(samples: int) -> Counter[Point]:
    """What the script emits."""
    points = Counter[Point]()
    for step in range(samples):
        points["train/loss", step, 1 / (step + 1)] += 1
        points["train/acc", step, step / samples] += 1
        if step % 100 == 0:
            points["val/loss", step, 2 / (step + 1)] += 1
    return points


def from_mlflow(directory: Path) -> Counter[Point]:
    """The server's database, row by row."""
    with sqlite3.connect(directory / "mlflow.db") as database:
        return Counter(database.execute("SELECT key, step, value FROM metrics").fetchall())


def from_tensorboard(directory: Path) -> Counter[Point]:
    """What TensorBoard itself reads. Scalars are float32 there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if "/" in tag and not tag.startswith("_")]
    return Counter((tag, event.step, event.value) for tag in tags for event in accumulator.Scalars(tag))


def from_wandb(directory: Path) -> Counter[Point]:
    """W&B's own records in what `wandb sync` would upload; wandb has no reader of the file around them."""
    from trackside.destinations.wandb.log import TransactionLog

    points = Counter[Point]()
    for path in directory.glob("wandb/**/*.wandb"):
        for row in TransactionLog(path).new_rows():
            step = row.values["trainer/global_step"]
            points.update((name, step, value) for name, value in row.values.items() if name in NAMES)
    return points


def from_jsonl(directory: Path) -> Counter[Point]:
    """One object a line."""
    points = Counter[Point]()
    for line in (directory / "metrics.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        names = entry.keys() - {"step", "epoch", "timestamp"}
        points.update((name, entry["step"], entry[name]) for name in names)
    return points


def from_parquet(directory: Path) -> Counter[Point]:
    """What pandas reads of the directory."""
    import pandas as pd

    frame = pd.read_parquet(directory / "parquet")
    return Counter(
        zip(frame["name"].astype(str), frame["step"].tolist(), frame["value"].tolist(), strict=True)
    )


READERS: dict[str, Callable[[Path], Counter[Point]]] = {
    "mlflow": from_mlflow,
    "tensorboard": from_tensorboard,
    "wandb": from_wandb,
    "jsonl": from_jsonl,
    "parquet": from_parquet,
}


def play(directory: Path, samples: int) -> dict[str, Seen]:
    """Run the script, kill what it needs midway, and read back."""
    server = MlflowServer(directory)
    server.start()
    (directory / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "TRACKSIDE_EXIT_TIMEOUT": "120"}
    try:
        with subprocess.Popen(
            [sys.executable, "train.py", str(samples)],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as training:
            assert training.stdout is not None
            os.kill(int(training.stdout.readline()), signal.SIGKILL)
            server.kill()
            time.sleep(3)
            server.start()
            output = training.stdout.read()
        assert training.returncode == 0, output
        wait_until(lambda: not (directory / ".trackside").exists(), 60, lambda: output)
    finally:
        server.terminate()
    wanted = expected(samples)
    return {name: compare(read(directory), wanted) for name, read in READERS.items()}


def compare(found: Counter[Point], wanted: Counter[Point]) -> Seen:
    """Point by point. A value that a format keeps as float32 is the nearest there is."""
    wanted = Counter({(name, step, _single(value)): count for (name, step, value), count in wanted.items()})
    rounded = Counter[Point]()
    for (name, step, value), count in found.items():
        rounded[name, step, _single(value)] += count
    return Seen(
        points=rounded.total(),
        missing=(wanted - rounded).total(),
        doubles=sum(count - 1 for count in rounded.values()),
        strange=sum(point not in wanted for point in rounded),
    )


def _single(value: float) -> float:
    import numpy as np

    return float(np.float32(value))


@click.command()
@click.option("--samples", default=20_000, show_default=True)
def main(samples: int) -> None:
    """Play, and print what each destination has. Exit code 1 when one has not each point exactly once."""
    with tempfile.TemporaryDirectory(prefix="trackside-fan-out-") as directory:
        begun = time.monotonic()
        seen = play(Path(directory), samples)
        took = time.monotonic() - begun
    table = Table("destination", "points", "missing", "doubles", "strange", title=f"{samples:,} samples")
    for name, row in seen.items():
        table.add_row(name, *(f"{number:,}" for number in row), style=None if row.good else "red")
    console = Console()
    console.print(table)
    console.print(f"{expected(samples).total():,} points emitted; {took:.0f} s in all")
    sys.exit(not all(row.good for row in seen.values()))


if __name__ == "__main__":
    main()
