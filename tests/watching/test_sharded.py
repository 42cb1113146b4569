"""A model whose parameters are spread over the ranks: two real ranks, with gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.process]

SCRIPT = Path(__file__).parent / "scripts" / "sharded.py"


def on_two_ranks(folder: Path, which: str) -> list[dict[str, Any]]:
    """What each rank prints."""
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder / "rendezvous"), which],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=200)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return [json.loads(text) for text in said]


def test_the_norms_of_the_whole_model(tmp_path: Path) -> None:
    """With ``all_ranks`` they are those of the model that is not sharded, on either rank."""
    for rank in on_two_ranks(tmp_path, "all"):
        for name, value in rank["expected"].items():
            assert rank["found"][name] == pytest.approx(value, rel=1e-5)


def test_the_norms_of_the_shards(tmp_path: Path) -> None:
    """Without it, rank 0 measures its own part, says so in the names, and waits for no other rank."""
    first, second = on_two_ranks(tmp_path, "alone")
    assert set(second["found"]) == {"loss"}
    assert {"grad_norm_shard/total", "param_norm_shard/0"} <= set(first["found"])
    assert "grad_norm/total" not in first["found"]
    assert 0 < first["found"]["param_norm_shard/total"] < first["expected"]["param_norm/total"]
