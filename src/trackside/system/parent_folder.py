"""The folder of a ``trackside run``: what its processes tell each other in small files.

A trainer registers its journal before it starts its shipper, so the parent process knows which deliveries to
wait for. It also registers its fork server, which may start that shipper much later. When the parent collects
a dead trainer, it notes in the journal what the kernel says of the end. The shipper reads that note, also if
it begins after the parent has ended.

A process that uses trackside says so, and one that has an address of MLflow's of its own does, too. So the
parent can tell the user of runs that went past trackside.

Invariants:

* The note of an end is there before the dead process leaves the system's table of processes.
* Nothing here makes a folder that is missing: its ``trackside run`` has ended.
* Only the standard library is imported: the parent process is small.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple, ParamSpec

from trackside.system.processes import is_at_work, start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Concatenate

VARIABLE = "TRACKSIDE_PARENT_FOLDER"
"""Names the folder, for every process below ``trackside run``."""

_FOLDER = "trackside-run-"
_JOURNAL = "journal-"
_SERVER = "server-"
_DIRECT = "direct-"
_IN_USE = "in_use"

END_NOTE = "wait_status"
"""The file in a journal that says how its writer ended."""


_P = ParamSpec("_P")


class RegisteredJournal(NamedTuple):
    """A journal, and the process that writes it."""

    journal: str
    pid: int
    started: int | None
    """The process's start in kernel ticks, where the system tells it."""
    folder: str


def make_parent_folder(places: list[str]) -> str | None:
    """Make this process's folder in the first of ``places`` that takes it. None if none does."""
    name = f"{_FOLDER}{os.getpid()}-{os.urandom(6).hex()}"
    for place in places:
        path = os.path.join(os.path.abspath(place), name)
        with contextlib.suppress(OSError, ValueError):
            os.mkdir(path, 0o700)
            return path
    return None


def remove_parent_folder(folder: str) -> None:
    """Remove the folder and those that a nested ``trackside run`` has left in it."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(place, name))
        with contextlib.suppress(OSError):
            os.rmdir(place)


def parent_pid(folder: str) -> int | None:
    """The process number of the ``trackside run`` that made ``folder``."""
    number = os.path.basename(folder).removeprefix(_FOLDER).partition("-")[0]
    return int(number) if number.isdecimal() else None


class DirectAddress(NamedTuple):
    """Where runs went past trackside."""

    address: str
    better: str
    """The address to write instead. Empty if the journal store can't stand before this one."""

    @property
    def explained(self) -> str:
        """The rest of a sentence about runs that go there."""
        advice = f"Remove it there, or write {self.better}" if self.better else "Remove it there"
        return (
            f"to {self.address} directly and not through trackside, because the program or a script around "
            f"it sets this address. {advice}"
        )


def tell_parent(note: Callable[Concatenate[str, _P], None], *what: _P.args, **more: _P.kwargs) -> None:
    """``note`` something in the folder of the ``trackside run`` that this process runs under, if any."""
    folder = os.environ.get(VARIABLE)
    if folder:
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is another user's
            note(folder, *what, **more)


def register_journal(folder: str, journal: str) -> None:
    """Tell the parent that this process writes ``journal``. Raises ``OSError``."""
    pid = os.getpid()
    name = f"{_JOURNAL}{pid}-{os.path.basename(journal)}"
    _write(os.path.join(folder, name), f"{start_ticks(pid) or ''}\n{journal}\n")


def registered_journals(folder: str, pid: int | None = None) -> list[RegisteredJournal]:
    """The journals that were registered in ``folder`` and below. ``pid``: only those of that process."""
    return [found for path in _named(folder, _JOURNAL, pid) if (found := _registered(path)) is not None]


def register_fork_server(folder: str, server: int) -> None:
    """Tell the parent that process ``server`` starts shippers for this one. Raises ``OSError``."""
    _write(os.path.join(folder, f"{_SERVER}{os.getpid()}-{server}"), str(start_ticks(server) or ""))


def has_fork_server(folder: str, pid: int) -> bool:
    """Whether a process that starts shippers for ``pid`` lives."""
    return any(_is_served_by(path) for path in _named(folder, _SERVER, pid))


def _is_served_by(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            started = file.read()
        server = int(os.path.basename(path).rpartition("-")[2])
    except (OSError, ValueError):  # gone, or being written
        return False
    return is_at_work(server, int(started) if started.isdecimal() else None)


def note_use(folder: str) -> None:
    """Tell the parent that a process below it uses trackside. Raises ``OSError``."""
    path = os.path.join(folder, _IN_USE)
    if not os.path.exists(path):
        _write(path, "")


def is_in_use(folder: str) -> bool:
    """Whether a process below uses trackside, or has its own ``trackside run``."""
    return os.path.exists(os.path.join(folder, _IN_USE))


def note_direct(folder: str, direct: DirectAddress) -> None:
    """Tell the parent that a program logs to an address of its own. Raises ``OSError``."""
    pid = os.getpid()
    name = f"{_DIRECT}{pid}-{len(list(_named(folder, _DIRECT, pid)))}"
    _write(os.path.join(folder, name), f"{direct.address}\n{direct.better}\n")


def direct_addresses(folder: str) -> list[DirectAddress]:
    """The addresses that programs have logged to past trackside, each once."""
    found: dict[DirectAddress, None] = {}
    for path in _named(folder, _DIRECT, None):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
            address, better, _ = file.read().split("\n")
            found[DirectAddress(address, better)] = None
    return list(found)


def note_end(folder: str, pid: int, *, exit_code: int | None, killed_by: int | None) -> None:
    """Note in its journals how ``pid`` ended, which is dead and not waited for yet. Raises ``OSError``."""
    started = start_ticks(pid)
    words = (started, exit_code, killed_by)
    text = " ".join("-" if word is None else str(word) for word in words)
    for one in registered_journals(folder, pid):
        with contextlib.suppress(FileNotFoundError):  # delivered
            _write(os.path.join(one.journal, END_NOTE), text)


def parse_end(text: str, started: int | None) -> tuple[int | None, int | None]:
    """The exit code and the signal in a note. Two times None if it is of another process, or no note."""
    words = text.split()
    if len(words) != 3 or not all(word == "-" or word.isdecimal() for word in words):  # noqa: PLR2004 - as noted
        return None, None
    noted, exit_code, killed_by = (None if word == "-" else int(word) for word in words)
    if started is not None and noted is not None and started != noted:
        return None, None
    return exit_code, killed_by


def _named(folder: str, prefix: str, pid: int | None) -> Iterator[str]:
    wanted = prefix if pid is None else f"{prefix}{pid}-"
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in sorted(names) if name.startswith(wanted))


def _registered(path: str) -> RegisteredJournal | None:
    folder, name = os.path.split(path)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            started, journal, _ = file.read().split("\n")
        pid = int(name.removeprefix(_JOURNAL).partition("-")[0])
        return RegisteredJournal(journal, pid, int(started) if started else None, folder)
    except (OSError, ValueError):  # gone, or being written
        return None


def _write(path: str, text: str) -> None:
    # Not files.replacing(): its random names take hashlib and OpenSSL, for megabytes of memory.
    folder, name = os.path.split(path)
    fresh = os.path.join(folder, f".{name}.new-{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    descriptor = os.open(fresh, flags, 0o600)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
