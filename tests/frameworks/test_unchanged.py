"""Programs of the frameworks that call MLflow leave the same pages with ``journal+`` as without."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.unchanged.play import assert_same

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("program", "framework"),
    [
        ("lightning_logger", "lightning"),
        ("lightning_autolog", "lightning"),
        ("transformers_trainer", "transformers"),
        ("accelerate_tracker", "accelerate"),
        ("optuna_callback", "optuna_integration"),
        ("xgboost_autolog", "xgboost"),
    ],
)
def test_the_pages_are_the_same(program: str, framework: str, tmp_path: Path) -> None:
    """And what the program says it has read, and its exit code."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    ours = assert_same(program, tmp_path)
    assert any(experiment["runs"] for experiment in ours.pages["experiments"].values())
