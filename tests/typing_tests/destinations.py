"""A destination of a user's own, and the records that it gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from trackside.destinations.context import DestinationContext
from trackside.errors import RetryableError
from trackside.events import RunEnd
from trackside.journal.format import ConfigRecord, MetricsRecord
from trackside.protocols import Destination


class Lines(Destination):
    """All that a destination needs."""

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        with open(self.context.path("lines.txt"), "a") as file:
            for record in batch:
                assert_type(record.step, int)
                assert_type(record.named_values(), dict[str, float])
                print(record.step, record.named_values(), file=file)


class Full(Destination):
    """With options, a state and an end."""

    batch_points = 500

    def __init__(self, context: DestinationContext, url: str, retries: int = 3) -> None:
        super().__init__(context)
        self.url, self.retries, self.sent = url, retries, 0

    def open(self) -> None:
        assert_type(self.context.journal, Path)
        assert_type(self.context.run_id, str | None)

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        if not self.url:
            raise RetryableError("no address")
        self.sent += len(batch)

    def write_config(self, record: ConfigRecord) -> None:
        assert_type(record.params, dict[str, str])

    def write_end(self, end: RunEnd) -> None:
        assert_type(end.final, bool)

    def state(self) -> dict[str, Any]:
        return {"sent": self.sent}

    def restore(self, state: dict[str, Any]) -> None:
        self.sent = int(state["sent"])


class Nothing(Destination):
    """One without the method that all must have."""


def make(context: DestinationContext) -> list[Destination]:
    Nothing(context)  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
    return [Lines(context), Full(context, "http://x")]
