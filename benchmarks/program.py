"""A user's program in small: import a library, start a run, log, end. It tells a pipe when it did what.

Started by :mod:`benchmarks.watched`. It imports no more than it needs: what it has imported, a library need
not import any more.
"""

from __future__ import annotations

import importlib
import os
import sys
import time

_BEGUN = time.monotonic()


def main(name: str, samples: int, metrics: int, pause: float, pipe: int) -> None:
    """Log SAMPLES of so many METRICS with NAME, PAUSE seconds apart."""
    from benchmarks.loggers import LOGGERS
    from benchmarks.samples import floats

    def tell(event: str, number: int = 0, moment: float | None = None) -> None:
        os.write(pipe, f"{event} {number} {moment or time.monotonic():.6f}\n".encode())

    os.set_inheritable(pipe, False)
    make = floats(metrics)
    tell("begun", moment=_BEGUN)
    tell("importing")
    importlib.import_module(LOGGERS[name].module)
    tell("imported")
    with LOGGERS[name].open() as log:
        tell("started")
        for step in range(samples):
            log(make(step), step)
            tell("logged", step + 1)
            time.sleep(pause)
        tell("last")
    tell("closed")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
