"""The tutorial in docs/sinks.md: ten lines, and they do what they are said to do."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.test_docs import BLOCK, ROOT, run_example

if TYPE_CHECKING:
    from pathlib import Path


def test_the_tutorial_builds_a_sink_in_ten_lines(tmp_path: Path) -> None:
    """The class has ten lines at most, blank ones apart, and its file has every point."""
    block = BLOCK.findall((ROOT / "docs" / "sinks.md").read_text("utf-8"))[0]
    (sink,) = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    lines = ast.unparse(sink).splitlines()
    assert len([line for line in lines if line.strip()]) <= 10
    run_example(block, tmp_path)
    written = (tmp_path / "metrics.csv").read_text("utf-8").split()
    assert written == [f"{step},{name}" for step in range(3) for name in (f"loss,{1 / (step + 1)}", "lr,0.1")]
