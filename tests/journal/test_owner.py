"""One process may run several programs, one after another: they are told apart."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from trackside.journal.owner import Owner, is_replaced, program_of, succeeds, this_process, was_this_process

HERE = this_process()
pytestmark = pytest.mark.skipif(HERE.program is None, reason="no /proc here")

FIRST = """
import os, sys, msgspec
from trackside.journal.owner import this_process
print(msgspec.json.encode(this_process()).decode(), flush=True)
sys.stdin.readline()
again = "import sys; print('again', flush=True); sys.stdin.readline()"
os.execv(sys.executable, [sys.executable, "-c", again])
"""


def test_a_program_that_replaces_itself() -> None:
    """The number and the start stay, the program does not; forking and running on change nothing."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", FIRST], stdin=pipe, stdout=pipe, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        owner = msgspec.json.decode(child.stdout.readline(), type=Owner)
        assert not is_replaced(owner)
        child.stdin.write("\n")
        assert child.stdout.readline() == "again\n"
        assert is_replaced(owner)
        later = msgspec.structs.replace(owner, program=program_of(child.pid))
        assert succeeds(later, owner)
        assert not succeeds(owner, owner)
        child.stdin.write("\n")
        child.wait(timeout=60)
        assert not is_replaced(owner)


def test_what_is_not_known_is_no_other_program() -> None:
    """A journal of an older version, another process, another boot."""
    assert not was_this_process(HERE)
    assert was_this_process(msgspec.structs.replace(HERE, program="other"))
    for change in ({"program": None}, {"pid": 1}, {"boot_id": "x"}, {"start_ticks": None}):
        other = msgspec.structs.replace(HERE, **{"program": "other", **change})
        assert not was_this_process(other), change
    assert not is_replaced(msgspec.structs.replace(HERE, program=None))
