"""The mean of many elements takes little memory, and is the mean."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from trackside.coerce import large_means
from trackside.coerce.floats import to_float
from trackside.coerce.large_means import pieces, tensor_mean

PROGRAM = """
import json, resource
import numpy
import torch
from trackside.coerce.floats import to_float
from trackside.sinks.torch_devices import stacked

torch.set_num_threads(1)
ROOM = 64 << 20

def read(how, value):
    "Read value with no more than ROOM bytes to be had; what it gave, or how it failed."
    pages = int(open("/proc/self/statm").read().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    try:
        return float(how(value))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

def on_device(value):
    return stacked(torch, [value], torch.float64)

def values(count):
    half = torch.arange(count, dtype=torch.int32) % 2
    floats = half.float()
    places = torch.arange(count // 2)[None]
    return {
        "bool": half.bool(),
        "uint8": half.byte(),
        "int32": half,
        "bfloat16": half.bfloat16(),
        "float32": floats,
        "transposed": floats.view(-1, 100).t(),
        "expanded": torch.tensor([0.0, 1.0]).expand(count // 2, 2),
        "sparse": torch.sparse_coo_tensor(places, floats[: count // 2], check_invariants=False),
        "quantized": torch.quantize_per_tensor(floats, 1.0, 0, torch.quint8),
        "numpy bool": half.bool().numpy(),
        "numpy float32": floats.numpy(),
        "numpy broadcast": numpy.broadcast_to(numpy.array([0.0, 1.0], "f4"), (count // 2, 2)),
        "numpy masked": numpy.ma.array(floats.numpy(), mask=numpy.zeros(count, bool)),
    }

def play(count):
    given = values(count)
    seen = {name: read(to_float, value) for name, value in given.items()}
    seen |= {f"device {name}": read(on_device, given[name]) for name in ("bool", "float32", "expanded")}
    return seen

play(1000)  # whatever is loaded at the first use
print(json.dumps(play(12_000_000)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_large_value_is_read_in_little_memory() -> None:
    """Of every kind, where it is converted, repeated by a view, masked or sparse.

    There are 64 MiB for it. As float64, each of these values takes 96 MB.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, timeout=300, check=True
    )
    seen = json.loads(done.stdout)
    assert len(seen) == 16
    assert {name: what for name, what in seen.items() if what != 0.5} == {}


@given(shape=array_shapes(max_dims=4, max_side=6), limit=st.integers(1, 40), flip=st.booleans())
def test_pieces_hold_each_element_once(shape: tuple[int, ...], limit: int, flip: bool) -> None:
    """Whatever the shape, contiguous or not, in order, and none larger than the limit."""
    array = np.arange(math.prod(shape)).reshape(shape)
    array = array.T if flip else array
    found = list(pieces(array, limit))
    assert all(piece.size <= limit for piece in found)
    assert [item for piece in found for item in piece.flat] == list(array.flat)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("view", [lambda t: t, lambda t: t.t(), lambda t: t[None].expand(9, -1, -1)])
def test_the_mean_in_pieces_is_the_mean(dtype: Any, view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of the whole, converted."""
    monkeypatch.setattr(large_means, "ON_HOST", 7)
    values = view((torch.rand(12, 31) * 9).to(dtype))
    expected = values.to(torch.float64).mean().item()
    assert tensor_mean(torch, values, torch.float64).item() == pytest.approx(expected, rel=1e-12)


def test_masked_and_wholly_masked_arrays_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is masked does not count, and a mean of nothing is no number."""
    monkeypatch.setattr(large_means, "ON_HOST", 4)
    monkeypatch.setattr("trackside.coerce.floats.ON_HOST", 4)
    values = np.ma.array(np.arange(20.0), mask=np.arange(20) % 2 == 0)
    assert to_float(values) == 10.0
    with pytest.raises(Exception, match="wholly masked"):
        to_float(np.ma.array(np.arange(20.0), mask=np.ones(20, bool)))
