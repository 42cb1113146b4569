"""The examples of docs/integrations.md, each a program of its own, where its framework is installed."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

from tests.support import recorder
from tests.support.program import run_python

pytestmark = [pytest.mark.frameworks, pytest.mark.outside]

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
RUN = f"{recorder.IN_A_SCRIPT}import runpy\nrunpy.run_path('example.py', run_name='__main__')"


def missing(block: str) -> list[str]:
    """The modules that a block imports and that are not installed."""
    names = re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE)
    inner = re.findall(r"trackside\.integrations\.(\w+)", block)
    names += inner
    return [name for name in names if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_example_runs(block: str, tmp_path: Path) -> None:
    """As it is on the page."""
    absent = missing(block)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    (tmp_path / "example.py").write_text(block, "utf-8")
    done = run_python(
        "-c", RUN, cwd=tmp_path, timeout=240, env={**os.environ, **recorder.environment(tmp_path / "records")}
    )
    assert done.returncode == 0, done.stderr
