"""What is logged. The same for every library, and made before the measured call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_000_000


class Kind(NamedTuple):
    """``make()`` gives a function from the number of a step to a thing."""

    make: Callable[[], Callable[[int], Any]]
    most: int
    """Calls of each library, at most."""


def _images() -> Callable[[int], Any]:
    """Noise is the worst that there is to compress, so half of each image is one colour."""
    import numpy as np

    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(8)]
    for image in images:
        image[:112] = 128
    return lambda number: images[number % len(images)]


def _figures() -> Callable[[int], Any]:
    """One figure, whose line moves. A new figure for each step would cost time in matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    (line,) = axes.plot(range(100))

    def at(number: int) -> Any:
        line.set_ydata([(one * number) % 100 for one in range(100)])
        return figure

    return at


def _tables() -> Callable[[int], Any]:
    rows = range(10)
    return lambda number: {
        "step": [number] * 10,
        "prediction": [f"class {(number + row) % 10}" for row in rows],
        "score": [(number + row) % 7 / 7 for row in rows],
    }


def _histograms() -> Callable[[int], Any]:
    import torch

    torch.manual_seed(0)
    values = [torch.randn(100_000) for _ in range(4)]
    return lambda number: values[number % len(values)]


def _texts() -> Callable[[int], Any]:
    return lambda number: "\n".join(f"step {number}, line {line}: a sample of text" for line in range(100))


def _file(size: int) -> Callable[[], Callable[[int], Any]]:
    def make() -> Callable[[int], Any]:
        path = Path(f"file-{size}.bin").absolute()
        path.write_bytes(os.urandom(MEGABYTE) * (size // MEGABYTE))
        return lambda _number: path

    return make


KINDS: dict[str, Kind] = {
    "an image of 224 x 224 x 3 bytes": Kind(_images, 500),
    "a figure of matplotlib": Kind(_figures, 100),
    "a table, 10 rows a call": Kind(_tables, 200),
    "a histogram of 100,000 floats": Kind(_histograms, 500),
    "a text of 100 lines": Kind(_texts, 500),
    "a file of 1 MB": Kind(_file(MEGABYTE), 200),
    "a file of 100 MB": Kind(_file(100 * MEGABYTE), 10),
}
"""By the name in the tables."""

IMAGE, FIGURE, TABLE, HISTOGRAM, TEXT, FILE, LARGE_FILE = KINDS
