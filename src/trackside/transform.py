"""Which metrics a sink or destination gets, under which names, and how often. Pure: no clock, no disk.

A :class:`Transform` is what you declare for one sink or destination. A :class:`Transformer` applies it. The
training process and the shipper both use it, so it works on plain points: a step, a time, names and floats.

Invariants:

* Nothing vanishes: ``points fed == points given out + merged + points in open windows``, at any moment.
* The same points come out whether or not the transformer was stopped in between and made again from its
  :meth:`Transformer.state`.
* A point is never left out because it equals the one before.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import msgspec

from trackside.errors import ConfigurationError
from trackside.names import bare_prefix
from trackside.plugins import unknown_name

__all__ = ["Transform", "TransformOptions", "Transformed", "Transformer", "make_transform"]

Reduce = Literal["last", "mean", "min", "max"]
"""How a window's points become one."""

_MAX_CACHED = 10_000
"""Names whose treatment is remembered. Names made on the fly must not pile up."""


class Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which metrics are wanted, under which names, and how often. Names have their prefix: ``val/loss``.

    * ``include``, ``exclude``: globs (``*``, ``?``, ``[ab]``). Case matters. Without ``include``, all match.
    * ``rename``: maps whole names to new ones. ``prefix`` goes in front after that, with a slash.
    * ``every_n_steps``: one point of each metric for every n steps. ``every_seconds``: for every n seconds.
    * ``reduce``: how that point is made. It has the step and time of the last one.
    * ``ranks``: the ranks on which a sink is attached. None: rank 0.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    prefix: str | None = None
    every_n_steps: int | None = None
    every_seconds: float | None = None
    reduce: Reduce = "last"
    ranks: tuple[int, ...] | None = None

    @property
    def has_windows(self) -> bool:
        """Whether several points may become one."""
        return self.every_n_steps is not None or self.every_seconds is not None

    def wants_rank(self, rank: int) -> bool:
        """Whether the sink is attached on ``rank``."""
        return rank in (self.ranks if self.ranks is not None else (0,))

    def delivered_as(self, name: str) -> str | None:
        """Return the name under which ``name`` is delivered, or None if it is excluded."""
        if self.include and not _matches(name, self.include):
            return None
        if _matches(name, self.exclude):
            return None
        renamed = self.rename.get(name, name)
        prefix = bare_prefix(self.prefix)
        return f"{prefix}/{renamed}" if prefix else renamed


class TransformOptions(TypedDict, total=False):
    """A :class:`Transform` as a mapping, as you write it in a configuration."""

    include: str | Sequence[str]
    exclude: str | Sequence[str]
    rename: Mapping[str, str]
    prefix: str | None
    every_n_steps: int | None
    every_seconds: float | None
    reduce: Reduce
    ranks: Sequence[int] | None


class Transformed(NamedTuple):
    """Points of one step and time, as they are delivered."""

    step: int
    timestamp_ms: int
    metrics: dict[str, float]


def make_transform(given: TransformOptions | Mapping[str, Any] | Transform | None) -> Transform | None:
    """Check the options that a user gave, and make a :class:`Transform`. None stays None.

    Raises:
        ConfigurationError: an unknown key, a value of the wrong type or range, two windows at once,
            ``reduce`` without a window, or a ``rename`` that gives two metrics one name.
    """
    if given is None:
        return None
    if isinstance(given, Transform):
        given = msgspec.structs.asdict(given)
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"transform must be a mapping of options, not {type(given).__name__}")
    options = {str(key): _plain(value) for key, value in given.items()}
    for key in options:
        if key not in Transform.__struct_fields__:
            raise ConfigurationError(unknown_name("key of transform", key, Transform.__struct_fields__))
    for key in ("include", "exclude"):
        if isinstance(options.get(key), str):
            options[key] = (options[key],)
    reduce = options.get("reduce", "last")
    if reduce not in get_args(Reduce):
        raise ConfigurationError(unknown_name("value of transform's reduce", reduce, get_args(Reduce)))
    try:
        transform = msgspec.convert(options, Transform)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"transform: {error}") from error
    _check(transform)
    return transform


def _plain(value: Any) -> Any:
    """Return lists and mappings of any kind (OmegaConf has its own) as msgspec reads them."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(value)
    return value


def _check(transform: Transform) -> None:
    steps, seconds = transform.every_n_steps, transform.every_seconds
    if steps is not None and seconds is not None:
        raise ConfigurationError("transform: give every_n_steps or every_seconds, not both")
    if steps is not None and steps < 1:
        raise ConfigurationError(f"transform: every_n_steps must be 1 or more, not {steps}")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise ConfigurationError(f"transform: every_seconds must be a number above 0, not {seconds}")
    if transform.reduce != "last" and not transform.has_windows:
        raise ConfigurationError(
            f"transform: reduce={transform.reduce!r} needs every_n_steps or every_seconds to reduce over"
        )
    if transform.ranks is not None and (not transform.ranks or min(transform.ranks) < 0):
        raise ConfigurationError(f"transform: ranks must be numbers from 0, not {list(transform.ranks)}")
    _check_renaming(transform)


def _check_renaming(transform: Transform) -> None:
    origins: dict[str, str] = {}
    for old, new in transform.rename.items():
        if not new:
            raise ConfigurationError(f"transform: rename gives {old!r} an empty name")
        if new in origins:
            raise ConfigurationError(
                f"transform: rename gives {origins[new]!r} and {old!r} one name, {new!r}"
            )
        origins[new] = old


class _Window:
    """The points of one metric in one window, reduced as they come."""

    __slots__ = ("count", "number", "step", "timestamp_ms", "value")

    def __init__(self, number: int, step: int, timestamp_ms: int, value: float, count: int = 1) -> None:
        self.number = number
        self.step = step
        self.timestamp_ms = timestamp_ms
        self.value = value  # for a mean: their sum
        self.count = count


def _least(kept: float, value: float) -> float:
    return kept if math.isnan(kept) or kept <= value else value  # a NaN on either side stays


def _greatest(kept: float, value: float) -> float:
    return kept if math.isnan(kept) or kept >= value else value


_JOIN: dict[str, Callable[[float, float], float]] = {
    "last": lambda _kept, value: value,
    "mean": operator.add,
    "min": _least,
    "max": _greatest,
}


class Transformer:
    """Applies a :class:`Transform` to points, in the order they were logged.

    ``state`` is what :meth:`state` gave before a restart.
    """

    def __init__(self, transform: Transform, state: Mapping[str, Any] | None = None) -> None:
        self.transform = transform
        self.merged: int = 0
        """Points that were excluded, or became part of another one."""
        self._open: dict[str, _Window] = {}
        self._names: dict[str, str | None] = {}
        self._newest: int | None = None
        self._windowed = transform.has_windows
        self._length_ms = (transform.every_seconds or 0) * 1000
        if state:
            self._restore(state)

    def feed(self, step: int, timestamp_ms: int, metrics: Mapping[str, float]) -> list[Transformed]:
        """Take the points of one step, and return those that can be delivered now.

        ``metrics`` has delivered names. Without a window, the points come back as one :class:`Transformed`
        or none. They come back as two if a renamed metric meets another of the same name, so neither is
        lost. With a window, the points of the windows that these points have closed come back.
        """
        out = _Batch()
        number = self._number(step, timestamp_ms) if self._windowed else 0
        if self._length_ms:
            self._close_before(number, out)
        for name, value in metrics.items():
            final = self._final(name)
            if final is None:
                self.merged += 1
            elif self._windowed:
                self._feed_window(_Window(number, step, timestamp_ms, value), name, out)
            else:
                out.add(step, timestamp_ms, final, value)
        return out.transformed()

    def flush(self) -> list[Transformed]:
        """Close the open windows at the end, the earliest first."""
        out = _Batch()
        for name, window in sorted(self._open.items(), key=lambda item: item[1].timestamp_ms):
            self._give(name, window, out)
        self._open.clear()
        return out.transformed()

    def state(self) -> dict[str, Any]:
        """Return the open windows and the count as JSON. Numbers are text, so NaN survives."""
        windows = {
            name: [w.number, w.step, w.timestamp_ms, repr(w.value), w.count] for name, w in self._open.items()
        }
        return {"merged": self.merged, "newest": self._newest, "open": windows}

    def keeps(self, name: str) -> bool:
        """Whether the metric ``name`` is delivered at all."""
        return self._final(name) is not None

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.merged = state["merged"]
        self._newest = state["newest"]
        for name, (number, step, timestamp_ms, value, count) in state["open"].items():
            self._open[name] = _Window(number, step, timestamp_ms, float(value), count)

    def _final(self, name: str) -> str | None:
        try:
            return self._names[name]
        except KeyError:
            if len(self._names) >= _MAX_CACHED:
                self._names.clear()
            final = self._names[name] = self.transform.delivered_as(name)
            return final

    def _number(self, step: int, timestamp_ms: int) -> int:
        if self.transform.every_n_steps is not None:
            return step // self.transform.every_n_steps
        return int(timestamp_ms // self._length_ms)

    def _close_before(self, number: int, out: _Batch) -> None:
        """Deliver every window whose time has passed, so that an hourly metric does not wait for the next.

        Steps have no such order, because validation may count its own.
        """
        if self._newest is not None and number <= self._newest:
            return
        self._newest = number
        for name, window in list(self._open.items()):
            if window.number < number:
                self._give(name, window, out)
                del self._open[name]

    def _feed_window(self, new: _Window, name: str, out: _Batch) -> None:
        window = self._open.get(name)
        if window is not None and window.number == new.number:
            self._join(window, new)
            return
        if window is not None:
            self._give(name, window, out)
        self._open[name] = new

    def _give(self, name: str, window: _Window, out: _Batch) -> None:
        final = self._final(name)
        if final is not None:
            out.add(window.step, window.timestamp_ms, final, self._result(window))

    def _join(self, window: _Window, new: _Window) -> None:
        window.step, window.timestamp_ms = new.step, new.timestamp_ms
        window.value = _JOIN[self.transform.reduce](window.value, new.value)
        window.count += 1
        self.merged += 1

    def _result(self, window: _Window) -> float:
        return window.value / window.count if self.transform.reduce == "mean" else window.value


class _Batch:
    """Points that are ready, grouped by step and time."""

    __slots__ = ("_extra", "_groups")

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], dict[str, float]] = {}
        self._extra: list[Transformed] = []

    def add(self, step: int, timestamp_ms: int, name: str, value: float) -> None:
        group = self._groups.setdefault((step, timestamp_ms), {})
        if name in group:  # a renamed metric, and one that always had the name
            self._extra.append(Transformed(step, timestamp_ms, {name: value}))
        else:
            group[name] = value

    def transformed(self) -> list[Transformed]:
        return [Transformed(*moment, group) for moment, group in self._groups.items()] + self._extra


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
