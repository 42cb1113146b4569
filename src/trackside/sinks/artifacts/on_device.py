"""Values on an accelerator: copied to the host without waiting, and kept once they have arrived.

The copy is queued on the stream that computes the values (:mod:`trackside.sinks.accelerator`). Until it has
arrived, at one of the next calls, the process's death loses the artifact, which is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trackside.artifact_events import AudioEvent, HistogramEvent, ImageEvent, VideoEvent
from trackside.sinks.artifacts.distributions import Sample, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import ArtifactEvent
    from trackside.sinks.artifacts.keeping import Keeping
    from trackside.sinks.fetching import Fetcher

_VALUES: dict[type[ArtifactEvent], str] = {
    AudioEvent: "audio",
    HistogramEvent: "values",
    ImageEvent: "image",
    VideoEvent: "video",
}
"""Which field may be on an accelerator."""


def fetch_values(
    event: Any,
    fetcher: Fetcher,
    keeping: Keeping,
    *,
    keep: Callable[[Any], object],
    lose: Callable[[str], None],
) -> bool:
    """Have ``keep`` called with ``event`` and its values on the host, later. False if they are here already.

    It has the step of now. ``lose`` is called with the reason if the values never arrive.
    """
    field = _VALUES.get(type(event))
    value = None if field is None else getattr(event, field)
    if field is None or not fetcher.takes(value):
        return False
    changes: dict[str, Any] = {}
    if event.key is not None:
        changes["step"] = keeping.step(event.step)
    sample = sample_of(value) if type(event) is HistogramEvent else None

    def deliver(array: Any) -> None:
        changes[field] = array if sample is None else Sample(array, sample.total)
        keep(msgspec.structs.replace(event, **changes))

    fetcher.fetch_array(value if sample is None else sample.numbers, deliver, lose)
    return True
