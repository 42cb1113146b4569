"""Whether a file is open for writing somewhere.

The kernel grants a read lease only on a file that no process has open for writing, mapped files included. The
lease is given back at once. A writer that comes in between waits for that moment, and no signal ends this
process: the one the kernel sends says nothing unless a program asks for it.
"""

from __future__ import annotations

import errno
import fcntl
import signal
from typing import Final

_SET_LEASE: Final = getattr(fcntl, "F_SETLEASE", None)  # Linux only
_SET_SIGNAL: Final = getattr(fcntl, "F_SETSIG", None)


def has_writer(descriptor: int) -> bool | None:
    """Whether any process has the file of ``descriptor``, which is open for reading, open for writing.

    None where that can't be told: another user's file, some network file systems, not Linux.
    """
    if _SET_LEASE is None or _SET_SIGNAL is None:
        return None
    try:
        fcntl.fcntl(descriptor, _SET_SIGNAL, signal.SIGURG)
        fcntl.fcntl(descriptor, _SET_LEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, _SET_LEASE, fcntl.F_UNLCK)
    return False
