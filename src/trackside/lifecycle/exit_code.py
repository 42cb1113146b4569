"""The exit code, noted by the C library after everything of Python is gone.

``raise SystemExit(3)`` reaches no hook of Python's: not ``sys.excepthook``, and ``atexit`` is not told the
code. glibc's ``on_exit`` is: it calls ``function(status, argument)``. Python code can't run by then, but
``putw(word, stream)`` of the same library has just that signature: registered with a stream on memory
(``fmemopen``) that is a mapping of the file, it stores the code there. A process that leaves by a signal or
by ``_exit`` stores nothing, and that, too, tells. No descriptor stays open for it, so a program that closes
all descriptors and opens files of its own never finds its exit code in one of them.

Where there is no ``on_exit`` (musl, macOS), or the file can't be mapped, nothing is noted, and the code is
known from ``sys.exit`` only.

A child that a C library forks inherits the registration and the mapping, and notes its own code when it
calls ``exit``. So the process maps a new file at its own exit (:meth:`ExitCodeNote.renew`), which no such
child has.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any, ClassVar

from trackside.journal.opening import MAX_WORD, open_own, read_file
from trackside.system.mapping import map_memory, map_over

if TYPE_CHECKING:
    from pathlib import Path


_WORD = 4
_SIZE = 64
"""Bytes of the file: a code for each time that it is noted."""

_UNWRITTEN = b"\xa5" * _WORD
"""What the file holds where no code was noted. No program leaves with this code."""

_UNMAPPABLE = {errno.ENODEV, errno.EINVAL, errno.EACCES, errno.ENOTSUP, errno.ENOMEM}
"""A file system without shared mappings."""

_UNBUFFERED = 2
"""glibc's ``_IONBF``."""


class ExitCodeNote:
    """Notes this process's exit code in a file. One object may serve several runs, one after another.

    The registration can't be taken back, so streams are kept and reused, on memory of no file meanwhile.
    """

    _spare: ClassVar[list[ExitCodeNote]] = []
    _all: ClassVar[list[ExitCodeNote]] = []

    def __init__(self, library: Any) -> None:
        self._address = map_memory(_SIZE)  # never given back: exit() stores there
        stream = library.fmemopen(self._address, _SIZE, b"wb")
        self._library, self._stream = library, stream
        self.works = bool(stream) and on_exit_putw(library, stream)
        self.path: str | None = None
        ExitCodeNote._all.append(self)

    @classmethod
    def write_to(cls, path: Path) -> ExitCodeNote | None:
        """Have the exit code written to ``path`` as a 32-bit integer. Returns None where the system can't."""
        library = load_library()
        if library is None:
            return None
        note = cls._spare.pop() if cls._spare else cls(library)
        if not note.works:
            return None
        try:
            note.point_at(os.fspath(path))
        except OSError as error:
            cls._spare.append(note)
            if error.errno in _UNMAPPABLE:
                return None
            raise
        note.path = os.fspath(path)
        return note

    def renew(self) -> None:
        """Called at the interpreter's exit: forget what children noted until now, and may note later."""
        if self.path is None:
            return
        fresh = f"{self.path}.new"
        with contextlib.suppress(OSError):  # no room: the file so far is the best there is
            # Not `replacing`: the C library keeps the new file open, and writes to it after this.
            self.point_at(fresh)
            os.replace(fresh, self.path)

    def note_before(self) -> None:
        """Note the code before what was registered until now is done, too."""
        on_exit_putw(self._library, self._stream)

    def stop(self) -> None:
        """Stop noting."""
        self.path = None
        with contextlib.suppress(OSError):  # no memory left: it keeps writing a file that is not read
            self.point_at_nothing()
            ExitCodeNote._spare.append(self)

    @classmethod
    def abandon_all(cls) -> None:
        """In a forked child, which inherits the registrations: note nothing."""
        for note in cls._all:
            note.point_at_nothing()

    def point_at(self, path: str) -> None:
        """Write the code to ``path``, a new file, from now on. Raises ``OSError``."""
        descriptor = open_own(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(descriptor, _UNWRITTEN * (_SIZE // _WORD))  # real blocks: a hole could raise SIGBUS
            map_over(self._address, _SIZE, descriptor)
        except OSError:
            self.point_at_nothing()
            raise
        finally:
            os.close(descriptor)

    def point_at_nothing(self) -> None:
        """Store the code where no process looks for it."""
        map_memory(_SIZE, self._address)


def read_exit_code(path: Path) -> int | None:
    """The exit code Python left with, as noted by the C library, or None if it did not get that far."""
    try:
        data = read_file(path, MAX_WORD)
    except OSError:
        return None
    words = {data[at : at + _WORD] for at in range(0, len(data) - _WORD + 1, _WORD)}
    # The stream puts a zero behind what it has written.
    words = {word for word in words if word[1:] != _UNWRITTEN[1:]}
    # Several that differ: a library's forked children left theirs, too. It is not known whose is whose.
    return int.from_bytes(words.pop(), "little", signed=True) & 0xFF if len(words) == 1 else None


def on_exit_putw(library: Any, stream: int) -> bool:
    """Write the exit code to a C stream at exit, before the functions registered so far run."""
    library.setvbuf(stream, None, _UNBUFFERED, 0)
    return bool(library.on_exit(_address(library.putw), stream) == 0)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def load_library() -> Any | None:
    """The C library, if it has what is needed here."""
    try:
        library = ctypes.CDLL(None)
        for name in ("on_exit", "putw", "fmemopen", "fdopen", "setvbuf", "mmap"):
            getattr(library, name)
    except (OSError, AttributeError, TypeError):
        return None
    library.fmemopen.restype = ctypes.c_void_p
    library.fmemopen.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    library.fdopen.restype = ctypes.c_void_p
    library.fdopen.argtypes = (ctypes.c_int, ctypes.c_char_p)
    library.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    library.on_exit.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    return library
