"""One run into five destinations, with a shipper and a server killed midway: each has every point once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.event_bus.fan_out import READERS, expected, play

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


@pytest.mark.parametrize("samples", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_every_destination_has_each_point_once(samples: int, tmp_path: Path) -> None:
    """Read back by MLflow's database, TensorBoard, W&B's records, json and pandas."""
    seen = play(tmp_path, samples)
    assert list(seen) == list(READERS)
    assert {name: row.points for name, row in seen.items()} == dict.fromkeys(
        READERS, expected(samples).total()
    )
    assert all(row.good for row in seen.values()), seen
