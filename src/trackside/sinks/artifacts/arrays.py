"""numpy arrays, torch tensors and other arrays as one kind of array, in the training process.

numpy and torch are found in ``sys.modules`` and never imported: a value of theirs can only arrive once your
program has imported them. A tensor's memory is shared, not copied, where numpy knows its type.
"""

from __future__ import annotations

import sys
from typing import Any

from trackside.coerce.floats import type_name
from trackside.errors import ArtifactError

_NUMBERS = "biuf"


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")
    tensor = getattr(torch, "Tensor", None)
    return isinstance(tensor, type) and isinstance(value, tensor)


def is_array(value: Any) -> bool:
    """Whether ``value`` is a torch tensor, a numpy array or has the interface of one."""
    return is_tensor(value) or (hasattr(value, "__array__") and not isinstance(value, type))


def numbers_of(value: Any, call: str) -> Any:
    """``value`` as a numpy array of bools, ints or floats on the host.

    float16 and narrower floats become float32. ``call`` names the call in messages. Raises
    :class:`ArtifactError` for whatever holds no numbers.
    """
    numpy = sys.modules.get("numpy")
    if is_tensor(value):
        value = _of_tensor(value, call)
    if numpy is None:
        raise ArtifactError(f"{call}() needs numpy for {type_name(type(value))}. Install it")
    array = _plain(numpy, numpy.asarray(value) if not isinstance(value, numpy.ndarray) else value)
    if array.dtype.kind not in _NUMBERS:
        array = _narrow(numpy, array, call)
    elif array.dtype.itemsize == 2 and array.dtype.kind == "f":  # noqa: PLR2004 - float16
        array = array.astype(numpy.float32)
    if array.size == 0:
        raise ArtifactError(f"{call}() got an empty array, of shape {tuple(array.shape)}")
    return array


def _plain(numpy: Any, array: Any) -> Any:
    """Without a subclass of its own rules. What is masked is 0."""
    if hasattr(array, "filled"):
        array = array.filled(0)
    return array.view(numpy.ndarray) if type(array) is not numpy.ndarray else array


def _narrow(numpy: Any, array: Any, call: str) -> Any:
    """bfloat16 and float8 of ml_dtypes as float32. Raises :class:`ArtifactError` for anything else."""
    if array.dtype.kind == "c":
        raise ArtifactError(f"{call}() got complex numbers. Pass their real part or absolute value")
    if array.dtype.kind == "V" and array.dtype.type is not numpy.void:
        return array.astype(numpy.float32)
    advice = "Stack its elements, which have one shape each" if array.dtype.kind == "O" else "Pass numbers"
    raise ArtifactError(f"{call}() got an array of {array.dtype}, which holds no numbers. {advice}")


def _of_tensor(tensor: Any, call: str) -> Any:
    """``tensor`` as a numpy array. Of accelerators that torch has no events for, this waits."""
    torch = sys.modules["torch"]
    if any(base.__name__ == "DTensor" for base in type(tensor).__mro__):
        raise ArtifactError(
            f"{call}() got a DTensor, spread over ranks. Pass tensor.full_tensor(), called on all of them"
        )
    if tensor.is_meta or tensor.is_nested:
        kind = "on the meta device, without data" if tensor.is_meta else "that is nested"
        raise ArtifactError(f"{call}() got a tensor {kind}. Pass a dense one")
    if tensor.dtype.is_complex:
        raise ArtifactError(f"{call}() got complex numbers. Pass tensor.real or tensor.abs()")
    if tensor.device.type in {"cuda", "xpu", "mps"}:  # others were fetched beforehand
        raise ArtifactError(
            f"{call}() got a tensor on {tensor.device} that can't be copied without waiting for it. "
            "Pass tensor.to_dense().cpu()"
        )
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype.is_floating_point and tensor.dtype not in {torch.float32, torch.float64}:
        tensor = tensor.to(torch.float32)
    tensor = tensor.cpu().resolve_neg()
    try:
        return tensor.numpy()
    except RuntimeError as error:
        raise ArtifactError(f"{call}() needs numpy for tensors, and torch finds none: {error}") from error
