"""Artifacts that were tried and are not delivered after all: the destination closes what it has begun.

MLflow shows a model whose upload was begun as pending, until it is told that nothing comes any more.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from trackside.errors import DestinationFailedError, RetryableError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.journal.format import ArtifactRecord
    from trackside.protocols import Destination

logger = logging.getLogger("trackside.shipper")


class GivenUpArtifacts:
    """Calls ``give_up_artifact`` of ``destination``, in the thread that calls ``write_artifact``.

    Only :meth:`add` may be called by other threads.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._left: deque[ArtifactRecord] = deque()

    @property
    def is_done(self) -> bool:
        """Whether the destination knows all of them."""
        return not self._left

    def add(self, record: ArtifactRecord) -> None:
        """A newer one has come in the place of ``record``."""
        self._left.append(record)

    def tell_next(self) -> str:
        """Tell the destination of one. Returns its place. Raises as :meth:`tell`."""
        record = self._left[0]
        self.tell(record)
        self._left.popleft()
        return record.place

    def tell(self, record: ArtifactRecord) -> None:
        """Tell the destination of ``record``. Raises :class:`RetryableError` if that has to be done again."""
        try:
            self._destination.give_up_artifact(record)
        except (RetryableError, DestinationFailedError):
            raise
        except Exception as error:
            what = f"what was begun of {redact(record.place)} stays as it is"
            logger.warning("%s: %s: %s", self._destination.name, what, redact(str(error)), exc_info=True)
