"""However the process ends: every point is delivered once, and the status is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ends.cases import ALL, BASIC, EXCEPTIONS, FINISHES
from tests.ends.harness import Case, check, play

if TYPE_CHECKING:
    from pathlib import Path


def marks_of(case: Case) -> list[pytest.MarkDecorator]:
    """``slow``, ``torch`` if its program imports that, and ``process`` for all but the everyday ends."""
    slow = [pytest.mark.slow] if case.slow else []
    if "torch" in repr(case):
        return [*slow, pytest.mark.torch, pytest.mark.process]
    return slow if case in [*BASIC, *EXCEPTIONS, *FINISHES] else [*slow, pytest.mark.process]


CASES = [pytest.param(case, id=case.name, marks=marks_of(case)) for case in ALL]


@pytest.mark.parametrize("case", CASES)
def test_end(case: Case, tmp_path: Path) -> None:
    """The run read back tells what happened to the process."""
    seen = play(case, tmp_path, on_mlflow=case.on_mlflow)
    assert check(case, seen) == [], f"{seen.stderr}\n{seen.shipper_log}\n{seen}"
