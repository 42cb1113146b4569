"""The runs of a sweep: many short ones, one after the other or several at once.

Invariants:

* The end of such a run does not wait for its delivery. The program's exit does, for all of them together.
* At most :data:`UNDELIVERED` of them are being delivered, because each has a process of its own. One more
  waits.
* What is said about a run that was refused, or is not ours to log, is one warning, and no exception.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus
from trackside.events import ParamsEvent
from trackside.integrations.warning import warn_once
from trackside.names import valid_name
from trackside.params import flatten_params
from trackside.session.start import start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from trackside.events import FinalStatus
    from trackside.session.options import StartOptions
    from trackside.session.run import Run

UNDELIVERED = 16
"""Runs of a sweep that may be in delivery at once."""

PATIENCE = 60.0
"""Seconds to wait for the oldest of them. A server that is away must not stop the sweep."""

_in_delivery: deque[Run] = deque()


def start_short_run(**options: Unpack[StartOptions]) -> Run | None:
    """Start a run on a bus of its own. None if it cannot be started, which is said once."""
    while len(_in_delivery) >= UNDELIVERED:
        _in_delivery.popleft().flush(PATIENCE)
    try:
        options.setdefault("bus", Bus("a run of a sweep"))
        return start(**options)
    except Exception as error:
        warn_once(f"a run of the sweep is not logged: {type(error).__name__}: {error}")
        return None


def end_short_run(
    run: Run,
    status: FinalStatus = "FINISHED",
    *,
    error: BaseException | None = None,
    reason: str | None = None,
) -> None:
    """End ``run`` as ``run.finish()`` does, without waiting for its delivery."""
    end = getattr(run, "_end", None)
    if end is None:  # a no-op run
        run.finish(status, error=error, reason=reason)
        return
    end(status, error=error, reason=reason, wait=False)
    _in_delivery.append(run)


def set_tags(run: Run, tags: Mapping[str, Any]) -> None:
    """Set tags of a run that has begun. Where nothing is logged, do nothing."""
    texts = {valid_name(str(key)): str(value) for key, value in tags.items() if value is not None}
    for sink in run.bus.sinks:
        keep = getattr(sink, "keep_tags", None)
        if keep is not None:
            keep(texts)


def log_params(run: Run, params: Mapping[str, Any]) -> None:
    """Log params of a run that has begun, without a config.yaml."""
    if params:
        flat = flatten_params(dict(params), max_depth=None)
        run.emit(ParamsEvent({valid_name(name): value for name, value in flat.items()}))
