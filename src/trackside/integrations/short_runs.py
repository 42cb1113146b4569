"""The runs of a sweep: many short ones, one after the other or several at once.

They end by ``run.finish(wait=False)``, so the sweep does not wait for their delivery. The program's exit
does, for all of them together.

Invariant: what is said about a run that was refused, or is not ours to log, is one warning, and no exception.
"""

from __future__ import annotations

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

    from trackside.session.options import StartOptions
    from trackside.session.run import Run


def start_short_run(**options: Unpack[StartOptions]) -> Run | None:
    """Start a run on a bus of its own. None if it cannot be started, which is said once."""
    try:
        options.setdefault("bus", Bus("a run of a sweep"))
        return start(**options)
    except Exception as error:
        warn_once(f"a run of the sweep is not logged: {type(error).__name__}: {error}")
        return None


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
