"""Turn anything numeric into a ``float``.

This runs in the training thread at every step, so the common types take a dictionary lookup and no
``isinstance``. torch and numpy are never imported. A value of theirs can only arrive once your program has
imported them, and then they are in ``sys.modules``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from trackside.coerce.large_means import ON_HOST, array_mean, masked_mean, pieces, tensor_mean
from trackside.coerce.means import element_count
from trackside.coerce.nested import nests
from trackside.errors import CoercionError

Reader = Callable[[Any], float]
"""Reads one value of a known type. Raises ``CoercionError``, or any other exception."""

# Classes made on the fly (mocks, namedtuples in functions) must not pile up in the caches.
_MAX_TYPES = 512

# What reads the common case of a type in one C call. It may raise or give another kind of number
# (Tensor.item does both). Such a value goes the long way, through _READERS.
QUICK: dict[type, Callable[[Any], Any]] = {int: float, bool: float}
_READERS: dict[type, Reader] = {}


def to_float(value: object) -> float:
    """Read ``value`` as one float.

    Takes Python and numpy numbers, torch tensors of any dtype, ``Decimal``, ``Fraction`` and anything with
    ``__float__``, ``__index__`` or ``__array__``. Arrays and tensors of several elements give their mean,
    computed in float64, also those of integers and booleans. A sparse tensor's implicit zeros count. A masked
    array's masked elements do not. Lists and tuples of numbers give their mean, too. NaN and infinities pass.

    A tensor on an accelerator is read with ``.item()``, which waits for the work queued there.

    Raises:
        CoercionError: text (even "1.5"), complex numbers, empty arrays, tensors without data (meta)
            or spread over several ranks (sharded DTensors), numbers beyond the range of a float,
            and anything else. The message names the type and the reason.
    """
    if type(value) is float:
        return value
    try:
        number = QUICK[type(value)](value)
        return number if type(number) is float else float(number)
    except Exception:
        # Not the common case of its type, or a type not met before.
        return read(value)


class NestedError(CoercionError):
    """A value holds several metrics. Nothing was dropped or counted."""


class OnDeviceError(Exception):
    """A value is on an accelerator, and is fetched later. Nothing was dropped or counted."""


tensor_type: type | None = None
"""``torch.Tensor``, once one was met."""

on_host_only = False
"""Whether this torch has no other place for a tensor."""


def read(value: object) -> float:
    """Read ``value`` with the reader of its type. Every failure is a ``CoercionError``."""
    cls = type(value)
    try:
        reader = _READERS.get(cls) or _learn(cls)
        return reader(value)
    except CoercionError:
        raise
    except Exception as error:
        raise CoercionError(failure(cls, error)) from error


def _learn(cls: type) -> Reader:
    """Choose the reader of a type met for the first time, and remember it."""
    if len(_READERS) >= _MAX_TYPES:
        _READERS.clear()
    reader = _READERS[cls] = _choose(cls)
    return reader


def _choose(cls: type) -> Reader:  # noqa: PLR0911 - one line a kind of value
    if issubclass(cls, (str, bytes, bytearray, memoryview)):
        return _refuser(cls, "is text, not a number")
    if nests(cls):
        return _refuse_nested
    if _is(cls, "torch", "Tensor"):
        return _choose_for_tensor(cls)
    if _is(cls, "numpy", "ndarray"):
        return _read_masked if hasattr(cls, "compressed") else _read_array
    if _is(cls, "numpy", "generic"):
        return _choose_for_numpy_scalar(cls)
    if issubclass(cls, complex):
        return _refuser(cls, "is complex. Log its real part or its absolute value")
    if _is(cls, "decimal", "Decimal"):
        return _read_checked
    return _choose_by_protocol(cls)


def _choose_by_protocol(cls: type) -> Reader:
    if hasattr(cls, "__array__") and "numpy" in sys.modules:
        return _read_array_like
    if hasattr(cls, "__float__") or hasattr(cls, "__index__"):
        return float
    if issubclass(cls, Sequence) and not hasattr(cls, "n_sequence_fields"):
        return _read_sequence
    return _refuser(cls, _why_not(cls))


def _why_not(cls: type) -> str:
    """Return why values of this type are not numbers, and where to log them instead."""
    if _is(cls, "PIL.Image", "Image"):
        return "is an image. Call run.activate(), then mlflow.log_image()"
    if _is(cls, "matplotlib.figure", "Figure"):
        return "is a figure. Call run.activate(), then mlflow.log_figure()"
    return "is not a number"


def _choose_for_tensor(cls: type) -> Reader:
    global tensor_type, on_host_only
    # By name, because the module of DTensor has moved between versions of torch.
    if any(base.__name__ == "DTensor" for base in cls.__mro__):
        return _read_dtensor
    torch = sys.modules["torch"]
    if cls is torch.Tensor or cls is torch.nn.Parameter:
        tensor_type, on_host_only = torch.Tensor, not _has_accelerators(torch)
        QUICK[cls] = torch.Tensor.item if on_host_only else _read_on_host
    return _read_tensor


def _has_accelerators(torch: Any) -> bool:
    """Whether this torch was built for one. Counting devices would start the driver, and break forks."""
    built_for = (getattr(torch.version, name, None) for name in ("cuda", "hip", "xpu"))
    return any(built_for) or torch.backends.mps.is_built()


def _read_on_host(tensor: Any) -> float:
    """Call ``.item()``, except on an accelerator, where it would wait for all queued work."""
    if not tensor.is_cpu:
        raise OnDeviceError
    return tensor.item()  # type: ignore[no-any-return]


def _choose_for_numpy_scalar(cls: type) -> Reader:
    numpy = sys.modules["numpy"]
    real = (numpy.floating, numpy.integer, numpy.bool_)
    # A timedelta64 counts as an integer, and a longdouble may be beyond a float.
    if not issubclass(cls, real) or issubclass(cls, (numpy.timedelta64, numpy.longdouble)):
        return lambda value: _read_array(numpy.asarray(value))
    QUICK[cls] = float
    return float


def _read_tensor(tensor: Any) -> float:
    """A ``torch.Tensor``: its only element, or its mean (float32 where there is no float64)."""
    if tensor.is_meta:
        raise CoercionError("torch.Tensor on the meta device holds no data")
    if tensor.dtype.is_complex:
        raise CoercionError(f"torch.Tensor of {tensor.dtype} is complex. Log .real or .abs()")
    count = tensor.numel()
    if count == 0:
        raise CoercionError("torch.Tensor is empty")
    torch = sys.modules["torch"]
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    tensor = tensor.detach()
    plain = None
    if tensor.is_nested:
        tensor = tensor.values()
    elif tensor.is_quantized:
        plain = torch.dequantize
    elif tensor.is_mkldnn:
        tensor = tensor.to_dense()
    elif tensor.layout is not torch.strided:  # sparse, and too large to be made dense
        return _read_sparse(torch, tensor, wide)
    return float(tensor_mean(torch, tensor, wide, plain=plain).item() if count > 1 else tensor.item())


def _read_sparse(torch: Any, tensor: Any, wide: Any) -> float:
    """The mean over all elements, most of which are implicit zeros."""
    # An element of a COO tensor may be stored as several values. Adding them up (coalesce()) would copy them.
    values = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()  # noqa: SLF001
    sums = (piece.sum(dtype=wide).item() for piece in pieces(values, ON_HOST))
    return math.fsum(sums) / int(tensor.numel())


def _read_dtensor(tensor: Any) -> float:
    """A ``DTensor``, from what this rank holds.

    ``full_tensor()`` would be a collective: it hangs when only rank 0 logs.
    """
    mesh = tensor.device_mesh
    if mesh.get_coordinate() is None:
        raise CoercionError("DTensor lives on a mesh that this rank is not part of")
    for dim, placement in enumerate(tensor.placements):
        if not placement.is_replicate() and mesh.size(dim) > 1:
            raise CoercionError(
                f"DTensor is spread over ranks ({placement}). Call .full_tensor() on every rank "
                "and log the result"
            )
    return to_float(tensor.to_local())


def _read_array_like(value: Any) -> float:
    """A jax array, a pandas series, or another array."""
    try:
        array = sys.modules["numpy"].asarray(value)
    except Exception as error:
        # cupy's __array__ only raises. Its __float__ works.
        if not hasattr(value, "__float__"):
            raise CoercionError(failure(type(value), error)) from error
        return float(value)
    return _read_array(array)


def _read_array(array: Any) -> float:
    numpy = sys.modules["numpy"]
    if array.size == 0:
        raise CoercionError("numpy array is empty or wholly masked")
    if array.dtype.kind == "O":
        total: float = sum(to_float(item) for item in array.flat)
        return total / int(array.size)
    if array.dtype.kind == "c":
        raise CoercionError(f"numpy {array.dtype} is complex. Log its real part or absolute value")
    # bfloat16 and float8 of ml_dtypes are of kind V as well, with a scalar type of their own.
    if array.dtype.kind in "mMSUT" or array.dtype.type is numpy.void:
        raise CoercionError(f"numpy {array.dtype} is not a number")
    if array.size == 1:
        return _read_checked(array.reshape(-1)[0])
    with numpy.errstate(all="ignore"):
        return array_mean(numpy, array)


def _read_masked(array: Any) -> float:
    """A ``numpy.ma`` array: masked elements do not count."""
    numpy = sys.modules["numpy"]
    if array.size <= ON_HOST or array.dtype.kind not in "biuf":
        return _read_array(array.compressed())
    with numpy.errstate(all="ignore"):
        mean = masked_mean(numpy, array)
    if mean is None:
        raise CoercionError("numpy array is empty or wholly masked")
    return mean


def _read_sequence(values: Any) -> float:
    """The mean of a list or tuple of numbers."""
    name = type_name(type(values))
    if len(values) == 0:
        raise CoercionError(f"{name} is empty")
    return math.fsum(_read_element(name, value) for value in values) / len(values)


def _read_element(name: str, value: Any) -> float:
    if not getattr(value, "is_cpu", True):  # reading one by one would wait for the accelerator
        raise CoercionError(f"{name} holds tensors on an accelerator. Log torch.stack() of them instead")
    if element_count(value) != 1 or isinstance(value, (Sequence, Mapping)):
        raise CoercionError(
            f"{name} holds {type_name(type(value))}, not single numbers. "
            "Log an array, or a dict with a name for each"
        )
    return to_float(value)


def _refuse_nested(value: object) -> NoReturn:
    raise NestedError(f"{type_name(type(value))} holds several metrics and is not one number")


def _read_checked(value: Any) -> float:
    """For types whose ``float()`` silently turns a number that is too large into an infinity."""
    number = float(value)
    if math.isinf(number) and value != number:
        raise CoercionError(f"{type_name(type(value))} is beyond the range of a float")
    return number


def _refuser(cls: type, reason: str) -> Reader:
    message = f"{type_name(cls)} {reason}"

    def refuse(_value: object) -> NoReturn:
        raise CoercionError(message)

    return refuse


def _is(cls: type, module: str, name: str) -> bool:
    """Whether ``cls`` derives from ``module.name``, without importing the module."""
    base = getattr(sys.modules.get(module), name, None)
    return isinstance(base, type) and issubclass(cls, base)


def failure(cls: type, error: Exception) -> str:
    """The message that a value of ``cls`` can't be read."""
    try:
        detail = str(error).strip().partition("\n")[0][:160]
    except Exception:
        detail = "<its __str__ raised>"
    return f"{type_name(cls)} cannot be read: {type(error).__name__}: {detail}"


def type_name(cls: type) -> str:
    """The name of a class as messages have it."""
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
