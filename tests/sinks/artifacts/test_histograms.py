"""Histograms: percentiles as metrics, counts in the record, and a picture."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.sinks.artifacts.delivered import file_of, pixels_of, told
from tests.sinks.kept import Kept
from trackside.journal.format import ArtifactRecord, MetricsRecord
from trackside.sinks.artifacts.distributions import LIMIT, sample_of, spacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(40, 50)).astype(np.float32)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def logged(kept: Kept, values: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """The metrics and details of a histogram of ``values``."""
    kept.bus.log_histogram(values, "weights/fc1", step=3)
    metrics, histogram = kept.records()
    assert isinstance(metrics, MetricsRecord)
    assert isinstance(histogram, ArtifactRecord)
    assert (histogram.place, histogram.step, histogram.form) == ("weights/fc1", 3, "histogram")
    assert (metrics.step, metrics.timestamp_ms) == (3, histogram.timestamp_ms)
    return metrics.named_values(), histogram.details


def test_percentiles_and_counts_are_numpys(kept: Kept) -> None:
    """Of all numbers, in whatever shape."""
    metrics, details = logged(kept, NORMAL)
    wide = NORMAL.astype(np.float64)
    expected = {f"weights/fc1/p{p:02}": np.percentile(wide, p) for p in (5, 25, 50, 75, 95)}
    expected |= {"weights/fc1/min": wide.min(), "weights/fc1/max": wide.max()}
    assert metrics == pytest.approx(expected)
    counts, edges = np.histogram(wide, 64)
    assert details["edges"] == pytest.approx(edges.tolist())
    assert np.abs(np.array(details["counts"]) - counts).max() <= 1  # an edge is rounded another way
    assert sum(details["counts"]) == details["num"] == details["total"] == NORMAL.size
    assert details["sum"] == pytest.approx(wide.sum())
    assert details["sum_squares"] == pytest.approx((wide**2).sum())


def test_every_kind_of_number(kept: Kept) -> None:
    """Tensors of any type and layout, arrays, lists and nested lists give the same."""
    torch = pytest.importorskip("torch")
    whole = RNG.integers(0, 100, (20, 30))
    tensor = torch.from_numpy(whole)
    same = [
        whole.astype(np.uint8),
        whole.astype(np.float16),
        np.asfortranarray(whole),
        whole[::-1],
        whole.tolist(),
        tuple(map(tuple, whole.tolist())),
        tensor,
        tensor.float().requires_grad_(),
        tensor.to(torch.bfloat16),
        tensor.T,
        tensor.float().to_sparse(),
        torch.nn.Parameter(tensor.double()),
    ]
    expected = logged(kept, whole)
    for values in same:
        assert logged(kept, values) == expected


def test_a_list_needs_no_numpy(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may have none."""
    numbers = NORMAL.astype(np.float64).reshape(-1).tolist()
    metrics, details = logged(kept, NORMAL.astype(np.float64))
    monkeypatch.delitem(sys.modules, "numpy")
    ours = logged(kept, numbers)
    assert ours[0] == metrics
    assert ours[1]["counts"] == details["counts"]
    assert ours[1]["sum"] == pytest.approx(details["sum"])


def test_what_is_no_finite_number_is_counted_apart(kept: Kept, tmp_path: Path) -> None:
    """It moves no percentile, and has metrics of its own."""
    odd = [1.0, math.nan, 2.0, math.inf, -math.inf, math.nan, 3.0, math.nan]
    for values in (odd, np.array(odd)):
        kept.bus.log_histogram(values, "g", step=0)
        metrics, histogram = kept.records()
        named = metrics.named_values()
        assert (named["g/nan"], named["g/inf"], named["g/p50"]) == (3, 2, 2.0)
        assert (histogram.details["num"], histogram.details["total"]) == (3, 8)
        assert pixels_of(file_of(kept, histogram, tmp_path)).shape == (256, 512, 3)


def test_no_finite_number_at_all(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to draw. The metrics say how many there were."""
    kept.bus.log_histogram(np.full(5, np.nan), "g", step=0)
    assert kept.record().named_values() == {"g/nan": 5.0}
    assert "none of the numbers is finite: 5 NaN" in told(caplog)


@pytest.mark.parametrize(
    "numbers",
    [
        [0.0],
        [7, 7, 7],
        [True, False],
        [-1.7e308, 1.7e308],
        [1.7e308] * 3,
        [1e300, 1e300 * (1 + 1e-15)],
        [5e-324, 0.0],
        [2**60, 2**60 + 1],
    ],
)
def test_odd_numbers_have_a_picture(kept: Kept, tmp_path: Path, numbers: Any) -> None:
    """Of equal ones, of ones that are far apart, and of ones that are nearly equal. Each is in one bin."""
    for values in (numbers, np.array(numbers)):
        _, details = logged_alone(kept, values)
        assert sum(details["counts"]) == len(numbers)
        assert all(map(math.isfinite, details["edges"]))
        assert details["edges"] == sorted(details["edges"])
        assert pixels_of(file_of(kept, _, tmp_path)).shape == (256, 512, 3)


def logged_alone(kept: Kept, values: Any) -> tuple[ArtifactRecord, dict[str, Any]]:
    """The record of a histogram of ``values``, and its details."""
    kept.bus.log_histogram(values, "g", step=0)
    _, histogram = kept.records()
    return histogram, histogram.details


@pytest.mark.parametrize("order", ["C", "F", "strided", "tensor", "transposed tensor", "bfloat16"])
def test_many_numbers_are_a_sample(kept: Kept, caplog: pytest.LogCaptureFixture, order: str) -> None:
    """Of all rows and columns, and told. The percentiles are those of all."""
    torch = pytest.importorskip("torch")
    many = RNG.normal(size=(1024, 1024)).astype(np.float32) + np.arange(1024, dtype=np.float32) * 0.01
    values: Any = {
        "C": lambda: many,
        "F": lambda: np.asfortranarray(many),
        "strided": lambda: np.repeat(many, 2, axis=1)[:, ::2],
        "tensor": lambda: torch.from_numpy(many),
        "transposed tensor": lambda: torch.from_numpy(many).T,
        "bfloat16": lambda: torch.from_numpy(many).to(torch.bfloat16),
    }[order]()
    metrics, details = logged(kept, values)
    assert details["total"] == many.size
    assert LIMIT / 2 < details["num"] <= LIMIT
    for percent in (5, 25, 50, 75, 95):
        rank = (many < metrics[f"weights/fc1/p{percent:02}"]).mean() * 100
        assert rank == pytest.approx(percent, abs=1.5)
    assert "is made of a sample" in told(caplog)


@pytest.mark.parametrize("count", [1, LIMIT, LIMIT + 1, 10**7, 2**27, 3**15, 100_000_000])
def test_a_sample_passes_through_all_columns(count: int) -> None:
    """It has no more than its share, and no factor in common with any axis."""
    every = spacing(count)
    assert -(-count // every) <= LIMIT
    assert every == 1 or math.gcd(every, count) == 1


def test_a_large_array_is_not_copied() -> None:
    """A sample of an array in one piece is a view of it."""
    many = np.zeros((4096, 1024), np.float32)
    assert np.shares_memory(sample_of(many).numbers, many)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([], "empty"),
        (np.zeros((0, 3)), "empty"),
        ("12", "not str"),
        (3.5, "not float"),
        (None, "not NoneType"),
        ({"a": 1}, "not dict"),
        ([1, "a"], "holds str"),
        ([1, None], "holds NoneType"),
        ([np.zeros(3), np.zeros(4)], "torch.cat"),
        (np.array([1j]), "complex"),
        (np.array([None]), "no numbers"),
    ],
)
def test_what_is_no_numbers_is_told(
    kept: Kept, caplog: pytest.LogCaptureFixture, values: Any, advice: str
) -> None:
    """Nothing is raised and nothing is kept. The warning says what to do."""
    kept.bus.log_histogram(values, "g", step=0)
    assert kept.records() == []
    assert advice in told(caplog)
