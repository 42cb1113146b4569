"""``watch()``: log the norms of a model's gradients and parameters while it trains.

Invariants:

* Nothing is put on the model or its tensors: no hook, no attribute. So it can be copied, pickled, compiled
  and exported as before. The hook is torch's own for all optimizers, and it holds the model weakly.
* Between measurements, a step of an optimizer costs a microsecond.
* Nothing here raises into the training. A watch that has failed says so once, and is gone.
"""

from __future__ import annotations

import logging
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus, default_bus
from trackside.events import MetricsSample, now_ms
from trackside.rank import get_rank
from trackside.redaction.redact import redact
from trackside.watching.groups import GroupBy, checked_groups
from trackside.watching.measurement import Measuring
from trackside.watching.members import Members
from trackside.watching.shards import find_flat_key
from trackside.watching.step_numbers import PATIENCE, OwnLog, StepNumbers

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("trackside.watching")

_watches: dict[int, Watch] = {}
"""The active watches, by their model's id."""

_logged: weakref.WeakKeyDictionary[Any, OwnLog] = weakref.WeakKeyDictionary()
"""The last log of a watch, by the sink that kept it, or else by the bus."""


def watch(
    model: Any,
    every_n_steps: int = 100,
    *,
    groups: GroupBy = "layers",
    gradients: bool = True,
    parameters: bool = True,
    prefix: str | None = None,
    step: Callable[[], int] | None = None,
    all_ranks: bool = False,
    bus: Bus | None = None,
) -> Watch:
    """Log the norms of the model's gradients and parameters, at every n-th step of its optimizer.

    The metrics are ``grad_norm/<group>`` and ``param_norm/<group>`` for each group of layers, and
    ``grad_norm/total`` and ``param_norm/total``. The first step is measured, and then every n-th. Measuring
    begins by itself, right after ``optimizer.step()``: the gradients are those that the optimizer has
    applied, unscaled, accumulated and clipped. For the norms before clipping, call :meth:`Watch.measure`
    there.

    ``groups``: ``"layers"`` (by the parameter's name up to its first number), ``"parameters"``, ``"total"``
    for the totals alone, or a function that gets a parameter's name and returns its group (None: the total
    alone).
    ``prefix``: goes before the names, for a second model (``"generator"``).
    ``step``: returns the step to log. By default it is found from the steps of your own logs.
    ``all_ranks``: sum up over the ranks, for a sharded model (FSDP, DTensor). Call ``watch`` on every rank
    then, and step on every rank. Otherwise rank 0 alone measures, without the others.
    ``bus``: where to log. Default: the bus of :func:`trackside.log`.

    Watching a model again replaces the earlier watch. Raises :class:`~trackside.errors.ConfigurationError` if
    an argument is not one of these, and ``TypeError`` if ``model`` is not a ``torch.nn.Module``.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        raise TypeError(f"watch() needs a torch.nn.Module, not {type(model).__name__}")
    if isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int) or every_n_steps < 1:
        raise ConfigurationError(f"every_n_steps must be a positive int, not {every_n_steps!r}")
    if not (gradients or parameters):
        raise ConfigurationError("watch() has nothing to measure: gradients and parameters are both False")
    kinds = [kind for kind, wanted in (("grad_norm", gradients), ("param_norm", parameters)) if wanted]
    members = Members(model, checked_groups(groups))
    measuring = Measuring(members, kinds, find_flat_key(model), all_ranks=all_ranks)
    unwatch(model)
    made = Watch(members, measuring, every_n_steps, prefix=prefix, step=step, bus=bus or default_bus)
    if all_ranks or get_rank() == 0:
        made._begin(model, all_ranks=all_ranks)  # noqa: SLF001 - not for users
    return made


def unwatch(model: Any = None) -> None:
    """End the watch of ``model``, or all of them. Without one, do nothing."""
    chosen = list(_watches.values()) if model is None else [_watches.get(id(model))]
    for found in chosen:
        if found is not None:
            found.remove()


class _Pending(NamedTuple):
    """A measurement that waits to learn its step."""

    at: int
    timestamp_ms: int
    values: dict[str, Any]


class Watch:
    """A model that is watched. :meth:`remove` ends it, and so does the end of the model."""

    def __init__(
        self,
        members: Members,
        measuring: Measuring,
        every: int,
        *,
        prefix: str | None,
        step: Callable[[], int] | None,
        bus: Bus,
    ) -> None:
        self._members = members
        self._measuring = measuring
        self._every = every
        self._prefix = prefix
        self._given_step = step
        self._bus = bus
        self._numbers = StepNumbers()
        self._source: Callable[[], Any] = lambda: None
        self._pending: list[_Pending] = []
        self._measured: dict[str, Any] | None = None
        self._optimizers = _Optimizers(members)
        self._handle: Any = None
        self._key = 0
        self._always = False

    @property
    def is_active(self) -> bool:
        """Whether the model is being watched here."""
        return self._handle is not None

    def measure(self) -> None:
        """Measure now, if the coming step of the optimizer is to be measured.

        Call it at every step, between ``backward()`` and the clipping of the gradients (with a
        ``GradScaler``, after ``scaler.unscale_(optimizer)``). What the optimizer then applies is not
        measured again.
        """
        try:
            if self.is_active and self._is_due(self._numbers.count + 1) and self._measured is None:
                self._measured = self._measure()
        except Exception as error:
            self._fail(error)

    def remove(self) -> None:
        """End the watch, and log what was measured. Can be called twice."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        handle.remove()
        if _watches.get(self._key) is self:
            del _watches[self._key]
        try:
            self._log_pending()
        except Exception as error:
            self._fail(error)

    def _begin(self, model: Any, *, all_ranks: bool) -> None:
        def after_step(optimizer: Any, _args: Any, _kwargs: Any) -> None:
            try:
                if self.is_active and self._optimizers.begins_step(optimizer):
                    self._step_taken()
            except Exception as error:
                self._fail(error)

        # torch.compile leaves a function with this mark as it is.
        after_step._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
        self._always = all_ranks
        self._handle = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(after_step)
        self._key = id(model)
        _watches[self._key] = self
        weakref.finalize(model, self.remove).atexit = False

    def _step_taken(self) -> None:
        """The optimizer has taken a step."""
        source, latest = self._last_logged()
        if source is not self._source():  # another run: it counts anew
            self._source, self._numbers = weakref.ref(source), StepNumbers()
            self._pending.clear()
        own = _logged.get(source)
        self._numbers.note_step(latest if own is None else own.users_step(latest))
        count = self._numbers.count
        if self._is_due(count):
            values = self._measured if self._measured is not None else self._measure()
            if values:
                self._pending.append(_Pending(count, now_ms(), values))
        self._measured = None
        if self._pending and (self._given_step or self._numbers.is_known or count > PATIENCE):
            self._log_pending()

    def _is_due(self, count: int) -> bool:
        return (count - 1) % self._every == 0

    def _measure(self) -> dict[str, Any]:
        torch = sys.modules["torch"]
        if not self._always and not self._bus.metrics.receivers:
            return {}
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            return {}
        return self._measuring.measure(torch)

    def _log_pending(self) -> None:
        pending, self._pending = self._pending, []
        for count, timestamp_ms, values in pending:
            step = int(self._given_step()) if self._given_step else self._numbers.number(count)
            source, latest = self._last_logged()
            own = _logged.get(source)
            _logged[source] = OwnLog(step, latest if own is None else own.users_step(latest))
            self._bus.emit(MetricsSample(step, None, values, self._prefix, timestamp_ms))

    def _last_logged(self) -> tuple[Any, int | None]:
        """The sink that keeps what is logged on the bus, and the step it kept last. Or the bus, and None."""
        for sink in self._bus.sinks:
            if hasattr(sink, "last_step"):
                return sink, sink.last_step
        return self._bus, None

    def _fail(self, error: Exception) -> None:
        logger.warning(
            "the model is not watched any more, because measuring it has failed: %s: %s",
            type(error).__name__,
            redact(str(error)),
        )
        self._pending.clear()
        self.remove()


class _Optimizers:
    """Which optimizers are the model's, and which of them begins a step.

    A model may have several, such as Muon beside AdamW. One of them leads: its steps are counted. Another one
    takes over if it updates the same parameters, or if it steps twice without the leader, because then the
    training has gone on without the first.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._verdicts: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        self._leader: Callable[[], Any] = lambda: None
        self._others: set[int] = set()

    def begins_step(self, optimizer: Any) -> bool:
        """Whether the step that ``optimizer`` has taken counts."""
        leader = self._leader()
        if leader is optimizer:
            self._others.clear()
            return True
        verdict = self._verdicts.get(optimizer)
        if verdict is None:
            verdict = self._verdicts[optimizer] = self._is_of_model(optimizer)
            replaces = verdict and (leader is None or bool(_parameters(leader) & _parameters(optimizer)))
        else:
            replaces = verdict and (leader is None or id(optimizer) in self._others)
        if replaces:
            self._leader = weakref.ref(optimizer)
            self._others.clear()
        elif verdict:
            self._others.add(id(optimizer))
        return replaces

    def _is_of_model(self, optimizer: Any) -> bool:
        if not self._members.have_any_of(_parameters(optimizer)):
            self._members.find()  # the parameters may have been replaced since
        return self._members.have_any_of(_parameters(optimizer))


def _parameters(optimizer: Any) -> set[int]:
    """The ids of what ``optimizer`` updates."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
