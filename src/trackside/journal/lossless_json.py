r"""JSON of texts that are not valid Unicode: file names that are not UTF-8, and what programs cut in half.

Python holds such text with lone surrogates. JSON can say them (``\udce9``), and :mod:`json` reads and writes
them. :mod:`msgspec` does neither, and is much faster. So it does everything else.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_SURROGATE = b"\\ud"
_T = TypeVar("_T")


def encode(value: Any) -> bytes:
    """``value`` as JSON. Raises what :func:`msgspec.json.encode` does, but for lone surrogates."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def decode(data: bytes, kind: type[_T]) -> _T:
    """``data`` as a ``kind``. Raises what :func:`msgspec.json.decode` does, but for lone surrogates."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        if _SURROGATE not in data.lower():
            raise
        try:
            plain = json.loads(data)
        except ValueError:
            raise error from None
        return msgspec.convert(plain, kind)
