"""What is done once a module has been imported: real imports, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = "import sys, threading\nfrom trackside.system.after_import import after_import\ncalled = []\n"


def play(script: str, directory: Path) -> str:
    """What a program says to stdout that finds the modules of ``directory``."""
    command = [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(directory)!r})\n{BEFORE}{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a package, which says how it was found, and a module that cannot be imported."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "__init__.py").write_text("seen = type(__spec__.loader), type(__loader__)\n")
    (tmp_path / "later" / "part.py").write_text("")
    (tmp_path / "broken.py").write_text("raise ValueError('broken')\n")
    return tmp_path


@pytest.mark.parametrize("statement", ["import later", "import later.part", "from later import part"])
def test_it_is_called_once_after_the_import(statement: str, directory: Path) -> None:
    """However it is imported, and again after it was deleted; its loader is Python's own."""
    script = f"""
after_import("later", lambda: called.append(sys.modules["later"].seen))
import importlib.util
assert importlib.util.find_spec("later").origin.endswith("__init__.py")
assert not called
{statement}
(seen,) = called
from importlib.machinery import SourceFileLoader
assert seen == (SourceFileLoader, SourceFileLoader), seen
import later, importlib
assert type(later.__spec__.loader) is type(later.__loader__) is SourceFileLoader
importlib.reload(later)
del sys.modules["later"]
import later
print(len(called))
"""
    assert play(script, directory) == "1"


def test_one_that_was_imported_before(directory: Path) -> None:
    """It is called at once."""
    assert play("import later\nafter_import('later', lambda: print('called'))", directory) == "called"


def test_errors_stay_what_they_were(directory: Path) -> None:
    """Of a module that is missing or raises, and of what is called."""
    script = """
after_import("broken", lambda: print("called"))
after_import("missing", lambda: print("called"))
after_import("later", lambda: 1 / 0)
for name in ("broken", "missing", "later"):
    try:
        __import__(name)
        print("imported")
    except Exception as error:
        print(type(error).__name__, error)
"""
    said = "ValueError broken\nModuleNotFoundError No module named 'missing'\nimported"
    assert play(script, directory) == said


def test_threads_that_import_meanwhile(directory: Path) -> None:
    """None of them misses a module, and none is called twice."""
    for number in range(200):
        (directory / f"many{number}.py").write_text("")
    script = """
for number in range(200):
    after_import(f"many{number}", lambda number=number: called.append(number))
def work():
    for number in range(200):
        __import__(f"many{number}")
threads = [threading.Thread(target=work) for _ in range(4)]
sys.setswitchinterval(1e-5)
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert sorted(called) == list(range(200)), called
print("good")
"""
    assert play(script, directory) == "good"
