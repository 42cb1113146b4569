"""Does the process that writes a journal still live, and can this machine tell?"""

from __future__ import annotations

import socket

import psutil

from trackside.journal.meta import UNKNOWN_BOOT, Owner, boot_id, program_of, start_ticks, this_process
from trackside.journal.process_table import can_look_up, is_there

SILENCE = 300.0
"""Seconds without a sign of life after which a process elsewhere counts as gone; live shippers give one
every 30 s."""

_START_TOLERANCE = 0.1
"""Seconds; psutil's start times are multiples of the kernel's 10 ms tick."""


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
    except (psutil.Error, ValueError, OverflowError):  # gone; or no number that a process can have
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
