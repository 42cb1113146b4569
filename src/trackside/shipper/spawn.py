"""Starting a shipper: which interpreter, which import path, which environment.

Invariants:

* The shipper imports the standard library from its own interpreter first, then what the starting process
  would import, in that order. The working folder and the script's folder come last, so a user's
  ``queue.py`` or ``mlflow/`` never stands in for a module of the same name.
* No ``PYTHON*`` variable that changes how Python runs reaches it, except those in ``_KEPT``.
* A program that is not a Python interpreter is never started. One that only looks like an interpreter
  is started once: :func:`leave_if_meant_to_ship` ends it in its first ``start()``.

The shipper runs in a session of its own, so Ctrl-C and group signals do not reach it. It writes to
``shipper.log``, never to the trainer's output: an inherited stdout would keep ``| tee`` open.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from trackside.destinations.mlflow.address import database_file
from trackside.journal import lossless_json
from trackside.journal.opening import open_own
from trackside.settings import PYTHON_VARIABLE, read_environment
from trackside.shipper import signals
from trackside.system.journal_address import inner_address
from trackside.text import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


TRACKING_URI = "TRACKSIDE_SHIPPER_TRACKING_URI"
"""The address with its credentials, which must not be seen in ``ps`` or on disk."""

SECRETS = "TRACKSIDE_SHIPPER_OPTIONS"
"""JSON: the options, by destination, of those whose options hold a secret, for the same reason."""

IMPORT_PATH = "TRACKSIDE_SHIPPER_PATH"
"""The starting process's Python version, then its import path, one entry a line."""

EXIT_NOT_PYTHON = 6
"""The program that was started as a shipper started a training instead."""

# ``os`` is loaded by then, so nothing is imported before the path is set.
_BOOTSTRAP = """\
import os, sys
version, *path = os.environ.pop({variable!r}).split("\\n")
library = os.path.dirname(os.__file__)
zipped = "python%d%d.zip" % sys.version_info[:2]
own = [p for p in sys.path if p]
standard = [p for p in own if p == library or os.path.basename(p) in ("lib-dynload", zipped)]
sys.path[:] = dict.fromkeys(standard + path if version == "%d.%d" % sys.version_info[:2] else own)
from {module} import {function}
sys.exit({function}())
"""

_KEPT = frozenset(
    "PYTHONHOME PYTHONPLATLIBDIR PYTHONEXECUTABLE PYTHONUSERBASE PYTHONNOUSERSITE PYTHONUTF8 "
    "PYTHONCOERCECLOCALE PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX".split()
)
"""What decides where Python finds itself, how it reads file names, and where it may write."""

_INTERPRETER = re.compile(r"\.?(python|pypy)[\d.]*[a-z]*(-wrapped)?(\.exe)?", re.IGNORECASE)


class Child(subprocess.Popen[bytes]):
    """A process that may outlive the object: it is reaped when the next one is started, without a warning.

    So is one whose object you keep, with a run that has ended.
    """

    _alive: ClassVar[list[Child]] = []

    def reap_later(self) -> Child:
        """Reap it when the next one is started, once it is dead."""
        for child in list(Child._alive):
            if child.poll() is not None:
                with contextlib.suppress(ValueError):  # another thread was faster
                    Child._alive.remove(child)
        Child._alive.append(self)
        return self

    def __del__(self) -> None:
        super().__del__(_warn=_say_nothing)  # type: ignore[call-arg]  # typeshed leaves it out


def _say_nothing(*_: Any, **__: Any) -> None:
    """Stand in for ``warnings.warn``."""


def command_for(journal: JournalDirectory, *options: object) -> list[str]:
    """The command that ships ``journal``. Raises ``OSError`` where there is no Python interpreter."""
    return [*python_command("trackside.shipper.__main__", "main"), str(journal.path), *map(str, options)]


def python_command(module: str, function: str) -> list[str]:
    """The command that calls ``function`` of ``module`` and leaves with its result.

    It needs the environment of :func:`environment_for`. Raises ``OSError`` where there is no interpreter.
    """
    code = _BOOTSTRAP.format(variable=IMPORT_PATH, module=module, function=function)
    return [interpreter(), "-c", code]


def environment_for() -> dict[str, str]:
    """This process's environment, made fit for a child that runs a part of trackside."""
    kept = {name: value for name, value in os.environ.items() if _reaches_the_shipper(name)}
    if "MLFLOW_TRACKING_URI" in kept:  # a child of ours delivers: it never logs through the journal store
        kept["MLFLOW_TRACKING_URI"] = inner_address(kept["MLFLOW_TRACKING_URI"])
    kept[IMPORT_PATH] = "\n".join(["{}.{}".format(*sys.version_info), *import_path()])
    return kept


def ships(command: Sequence[str], journal: JournalDirectory) -> bool:
    """Whether ``command`` is that of a shipper of ``journal``."""
    return str(journal.path) in command and any("trackside.shipper" in word for word in command)


def is_forked(command: Sequence[str]) -> bool:
    """Whether ``command`` is that of the process that forks shippers for ``sync``, and of its forks."""
    return any("from trackside.shipper.fork_server import" in word for word in command)


def spawn(
    command: list[str],
    *,
    log: Path,
    tracking_uri: str,
    working_directory: str,
    pass_fds: tuple[int, ...] = (),
    secrets: Mapping[str, Any] | None = None,
) -> Child:
    """Start ``command`` in a session of its own, with its output in ``log``. Raises ``OSError``.

    All signals are blocked in it until it says which are for it (:mod:`trackside.shipper.signals`).
    """
    environment = environment_for()
    environment[TRACKING_URI] = tracking_uri
    environment[SECRETS] = lossless_json.encode(secrets or {}).decode()
    output = open_own(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with signals.all_blocked():
            child = Child(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
                env=environment,
                cwd=working_folder(working_directory, tracking_uri),
            )
        return child.reap_later()
    finally:
        os.close(output)


def interpreter() -> str:
    """The Python interpreter to run the shipper with.

    ``sys.executable`` may be an application that embeds Python: started again, it would train again.
    Raises ``OSError`` where no interpreter is found.
    """
    chosen = read_environment().python
    if chosen is not None:
        return chosen
    found = next(filter(None, _candidates()), None)
    if found is None:
        raise OSError(
            f"sys.executable is {sys.executable!r}, which is not a Python interpreter. "
            f"Set {PYTHON_VARIABLE} to the path of one"
        )
    return found


def _candidates() -> Iterator[str]:
    # What multiprocessing.set_executable() was told, by an application that knows it is not Python.
    told = getattr(sys.modules.get("multiprocessing.spawn"), "get_executable", lambda: None)()
    told = os.fsdecode(told) if told else ""
    if told != sys.executable:
        yield told
    if not getattr(sys, "frozen", False):
        named = (sys.executable, getattr(sys, "_base_executable", None))
        yield from (path for path in named if path and _looks_like_python(path))
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)):
        for name in ("python{}.{}".format(*sys.version_info), "python3", "python"):
            yield shutil.which(os.path.join(prefix, "bin", name)) or ""


def _looks_like_python(path: str) -> bool:
    return _INTERPRETER.fullmatch(os.path.basename(path)) is not None


def import_path() -> list[str]:
    """What this process imports from, with the folders of the user's own scripts last."""
    own = _own_folders()
    # Set for the children of this process only, a variable is for the shipper, too.
    for_children = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    known = [entry for entry in (*sys.path, *for_children) if isinstance(entry, str) and "\n" not in entry]
    entries = [_absolute(entry) for entry in known]
    entries = [entry for entry in dict.fromkeys(entries) if entry and os.path.exists(entry)]
    return sorted(entries, key=own.__contains__)  # a stable sort: otherwise their order stays


def _own_folders() -> set[str]:
    """The working folder, and the folder of the script that runs."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return {_absolute(""), os.path.dirname(_absolute(script)) if isinstance(script, str) else ""}


def _absolute(path: str) -> str:
    """``path`` as an absolute one. Empty where the working folder it is relative to was removed."""
    try:
        return os.path.abspath(path)
    except OSError:
        return ""


def leave_if_meant_to_ship() -> None:
    """End this process if it was started as a shipper: ``start()`` shows that it is something else."""
    if IMPORT_PATH not in os.environ:
        return
    text = f"{sys.executable} was to run the shipper and ran a training instead: it is not an interpreter\n"
    os.write(2, text.encode(errors="backslashreplace"))
    os._exit(EXIT_NOT_PYTHON)


def _reaches_the_shipper(name: str) -> bool:
    return not name.startswith("PYTHON") or name in _KEPT


def working_folder(trainers: str, tracking_uri: str) -> str:
    """Where a shipper runs: in the trainer's folder, else in the database's, else in the root.

    MLflow keeps the files of a new experiment in ``./mlruns`` and records that path in the database for good.
    So the folder matters even if everything else has an absolute path. MLflow fails in a folder that was
    removed, and in one whose name is not UTF-8.
    """
    file = database_file(tracking_uri)
    for folder in (trainers, os.path.dirname(file) if file else ""):
        if _is_usable(folder):
            return folder
    return os.sep


def _is_usable(folder: str) -> bool:
    """It is there, may be entered (a program may have given up its rights since), and has a name of UTF-8."""
    return os.path.isdir(folder) and os.access(folder, os.X_OK) and encodable(folder) == folder
