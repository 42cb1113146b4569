"""What a fuzzer puts in the place of a journal's files: valid contents, changed by little or by much."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
from hypothesis import strategies as st

from trackside.journal.format import frame_header, frame_size
from trackside.journal.layouts import UNSEALED

DEEP = "@deep@"
"""Stands for lists within lists, which ``json.dumps`` would not write."""

LONE = "@lone@"
"""Stands for half a surrogate pair."""

numbers = st.sampled_from([0, 1, -1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 2**63, 2**64 - 1])
texts = st.sampled_from(
    ["", ".", "..", "/", "../../x", "/dev/zero", "\0", "\x1b[2J", "FINISHED", "x" * 300, "y" * 70_000, LONE]
) | st.text(max_size=8)
leaves = (
    st.none()
    | st.booleans()
    | numbers
    | st.sampled_from([10**400, 1.5, -0.0, float("inf"), float("nan"), DEEP])
    | st.floats()
    | texts
)
odd_values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
packable: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def odd_json(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` JSON with some of its values replaced, or left out."""
    tree = json.loads(valid)
    for _ in range(draw(st.integers(1, 3))):
        tree = _change(draw, tree)
    text = json.dumps(tree)
    text = text.replace(f'"{DEEP}"', "[" * 3000 + "]" * 3000).replace(LONE, "\\ud800")
    return text.encode()


def _change(draw: st.DrawFn, tree: Any) -> Any:
    """Walk down ``tree`` and replace what is there."""
    inside = (
        list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    )
    if not inside or draw(st.integers(0, 9)) == 0:
        return draw(odd_values)
    key = draw(st.sampled_from(inside))
    if draw(st.integers(0, 9)) == 0:
        del tree[key]
    else:
        tree[key] = _change(draw, tree[key])
    return tree


@st.composite
def odd_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` with bytes flipped, cut, repeated, zeroed or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 64)))
        piece = draw(st.binary(max_size=16) | numbers.map(lambda n: struct.pack("<Q", n % (1 << 64))))
        how = draw(st.sampled_from(["put", "cut", "end", "repeat", "zero"]))
        if how == "put":
            data[at : at + len(piece)] = piece
        elif how == "cut":
            del data[at:to]
        elif how == "end":
            del data[at:]
        elif how == "repeat":
            data[at:at] = data[at:to] * draw(st.integers(1, 50))
        else:
            data[at:to] = bytes(to - at)
    return bytes(data)


@st.composite
def odd_records(draw: st.DrawFn, valid: bytes) -> bytes:
    """A segment whose frames are whole, with anything in them, behind or before the ``valid`` ones."""
    payloads = draw(st.lists(_payloads | _samples, min_size=1, max_size=4))
    frames = b"".join(_frame(draw, payload) for payload in payloads)
    return draw(st.sampled_from([frames + valid, valid.rstrip(b"\0") + b"\0" * 8 + frames, frames]))


def _frame(draw: st.DrawFn, payload: bytes) -> bytes:
    """A frame with the right checksum, or with the mark of one that is not sealed."""
    header = frame_header(payload)
    if draw(st.booleans()):
        header = header[:4] + UNSEALED.to_bytes(4, "little")
    return (header + payload).ljust(frame_size(len(payload)), b"\0")


_samples = st.builds(
    lambda number, rest: b"\xc1" + number.to_bytes(2, "little") + b"S" + rest,
    st.sampled_from([0, 1, 2, 3, 65_535]),
    st.binary(max_size=60) | st.integers(0, 12).map(lambda words: (words * 8 + 19) * b"\0" + b"\x01"),
)
_odd = packable | numbers
_payloads = (
    st.tuples(st.just("m"), numbers, numbers, numbers, _odd, _odd, st.dictionaries(st.text(), st.floats()))
    | st.tuples(st.just("m"), _odd, _odd, _odd, _odd, _odd, _odd)
    | st.tuples(st.just("l"), numbers, numbers, st.text(), st.text(), st.text(), _odd, _odd, _odd, _odd)
    | st.tuples(st.just("c"), numbers, numbers, st.dictionaries(st.text(), st.text()), packable)
    | st.tuples(st.just("n"), st.sampled_from([1, 2, 3]), _odd, _odd, st.lists(st.text(max_size=3)))
    | st.tuples(st.just("n"), st.sampled_from([0, 1, 2, 3]), st.none(), st.booleans(), st.lists(st.text()))
    | packable
).map(msgspec.msgpack.encode) | st.just(b"\x96\xa1m" + b"\x91" * 3000 + b"\x01")
