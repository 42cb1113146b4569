"""Starting the command as ``exec`` would: same group, same terminal, same descriptors, same signals.

Only what Python itself has changed is put back: it ignores SIGPIPE and SIGXFSZ.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from trackside.parent_process.messages import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes, as those of shells, ``env`` and ``timeout``."""

_SHELL = "/bin/sh"
_CHANGED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]


class CommandError(Exception):
    """The command can't be started. ``code`` is what to exit with."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def start_command(command: Sequence[str], *, mask: Iterable[int]) -> int:
    """Start ``command`` with the signals in ``mask`` blocked, and return its process number.

    Raises :class:`CommandError`.
    """
    try:
        return _spawn(command[0], command, mask)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise _explained(command[0], error) from error
    try:  # a script without a first line that names its interpreter, as execvp(3) has it
        return _spawn(_SHELL, [_SHELL, find(command[0]) or command[0], *command[1:]], mask)
    except OSError as error:
        raise _explained(command[0], error) from error


def find(name: str) -> str | None:
    """The file that ``name`` stands for: a path, or the first on ``PATH``, executable or not."""
    places = [""] if "/" in name else os.get_exec_path()
    files = [path for place in places if os.path.isfile(path := os.path.join(place, name))]
    return next((path for path in files if os.access(path, os.X_OK)), next(iter(files), None))


def _spawn(program: str, command: Sequence[str], mask: Iterable[int]) -> int:
    return os.posix_spawnp(program, [*command], os.environ, setsigmask=mask, setsigdef=_CHANGED_BY_PYTHON)


def _explained(name: str, error: OSError) -> CommandError:
    file, shown = find(name), printable(name)
    if file is None and os.path.isdir(name):
        return CommandError(f"{shown} is a folder, and not a command", NOT_EXECUTABLE)
    if file is None:
        hint = f". Write `trackside run -- python {shown}`" if os.path.isfile(name) else ""
        return CommandError(f"{shown}: command not found{hint}", NOT_FOUND)
    if error.errno == errno.ENOENT:
        return CommandError(
            f"{printable(file)} can't be run: the interpreter that its first line names does not exist",
            NOT_EXECUTABLE,
        )
    advice = ""
    if not os.access(file, os.X_OK):
        advice = ". Make it executable, or name the program that runs it"
        if name.endswith(".py"):
            advice = f". Write `trackside run -- python {shown}`"
    return CommandError(f"{printable(file)} can't be run ({error.strerror}){advice}", NOT_EXECUTABLE)
