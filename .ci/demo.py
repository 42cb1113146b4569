"""Run ``trackside demo`` with a torch that is there already: ``.ci/demo.py PYTHON [ARGUMENT...]``.

If this environment has no torch, that of the interpreter PYTHON is used. Its folder comes last on the path:
no other package is taken from there if this environment has it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

FIND = """
import importlib.util, os, sys
print(sys.version_info[:2])
spec = importlib.util.find_spec("torch")
if spec is not None and spec.origin is not None:
    print(os.path.dirname(os.path.dirname(spec.origin)))
"""


def torch_of(python: str) -> str:
    """The folder in which ``python`` finds torch; empty if it has none, or is of another version."""
    asked = subprocess.run([python, "-c", FIND], capture_output=True, text=True, check=False)
    version, _, folder = asked.stdout.partition("\n")
    return folder.strip() if version == str(sys.version_info[:2]) else ""


if __name__ == "__main__":
    if importlib.util.find_spec("torch") is None and (folder := torch_of(sys.argv[1])):
        print(f"using the torch in {folder}", flush=True)
        sys.path.append(folder)
    from trackside.cli.main import main

    main(["demo", *sys.argv[2:]], prog_name="trackside")
