"""A sample's metrics to floats, in the training thread at every step.

Invariants:

* Every metric comes out as a float or is dropped with a reason. No metric overwrites another.
* Nothing is dropped or counted before it is certain that the sample is read here. One that is nested, or on
  an accelerator, is read another way and would be counted twice.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from trackside.coerce import floats as single
from trackside.coerce.means import element_count, note_mean
from trackside.coerce.nested import OnDrop, flatten_metrics, key_text
from trackside.errors import CoercionError
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("trackside.coerce")

_dropped = Once()


def to_float_metrics(
    metrics: Mapping[Any, object],
    on_drop: OnDrop | None = None,
    fetched_later: Callable[[object], bool] | None = None,
) -> dict[str, float]:
    """Read every value of ``metrics`` with :func:`to_float`, and drop those that cannot be read.

    Nested mappings, named tuples and dataclasses are flattened: ``{"eval": {"loss": 1}}`` gives
    ``eval/loss``. Keys that are not strings become ``str(key)``. For each dropped metric
    ``on_drop(key, reason)`` is called. Without it, each key is warned about once in this process. The first
    time that a name's value is the mean of several elements, an INFO record says so. ``fetched_later`` is
    asked about values without a quick reader, those on an accelerator among them.

    Raises:
        CoercionError: ``metrics`` is not a mapping.
        OnDeviceError: ``fetched_later`` is true for one of the values.
    """
    global _known_keys  # noqa: PLW0603 - a cache of one
    if type(metrics) is not dict:
        metrics = _mapping(metrics)
    # A copy in one piece, whoever fills the original at this moment. Most samples are floats under the names
    # of the sample before, and then nothing is stored a second time: storing was half the price.
    floats: dict[Any, Any] = metrics.copy()
    for value in floats.values():
        if type(value) is not float:
            try:
                _read_in_place(floats, on_drop, fetched_later)
            except single.NestedError:
                return _read_nested(metrics, on_drop, fetched_later)
            break
    keys = [*floats]  # a list: 40 % less than a tuple
    if keys != _known_keys:
        if not all(type(key) is str for key in keys):
            return _with_names(floats, metrics, on_drop)
        _known_keys = keys
    return floats


_known_keys: list[str] = []
"""The names of the last sample, which are text: comparing them again takes a tenth of looking at each."""


def _read_in_place(
    floats: dict[Any, Any], on_drop: OnDrop | None, fetched_later: Callable[[object], bool] | None
) -> None:
    """Replace each value of ``floats`` by its float, and take out those that have none."""
    quick, tensor, on_host = single.QUICK, single.tensor_type, single.on_host_only
    dropped = []
    for key, value in floats.items():
        # The body of to_float once more, and tensors by themselves: calls would double the price of a step.
        kind = type(value)
        if kind is not float:
            try:
                number = value.item() if kind is tensor and (on_host or value.is_cpu) else quick[kind](value)
                floats[key] = number if type(number) is float else float(number)
            except Exception:
                if fetched_later is not None and fetched_later(value):
                    raise single.OnDeviceError from None
                try:
                    floats[key] = single.read(value)
                    if element_count(value) > 1:
                        note_mean(key, value)
                except single.NestedError:
                    raise
                except CoercionError as error:
                    dropped.append((key, str(error)))
    for key, reason in dropped:
        del floats[key]
        _drop(key, reason, on_drop)


def _read_nested(
    metrics: Mapping[Any, object], on_drop: OnDrop | None, fetched_later: Callable[[object], bool] | None
) -> dict[str, float]:
    """Read nested metrics as flat ones. Nothing is reported as dropped before all of it is read."""
    clashes: list[tuple[str, str]] = []
    flat = flatten_metrics(metrics, lambda name, reason: clashes.append((name, reason)))
    floats = to_float_metrics(flat, on_drop, fetched_later)
    for name, reason in clashes:
        _drop(name, reason, on_drop)
    return floats


def flat_metrics(metrics: Mapping[Any, object], on_drop: OnDrop | None = None) -> Mapping[Any, object]:
    """``metrics`` without nested ones. See :func:`trackside.coerce.nested.flatten_metrics`."""
    return flatten_metrics(metrics, lambda name, reason: _drop(name, reason, on_drop))


def _with_names(
    floats: dict[Any, float], metrics: Mapping[Any, object], on_drop: OnDrop | None
) -> dict[str, float]:
    """``floats`` under ``str(key)``, where some keys are not text."""
    named: dict[str, float] = {}
    for key, number in floats.items():
        if type(key) is str:
            named[key] = number
        else:
            _store_renamed(named, metrics, key, number, on_drop)
    return named


def _mapping(metrics: object) -> dict[Any, object]:
    """A dict of ``metrics``, which may be anything with a mapping's ``items()``."""
    items = getattr(metrics, "items", None)
    try:
        if items is not None:
            return dict(items())
    except Exception as error:
        raise CoercionError(f"metrics: {single.failure(type(metrics), error)}") from error
    raise CoercionError(
        f"metrics must be a mapping of names to numbers, such as {{'loss': 0.1}}, "
        f"not {single.type_name(type(metrics))}"
    )


def _store_renamed(
    floats: dict[str, float],
    metrics: Mapping[Any, object],
    key: object,
    number: float,
    on_drop: OnDrop | None,
) -> None:
    """Store under ``str(key)``, unless another metric has that name: it must not be overwritten."""
    name = key_text(key)
    if name in floats or (name in metrics and not isinstance(key, str)):
        _drop(name, f"another metric is called {name!r} too", on_drop)
    else:
        floats[name] = number


def _drop(key: object, reason: str, on_drop: OnDrop | None) -> None:
    name = key_text(key)
    if on_drop is not None:
        on_drop(name, reason)
    elif _dropped.is_first(name):
        extra = {"trackside_metric": name}
        logger.warning("metric %r is dropped: %s (logged once per name)", name, reason, extra=extra)
        if _dropped.is_full:
            logger.warning("%d metrics were dropped. Further ones are not named", len(_dropped))
