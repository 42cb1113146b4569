"""The process that writes a journal: its name, and whether it still lives.

On Linux it takes ``/proc`` to look up a process by its number, which some containers and jails do not have.
Others show the processes of another namespace in it, where the same number is another process. Then the start
time of a process can't be read, and all that is left is to ask the kernel whether the number is in use.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from typing import Annotated, TypeAlias

import msgspec
import psutil

from trackside.system.processes import is_there, start_ticks

UNKNOWN_BOOT = "unknown"

SILENCE = 300.0
"""Seconds without a sign of life after which a process elsewhere counts as gone. A live shipper gives one
every 30 s."""

_START_TOLERANCE = 0.1
"""Seconds: psutil's start times are multiples of the kernel's 10 ms tick."""

ProcessNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
"""What the system can be asked about. A file may say anything."""


class Owner(msgspec.Struct, frozen=True):
    """The training process, so named that a reused process number is not mistaken for it."""

    host: str
    pid: ProcessNumber
    started: float
    """Seconds since the epoch, as psutil's ``create_time`` has it."""
    boot_id: str
    """Differs between two boots, and between two process namespaces (containers) of one."""
    start_ticks: int | None = None
    """When the kernel says it was started (Linux), in ticks since the boot: ``started``, which is counted
    from the wall clock, moves when that is set. None on other systems, and in older journals."""
    program: str | None = None
    """Tells a program from the one that replaces it in the same process (:func:`program_of`)."""


def this_process() -> Owner:
    """The running process as an owner."""
    host, pid = socket.gethostname(), os.getpid()
    if not can_look_up():
        return Owner(host, pid, started=time.time(), boot_id=boot_id())
    return Owner(
        host,
        pid,
        started=psutil.Process().create_time(),
        boot_id=boot_id(),
        start_ticks=start_ticks(pid),
        program=program_of(pid),
    )


def program_of(pid: int) -> str | None:
    """Differs before and after ``exec``, which keeps a process's number and start. None if it can't be read.

    A digest of what the kernel hands to a program at its start (Linux): the addresses in it are drawn anew
    each time, and no running program changes them.
    """
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            told = file.read()
    except OSError:
        return None
    return hashlib.sha256(told).hexdigest()[:16] if told else None  # a zombie's is empty


def boot_id() -> str:
    """Names this boot of this machine and, on Linux, the namespace of process numbers.

    Begins with :data:`UNKNOWN_BOOT` where neither can be told.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        pass
    try:
        return str(int(psutil.boot_time()))
    except (OSError, RuntimeError):  # Linux without /proc
        return f"{UNKNOWN_BOOT} {socket.gethostname()}"


def is_local(owner: Owner) -> bool:
    """Whether ``owner`` can be looked up here: same machine, same boot, same process namespace."""
    return owner.boot_id == boot_id()


def has_ended(owner: Owner, *, silent_for: float) -> bool:
    """Whether ``owner`` is gone, also where it can't be looked up (another machine, another container).

    ``silent_for`` is how long, in seconds, its journal has shown no sign of life.
    """
    if is_local(owner):
        return not is_alive(owner)
    boots = {owner.boot_id.split()[0], boot_id().split()[0]}
    rebooted = owner.host == socket.gethostname() and len(boots) > 1 and UNKNOWN_BOOT not in boots
    return rebooted or silent_for > SILENCE


def is_alive(owner: Owner) -> bool:
    """Whether the process is there, is the one meant, and is no zombie."""
    if not is_local(owner):
        return False
    if not can_look_up():
        return is_there(owner.pid)
    try:
        process = psutil.Process(owner.pid)
        return _is_same(process, owner) and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):  # gone, or not a number that a process can have
        return False


def is_replaced(owner: Owner) -> bool:
    """Whether the process lives and runs another program by now: it called ``exec``."""
    if owner.program is None or not is_local(owner):
        return False
    program = program_of(owner.pid)
    return program is not None and program != owner.program and is_alive(owner)


def was_this_process(owner: Owner) -> bool:
    """Whether ``owner`` is this very process, before it called ``exec``: it will write nothing more."""
    return succeeds(this_process(), owner)


def succeeds(later: Owner, earlier: Owner) -> bool:
    """Whether ``later`` is the program that replaced ``earlier`` in the same process."""
    same = (later.boot_id, later.pid, later.start_ticks) == (
        earlier.boot_id,
        earlier.pid,
        earlier.start_ticks,
    )
    known = None not in {later.start_ticks, later.program, earlier.program}
    return same and known and later.program != earlier.program


def _is_same(process: psutil.Process, owner: Owner) -> bool:
    """Whether ``process``, which has the owner's number, is it, and no later one."""
    if owner.start_ticks is not None:
        return start_ticks(owner.pid) == owner.start_ticks
    return bool(abs(process.create_time() - owner.started) < _START_TOLERANCE)


def can_look_up() -> bool:
    """Whether the system's table of processes is there, and knows this process by its own number."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False
