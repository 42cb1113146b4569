"""Shared mappings of files that keep no descriptor open.

:class:`mmap.mmap` keeps a copy of the descriptor and closes that number at its end, whatever it is by then
(from Python 3.13 on it can be told not to). So memory without a file is mapped, and the file over it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

_FIXED = 0x10
"""``MAP_FIXED`` of Linux (but on Alpha and PA-RISC) and macOS."""

_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_FAILED = ctypes.c_void_p(-1).value


def map_file(descriptor: int, size: int) -> mmap.mmap:
    """The first ``size`` bytes of a file, shared. The caller closes ``descriptor``. Raises ``OSError``."""
    place = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        # The exported view ends with the expression, or the mapping could not be closed.
        map_over(ctypes.addressof(ctypes.c_char.from_buffer(place)), size, descriptor)
    except BaseException:
        place.close()
        raise
    return place


def map_over(address: int, size: int, descriptor: int) -> None:
    """Map the file over what is at ``address``. If this raises ``OSError``, nothing may be mapped there."""
    _map(address, size, mmap.MAP_SHARED | _FIXED, descriptor)


def map_memory(size: int, address: int | None = None) -> int:
    """The address of ``size`` bytes of memory, in place of what is mapped at ``address`` if that is given.

    Raises ``OSError``.
    """
    fixed = 0 if address is None else _FIXED
    return _map(address, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed, -1)


def _map(address: int | None, size: int, flags: int, descriptor: int) -> int:
    found = _function()(address, size, _READ_WRITE, flags, descriptor, 0)
    if found in {None, _FAILED}:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(found)


def _function() -> Any:
    global _mmap  # noqa: PLW0603 - looked up once
    if _mmap is None:
        function = ctypes.CDLL(None, use_errno=True).mmap
        function.restype = ctypes.c_void_p
        function.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        )
        _mmap = function
    return _mmap


_mmap: Any = None
