"""What a large upload costs the training beside it: ``python -m benchmarks.upload_beside_training [GB]``.

One file is logged by ``log_artifact`` to a stock MLflow server of this machine. It prints how long the call
took, and the loop's time per step with the upload beside it and without, in turns: a run that logs nothing
but metrics, and one whose file goes out meanwhile. Then it compares the hashes.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trackside
from tests.faults.servers import MlflowServer

ROUNDS = 3
STEP = 400_000
"""Turns of a loop of Python in a step: about 10 ms of a core."""


def work() -> None:
    """One step of the training."""
    total = 0
    for number in range(STEP):
        total += number


def steps(run: trackside.Run, seconds: float) -> float:
    """The median step in milliseconds."""
    costs, until, step = [], time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        run.log({"loss": 1.0}, step=step)
        costs.append(1e3 * (time.perf_counter() - begun))
        step += 1
    return statistics.median(costs)


def write(path: Path, size: int) -> str:
    """Write random bytes. Returns their hash."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size:
            piece = os.urandom(min(size, 1 << 24))
            file.write(piece)
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    """The hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()


def main(size: int) -> None:
    """Measure, and print."""
    root = Path(tempfile.mkdtemp(prefix="trackside-upload-"))
    os.chdir(root)
    with MlflowServer(root).running() as server:
        for number in range(ROUNDS):
            path = root / "ckpt.bin"
            wanted = write(path, size)
            os.sync()
            run = trackside.start("upload", tracking_uri=server.url)
            run.log({"loss": 1.0}, step=0)
            run.flush()
            alone = steps(run, 5.0)
            begun = time.perf_counter()
            run.log_artifact(path)
            call = 1e3 * (time.perf_counter() - begun)
            path.unlink()
            beside = steps(run, 5.0)
            delivered = run.flush(timeout=600.0)
            run.finish()
            (arrived,) = (root / "artifacts").glob(f"*/{run.run_id}/artifacts/ckpt.bin")
            same = hash_of(arrived) == wanted
            arrived.unlink()
            print(
                f"round {number + 1}: call {call:.2f} ms, step {alone:.2f} ms alone, {beside:.2f} ms beside "
                f"(x{beside / alone:.3f}), delivered {delivered}, same bytes {same}"
            )


if __name__ == "__main__":
    main(int(float(sys.argv[1] if len(sys.argv) > 1 else 1) * 1e9))
