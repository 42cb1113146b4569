"""Check that type checkers know the type of every public name, and of all that belongs to it.

``pyright --verifytypes`` looks at each module whose name has no underscore. Users see fewer: the names below.
Run it with the environment's Python, in which ``trackside`` and ``pyright`` are installed.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = (
    "trackside",
    "trackside.artifact_events",
    "trackside.coerce",
    "trackside.events",
    "trackside.lifecycle",
    "trackside.protocols",
    "trackside.session.options",
    "trackside.sinks",
    "trackside.testing",
    "trackside.transform",
)


def main() -> int:
    """Print the public names whose types are unknown or ambiguous; 1 if there are any."""
    symbols = {symbol["name"]: symbol for symbol in _verified()}
    public = [f"{module}.{name}" for module in MODULES for name in _names(module)]
    missing = [name for name in public if name not in symbols]
    doubtful = [name for name in public if name in symbols and not _is_known(symbols[name])]
    if missing or doubtful:
        print("pyright does not know the types of", *missing, *doubtful)
        _print_causes(symbols, {name.rpartition(".")[2] for name in doubtful})
        return 1
    print(f"pyright knows the types of all {len(public)} public names")
    return 0


def _names(module: str) -> list[str]:
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None)
    return names or [
        name for name, value in vars(found).items() if getattr(value, "__module__", "") == module
    ]


def _verified() -> list[dict]:
    bin_ = Path(sys.executable).parent
    # pyright asks the first `python` in PATH where packages are.
    environment = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    command = [bin_ / "pyright", "--verifytypes", "trackside", "--ignoreexternal", "--outputjson"]
    with tempfile.TemporaryDirectory() as elsewhere:  # so that it takes the package that is installed
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
    return json.loads(done.stdout)["typeCompleteness"]["symbols"]


def _is_known(symbol: dict) -> bool:
    return symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]


def _print_causes(symbols: dict[str, dict], names: set[str]) -> None:
    """What pyright finds in the classes and functions ``names``, and in the classes that it names there."""
    printed: set[str] = set()
    while names:
        named: set[str] = set()
        for path, symbol in symbols.items():
            for found in symbol["diagnostics"]:
                if names & set(path.split(".")) and path not in printed:
                    printed.add(path)
                    named.update(re.findall(r"\b[A-Z]\w+", found["message"]))
                    print(f"  {path}: {found['message']}")
        names = named


if __name__ == "__main__":
    sys.exit(main())
