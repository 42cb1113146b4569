"""Anything numeric to float."""

from __future__ import annotations

import array
import json
import logging
import math
import time
import types
import warnings
from collections import OrderedDict
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from tests.support.program import run_python
from trackside.coerce import floats, metrics
from trackside.coerce.floats import to_float
from trackside.coerce.metrics import to_float_metrics
from trackside.errors import CoercionError
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOAT_DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    *(
        getattr(torch, name)
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
        if hasattr(torch, name)
    ),
]
INT_DTYPES = [
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    *(getattr(torch, name) for name in ("uint16", "uint32", "uint64") if hasattr(torch, name)),
]


class Speed:
    """A user's number that knows only how to become a float."""

    def __float__(self) -> float:
        return 2.5


class Indexed:
    def __index__(self) -> int:
        return 7


class Angry:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class Level(IntEnum):
    HIGH = 3


class Key(str, Enum):
    LOSS = "loss"


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test meets every type, and every key, for the first time."""
    monkeypatch.setattr(floats, "QUICK", {int: float, bool: float})
    monkeypatch.setattr(floats, "_READERS", {})
    monkeypatch.setattr(metrics, "_dropped", Once())


def read_twice(value: object) -> float:
    """The reading of a type met before, which takes another way, after checking the first."""
    first, second = to_float(value), to_float(value)
    assert type(first) is type(second) is float
    assert first == second or (math.isnan(first) and math.isnan(second))
    return second


def reason(value: object) -> str:
    """Why ``value`` cannot be read, the same the second time."""
    with pytest.raises(CoercionError) as first:
        to_float(value)
    with pytest.raises(CoercionError) as second:
        to_float(value)
    assert str(first.value) == str(second.value)
    return str(first.value)


# Python's numbers


@given(st.floats())
def test_a_float_is_itself(number: float) -> None:
    """Every float, NaN and infinities too, comes back as it is."""
    assert to_float(number) is number


@given(st.integers(min_value=-(2**1023), max_value=2**1023))
def test_an_int_becomes_the_nearest_float(number: int) -> None:
    """Ints of any size that a float reaches are read."""
    assert to_float(number) == float(number)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (False, 0.0),
        (Level.HIGH, 3.0),
        (Decimal("1.5"), 1.5),
        (Decimal("Infinity"), math.inf),
        (Fraction(1, 4), 0.25),
        (Speed(), 2.5),
        (Indexed(), 7.0),
    ],
)
def test_other_python_numbers_are_read(value: object, expected: float) -> None:
    """Bools, int enums, decimals, fractions, and whatever has __float__ or __index__."""
    assert read_twice(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.5", "str is text"),
        (b"1", "bytes is text"),
        (bytearray(b"1"), "bytearray is text"),
        (Key.LOSS, "Key is text"),
        (None, "NoneType is not a number"),
        ([], "list is empty"),
        ([1.0, "2"], "list holds str, not single numbers"),
        ([1.0, None], "NoneType is not a number"),
        ([[1.0], [2.0]], "list holds list, not single numbers"),
        ((np.ones(2), np.ones(3)), "tuple holds numpy.ndarray, not single numbers"),
        ({"a": 1.0}, "dict holds several metrics and is not one number"),
        ({1.0}, "set is not a number"),
        (time.struct_time(range(9)), "time.struct_time is not a number"),
        (torch.max(torch.ones(2, 2), dim=0), "torch.return_types.max is not a number"),
        (PIL.Image.new("L", (8, 8)), "is an image. Call run.activate(), then mlflow.log_image()"),
        (Figure(), "is a figure. Call run.activate(), then mlflow.log_figure()"),
        (float, "type is not a number"),
        (object(), "object is not a number"),
        (1 + 0j, "complex is complex"),
        (10**400, "int cannot be read: OverflowError"),
        (Fraction(10**400), "fractions.Fraction cannot be read: OverflowError"),
        (Decimal("1e400"), "decimal.Decimal is beyond the range"),
        (Decimal("sNaN"), "decimal.Decimal cannot be read: ValueError"),
    ],
)
def test_what_is_no_float_is_refused_with_a_reason(value: object, expected: str) -> None:
    """The reason names the type and what is wrong with it."""
    assert expected in reason(value)


@pytest.mark.parametrize("error", [ValueError("boom"), RecursionError(), UnprintableError(), OSError()])
def test_an_error_of_the_users_own_float_is_wrapped(error: Exception) -> None:
    """Whatever __float__ raises, the caller sees one kind of error, chained to the cause."""
    with pytest.raises(CoercionError, match=f"Angry cannot be read: {type(error).__name__}") as hit:
        to_float(Angry(error))
    assert hit.value.__cause__ is error


def test_ctrl_c_inside_a_users_float_goes_through() -> None:
    """Only errors are wrapped. An interrupt is for the program."""
    with pytest.raises(KeyboardInterrupt):
        to_float(Angry(KeyboardInterrupt()))


def test_float_that_returns_something_else_is_refused() -> None:
    """A __float__ that returns text does not put text among the metrics."""

    class Liar:
        def __float__(self) -> float:
            return "1.0"  # type: ignore[return-value]

    assert "TypeError" in reason(Liar())


def test_a_thousand_types_made_on_the_fly_do_not_pile_up() -> None:
    """The caches hold on to a bounded number of classes."""
    for _ in range(1000):
        to_float(type("Made", (Speed,), {})())
    assert len(floats._READERS) <= floats._MAX_TYPES


# numpy


@pytest.mark.parametrize(
    "dtype", [*"?bBhHiIlLqQefdg"], ids=lambda code: np.dtype(code).name if code else code
)
def test_numpy_scalars_and_arrays_of_every_real_dtype(dtype: str) -> None:
    """A scalar and a 0-d array give their number, an array its mean."""
    assert read_twice(np.dtype(dtype).type(1)) == 1.0
    assert read_twice(np.array(1, dtype=dtype)) == 1.0
    assert read_twice(np.array([[0, 1], [1, 0]], dtype=dtype)) == 0.5
    assert read_twice(np.array([[1]], dtype=dtype)) == 1.0


def test_half_precision_arrays_do_not_overflow() -> None:
    """60,000 is near the largest float16: the sum of two does not fit, the mean does."""
    assert read_twice(np.full(100, 60000, dtype=np.float16)) == 60000.0
    assert read_twice(np.full(100, 120, dtype=np.int8)) == 120.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([]), "empty"),
        (np.array(1j), "complex128 is complex"),
        (np.complex64(1), "complex64 is complex"),
        (np.complex128(1), "complex128 is complex"),
        (np.array(["1"]), "<U1 is not a number"),
        (np.str_("1"), "is text"),
        (np.datetime64("2026-01-01"), "datetime64[D] is not a number"),
        (np.timedelta64(3, "s"), "timedelta64[s] is not a number"),
        (np.zeros(2, dtype="V8"), "is not a number"),
        (np.zeros(2, dtype=[("a", float)]), "is not a number"),
        (np.ma.masked, "wholly masked"),
        (np.ma.array([1, 2], mask=True), "wholly masked"),
        (np.array([1, None]), "NoneType is not a number"),
    ],
    ids=str,
)
def test_numpy_values_that_are_no_number(value: object, expected: str) -> None:
    """Empty, complex, text, time, structured and masked ones are refused."""
    assert expected in reason(value)


def test_masked_elements_and_objects_in_arrays() -> None:
    """The mean is over what is not masked. Object arrays hold any numbers."""
    assert read_twice(np.ma.array([1.0, 3.0, 100.0], mask=[False, False, True])) == 2.0
    assert read_twice(np.array([Fraction(1, 2), 1], dtype=object)) == 0.75
    assert read_twice(np.array(Decimal("0.5"), dtype=object)) == 0.5


def test_numpy_nan_infinity_and_overflow() -> None:
    """NaN and infinities pass without a warning. A longdouble beyond a float does not."""
    assert math.isnan(read_twice(np.array([1.0, math.nan])))
    assert math.isnan(read_twice(np.array([math.inf, -math.inf])))
    assert read_twice(np.float32("inf")) == math.inf
    assert read_twice(np.longdouble("inf")) == math.inf
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        assert "beyond the range" in reason(np.longdouble("1e400"))


def test_array_likes_of_other_libraries() -> None:
    """__array__ is read as an array. Where it only refuses, __float__ is."""

    class Series:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.array([1.0, 2.0])

    class Cupy(Speed):
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            raise TypeError("implicit conversion")

    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            raise TypeError("implicit conversion")

    assert read_twice(Series()) == 1.5
    assert read_twice(Cupy()) == 2.5
    assert "implicit conversion" in reason(Broken())


# torch


@pytest.mark.parametrize("dtype", [*FLOAT_DTYPES, *INT_DTYPES, torch.bool], ids=str)
def test_torch_tensors_of_every_real_dtype(dtype: torch.dtype) -> None:
    """A scalar gives its number, one element in any shape too, several their mean."""
    ones = torch.ones(2, 2).to(dtype)
    assert read_twice(ones[0, 0]) == 1.0
    assert read_twice(ones[:1, :1]) == 1.0
    assert read_twice(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(dtype)) == 0.5
    assert "empty" in reason(ones[:0])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.complex32], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf support:UserWarning")
def test_complex_tensors_are_refused(dtype: torch.dtype) -> None:
    """A complex number has no one float, even with a zero imaginary part."""
    assert f"{dtype} is complex" in reason(torch.zeros((), dtype=dtype))
    assert f"{dtype} is complex" in reason(torch.zeros(3, dtype=dtype))


def test_means_do_not_overflow() -> None:
    """Sums beyond float16, int8 and float32 have means within."""
    assert read_twice(torch.full((100,), 60000.0, dtype=torch.float16)) == 60000.0
    assert read_twice(torch.full((100,), 120, dtype=torch.int8)) == 120.0
    assert read_twice(torch.full((10,), 1e38)) == pytest.approx(1e38)


def test_a_tensor_that_requires_grad_is_read_without_a_warning() -> None:
    """float(tensor) warns. A loss is logged all the time."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_twice(torch.tensor(1.5, requires_grad=True)) == 1.5
        assert read_twice(torch.tensor([1.0, 2.0], requires_grad=True) * 2) == 3.0
        assert read_twice(torch.nn.Parameter(torch.tensor(0.5))) == 0.5
        assert read_twice(torch.nn.Parameter(torch.ones(3))) == 1.0


def test_a_tensor_subclass_is_read() -> None:
    """Classes derived from Tensor are tensors."""

    class Tracked(torch.Tensor):
        pass

    assert read_twice(torch.tensor([1.0, 2.0]).as_subclass(Tracked)) == 1.5
    assert read_twice(torch.tensor(1.0).as_subclass(Tracked)) == 1.0


def test_torch_nan_and_infinity_pass() -> None:
    """A diverged loss is what one most wants to see."""
    assert math.isnan(read_twice(torch.tensor(math.nan)))
    assert read_twice(torch.tensor(-math.inf)) == -math.inf
    assert math.isnan(read_twice(torch.tensor([math.nan, 1.0])))


def test_meta_tensors_hold_no_data() -> None:
    """A tensor on the meta device has a shape only."""
    assert "meta device holds no data" in reason(torch.zeros((), device="meta"))
    assert "meta device holds no data" in reason(torch.zeros(3, device="meta"))


def test_fake_tensors_are_refused() -> None:
    """What a compiler traces with has no value. Torch's own error becomes the reason."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(())
    assert "FakeTensor cannot be read" in reason(fake)


@pytest.mark.parametrize(
    "to_sparse", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc]
)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_the_zeros_of_a_sparse_tensor_count(
    to_sparse: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """The mean of a sparse tensor is that of the dense one."""
    assert read_twice(to_sparse(torch.eye(4))) == 0.25
    assert read_twice(to_sparse(torch.eye(4, dtype=torch.int32))) == 0.25


def test_single_element_sparse_and_opaque_tensors() -> None:
    """Layouts other than strided are read whatever their size."""
    assert read_twice(torch.tensor(2.0).to_sparse()) == 2.0
    assert read_twice(torch.tensor([2.0, 4.0]).to_mkldnn()) == 3.0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_tensors_give_what_they_stand_for() -> None:
    """The mean is of the numbers, not of their codes."""
    quantised = torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.1, 0, torch.quint8)
    assert read_twice(quantised) == pytest.approx(1.5)
    assert read_twice(quantised[0]) == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_give_the_mean_of_their_elements(layout: torch.layout) -> None:
    """Ragged sequences count each element once."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)], layout=layout)
    assert read_twice(nested) == pytest.approx(0.4)


def test_dtypes_that_torch_cannot_read_are_refused() -> None:
    """Bit-packed types have storage and no numbers."""
    assert "NotImplementedError" in reason(torch.zeros(2, dtype=torch.bits8))


# DTensor


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of one real gloo process."""
    store = torch._C._distributed_c10d.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("placement", [Replicate(), Shard(0)], ids=str)
def test_a_dtensor_that_this_rank_holds_whole_is_read(mesh: DeviceMesh, placement: Any) -> None:
    """Replicated, or sharded over one rank: the local tensor is the full one."""
    assert read_twice(distribute_tensor(torch.tensor([1.0, 3.0]), mesh, [placement])) == 2.0


def test_a_partial_dtensor_of_one_rank_is_read(mesh: DeviceMesh) -> None:
    """A gradient norm of a run on one rank is complete."""
    assert read_twice(DTensor.from_local(torch.tensor(2.0), mesh, [Partial()])) == 2.0


@pytest.mark.parametrize("placement", [Shard(0), Partial()], ids=str)
def test_a_dtensor_spread_over_ranks_is_refused_without_a_collective(
    mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch, placement: Any
) -> None:
    """Reading it would wait for ranks that do not log. The reason says what to do instead."""
    spread = DTensor.from_local(torch.ones(2), mesh, [placement])
    monkeypatch.setattr(DeviceMesh, "size", lambda _self, _dim=None: 2)
    assert "Call .full_tensor() on every rank" in reason(spread)


def test_a_dtensor_of_other_ranks_is_refused(mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank outside the mesh holds nothing of it."""
    elsewhere = distribute_tensor(torch.ones(2), mesh, [Replicate()])
    monkeypatch.setattr(DeviceMesh, "get_coordinate", lambda _self: None)
    assert "not part of" in reason(elsewhere)


# to_float_metrics


def test_metrics_of_every_kind_are_read_in_order() -> None:
    """Names and order stay. Every value is a plain float."""
    metrics = {
        "a": 1.0,
        "b": 2,
        "c": True,
        "d": torch.tensor(4),
        "e": torch.tensor([4.0, 6.0]),
        "f": np.float32(6),
        "g": Speed(),
    }
    for _ in range(2):
        result = to_float_metrics(metrics)
        assert result == {"a": 1, "b": 2, "c": 1, "d": 4, "e": 5, "f": 6, "g": 2.5}
        assert list(result) == list(metrics)
        assert {type(value) for value in result.values()} == {float}


@given(st.dictionaries(st.text(), st.floats(allow_nan=False) | st.integers(-100, 100)))
def test_plain_numbers_come_back_equal(metrics: dict[str, float]) -> None:
    """Nothing is dropped, renamed or changed, and the argument stays as it was."""
    before = dict(metrics)
    assert to_float_metrics(metrics) == metrics == before


def test_on_drop_is_told_key_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    """A caller that listens gets every drop, and the log none."""
    dropped: list[tuple[str, str]] = []
    metrics = {"timestamp": "2026-11-22", "loss": 0.5, "epoch": None}
    for _ in range(2):
        kept = to_float_metrics(metrics, on_drop=lambda key, why: dropped.append((key, why)))
        assert kept == {"loss": 0.5}
    assert dropped == 2 * [
        ("timestamp", "str is text, not a number"),
        ("epoch", "NoneType is not a number"),
    ]
    assert not caplog.records


def test_a_dropped_key_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line per key, not one per step."""
    for _ in range(100):
        to_float_metrics({"timestamp": "now", "name": "x"})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "'timestamp'" in messages[0]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_warnings_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Keys made anew at every step fill neither the log nor the memory."""
    for step in range(1050):
        to_float_metrics({f"text/{step}": "x"})
    assert len(caplog.records) == 1001
    assert "Further ones are not named" in caplog.records[-1].getMessage()
    assert len(metrics._dropped) == 1000


def test_keys_become_strings() -> None:
    """Ints and enums may name metrics. A str enum is called by its content."""
    result = to_float_metrics({1: 1.0, (2, 3): 2.0, Key.LOSS: 3.0, None: 4.0})
    assert result == {"1": 1.0, "(2, 3)": 2.0, "loss": 3.0, "None": 4.0}
    assert {type(key) for key in result} == {str}


def test_keys_that_become_the_same_string_lose_nothing_silently() -> None:
    """The key that is a string already keeps its name, wherever it stands."""
    dropped: list[str] = []
    result = to_float_metrics({1: 0.1, "1": 0.2}, on_drop=lambda _key, why: dropped.append(why))
    assert result == {"1": 0.2}
    assert dropped == ["another metric is called '1' too"]


def test_a_key_without_text_does_not_raise() -> None:
    """The metric is kept under a name that tells what happened."""

    class Key:
        def __str__(self) -> str:
            raise ValueError

    (name,) = to_float_metrics({Key(): 1.0})
    assert "its __str__ raised ValueError" in name


@pytest.mark.parametrize(
    "metrics",
    [OrderedDict(a=1), types.MappingProxyType({"a": 1}), type("Items", (dict,), {})(a=1)],
    ids=lambda metrics: type(metrics).__name__,
)
def test_any_mapping_will_do(metrics: Any) -> None:
    """Ordered dicts, proxies, subclasses, and whatever has items()."""
    assert to_float_metrics(metrics) == {"a": 1.0}


def test_an_object_with_items_will_do() -> None:
    """Containers of other libraries need not be registered as mappings."""

    class Container:
        def items(self) -> list[tuple[str, int]]:
            return [("a", 1)]

    assert to_float_metrics(Container()) == {"a": 1.0}  # type: ignore[arg-type]


@pytest.mark.parametrize("metrics", [0.5, None, ["loss"], "loss", dict])
def test_what_is_no_mapping_is_refused(metrics: Any) -> None:
    """The message shows what to pass instead."""
    with pytest.raises(CoercionError, match="metrics"):
        to_float_metrics(metrics)


# What importing costs


def test_importing_coerce_pulls_in_no_heavy_library() -> None:
    """A process that logs plain floats never pays for torch, numpy or mlflow."""
    code = (
        "import json, sys; import trackside.coerce as c; c.to_float_metrics({'a': 1, 'b': 'x'});"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = run_python("-c", code, check=True)
    loaded = set(json.loads(done.stdout))
    assert loaded.isdisjoint({"torch", "numpy", "mlflow", "omegaconf", "pydantic"})


def test_tensors_on_an_accelerator_are_left_to_whoever_fetches_them_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the host a tensor is read at once, whatever torch was built for. Nothing is dropped beside one."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(floats, "_has_accelerators", lambda _torch: True)
    monkeypatch.setattr(floats, "QUICK", {})
    monkeypatch.setattr(floats, "_READERS", {})
    here, elsewhere = torch.tensor(2.0), torch.empty((), device="meta")
    dropped: list[str] = []

    def on_drop(key: str, _reason: str) -> None:
        dropped.append(key)

    def elsewhere_only(value: object) -> bool:
        return value is elsewhere

    for _ in range(2):
        assert to_float(here) == 2.0
        assert to_float_metrics({"a": here, "b": torch.tensor([1.0, 2.0])}, on_drop, elsewhere_only) == {
            "a": 2.0,
            "b": 1.5,
        }
        with pytest.raises(floats.OnDeviceError):
            to_float_metrics({"note": "text", "a": here, "b": elsewhere}, on_drop, elsewhere_only)
    assert dropped == []
    assert to_float_metrics({"a": here, "b": elsewhere}, on_drop) == {"a": 2.0}
    assert dropped == ["b"]


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([0.5], 0.5),
        ((1, 2.0, True), 4 / 3),
        ([np.float32(1), torch.tensor(2.0), torch.tensor([6])], 3.0),
        (range(5), 2.0),
        (array.array("d", [1, 3]), 2.0),
    ],
)
def test_a_sequence_of_numbers_is_its_mean(values: object, mean: float) -> None:
    """As an array of the same numbers would be."""
    assert read_twice(values) == mean


def test_a_list_of_accelerator_tensors_is_not_waited_for() -> None:
    """Reading each would wait for all the work queued there. The reason says what to log instead."""
    elsewhere = types.SimpleNamespace(is_cpu=False)
    assert "Log torch.stack() of them instead" in reason([elsewhere])
