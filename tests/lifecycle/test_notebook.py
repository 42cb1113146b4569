"""A real Jupyter kernel: a cell that raises ends no run, and ``sys.excepthook`` is never called.

Skips itself where there is no ipykernel. Scripts in IPython are among ``tests/ends``.
"""

from __future__ import annotations

import importlib.util
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import wait_until_delivered
from tests.support import recorder
from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.recorder import RecordedRun

missing = [name for name in ("ipykernel", "jupyter_client") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

# In a process of its own: what it warns of is not ours to mend.
DRIVER = """
import json, sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout=60)
statuses = []
for cell in json.loads(sys.argv[1]):
    statuses.append(client.execute_interactive(cell, timeout=60)["content"]["status"])
client.stop_channels()
manager.shutdown_kernel()
print(json.dumps(statuses))
"""

START = f"{recorder.IN_A_SCRIPT}import trackside\nrun = trackside.start('notebook')"
EMIT = "for step in range(20):\n    trackside.log({'loss': 1.0}, step=step)"
RAISE = "raise ValueError('boom')"
LOCAL = f"""
{recorder.IN_A_SCRIPT}
import trackside
def train():
    run = trackside.start('notebook')
    {EMIT.replace(chr(10), chr(10) + "    ")}
    raise ValueError('boom')
train()
"""
FINALLY = "try:\n    raise ValueError('boom')\nfinally:\n    run.finish()"


def play(directory: Path, cells: list[str]) -> tuple[RecordedRun, list[str]]:
    """The run after ``cells`` were executed and the kernel was shut down, and how each cell ended."""
    journals, records = directory / "journals", directory / "records"
    environment = {
        **os.environ,
        **recorder.environment(records),
        "TRACKSIDE_DIR": str(journals),
        "IPYTHONDIR": str(directory / "ipython"),
    }
    done = run_python("-c", DRIVER, json.dumps(cells), cwd=directory, env=environment)
    assert done.returncode == 0, done.stderr
    wait_until_delivered(journals)
    run = recorder.only_run(records)
    assert run.steps("loss") == dict.fromkeys(range(20), 1)
    return run, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("cells", "statuses", "status", "reason"),
    [
        ([START, EMIT], ["ok", "ok"], "FINISHED", ""),
        ([START, RAISE, EMIT, "run.finish()"], ["ok", "error", "ok", "ok"], "FINISHED", "finished"),
        ([START, f"{EMIT}\n{RAISE}"], ["ok", "error"], "FAILED", "ValueError: boom"),
        ([START, f"{EMIT}\n{RAISE}", "a_typo"], ["ok", "error", "error"], "FAILED", "ValueError: boom"),
        ([START, EMIT, "a_typo"], ["ok", "ok", "error"], "FINISHED", "exit code 0"),
        ([LOCAL, "a_typo", "trackside.finish()"], ["error", "error", "ok"], "FINISHED", "finished"),
        ([START, EMIT, FINALLY], ["ok", "ok", "error"], "FAILED", "ValueError: boom"),
    ],
)
def test_a_notebook(tmp_path: Path, cells: list[str], statuses: list[str], status: str, reason: str) -> None:
    """An error ends a cell, not the session. The one that counts is that of the last cell that logged."""
    run, seen = play(tmp_path, cells)
    assert seen == statuses
    assert run.status == status
    assert reason in run.reason
