"""Params and tags that a program logged by MLflow's own calls: delivered as MLflow's client would send them.

Nothing is renamed or cut for a limit of MLflow's. The store judges, as it does for a direct call: it cuts a
long value, or refuses it (``MLFLOW_TRUNCATE_LONG_VALUES``). What it refuses raises
:class:`~trackside.errors.RejectedError`, and the shipper finds the text at fault.

Invariants:

* A param that the run has is not sent again. With another value it would be refused, and all others of that
  request with it.
* What a server has acknowledged is looked up in the run, because a proxy may have answered in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.changed_params import some_of
from trackside.errors import RetryableError
from trackside.names import MAX_PARAM_VALUE_LENGTH, MAX_REQUEST_BYTES, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from trackside.destinations.mlflow.changed_params import ChangedParams
    from trackside.destinations.mlflow.connection import Connection
    from trackside.journal.format import ParamsRecord, TagsRecord

LONGEST_SENT = 50_000
"""Characters of a value. Every store cuts or refuses what is far shorter, and a request has a limit, too."""

_MOST_BYTES = MAX_REQUEST_BYTES // 6
"""Of texts in a request. JSON may take six bytes for one."""


class TextWriter:
    """Writes params and tags to the run of ``connection``."""

    def __init__(self, connection: Connection, changed: ChangedParams) -> None:
        self._connection = connection
        self._changed = changed
        self._is_server = is_server(connection.uri)

    def write_params(self, record: ParamsRecord) -> None:
        """Log the params that the run does not have. May be called again with the same ones."""
        known = self._connection.known_params()
        wanted = {key: value[:LONGEST_SENT] for key, value in record.texts.items()}
        new = {key: value for key, value in wanted.items() if key not in known}
        for request in requests_of(new):
            self._connection.log_params(request)
        self._look_up(new, self._connection.known_params)
        self._changed.note(
            {key: value for key, value in wanted.items() if not is_same(known.get(key, value), value)}
        )

    def write_tags(self, record: TagsRecord) -> None:
        """Set tags. May be called again with the same ones."""
        for request in requests_of({key: value[:LONGEST_SENT] for key, value in record.texts.items()}):
            self._connection.for_run(self._connection.client.log_tags, request)
        self._look_up(record.texts, lambda: self._connection.get_run().data.tags)

    def _look_up(self, sent: Iterable[str], read: Callable[[], Mapping[str, str]]) -> None:
        wanted = list(sent) if self._is_server else []
        shown = {key.casefold() for key in read()} if wanted else set()  # as some databases compare names
        missing = [key for key in wanted if key.casefold() not in shown]
        if missing:
            raise RetryableError(
                f"params or tags were logged, and the run does not show them: {some_of(missing)}"
            )


def requests_of(texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """``texts`` in order, as many at a time as a request takes. Pure."""
    return batches(texts, _bytes_of, _MOST_BYTES)


def _bytes_of(key: str, value: str) -> int:
    return len(key.encode()) + len(value.encode())


def is_same(stored: str, sent: str) -> bool:
    """Whether ``stored`` is what a store makes of ``sent``: all of it, or its beginning. Pure."""
    return stored == sent or (len(stored) >= MAX_PARAM_VALUE_LENGTH and sent.startswith(stored))
