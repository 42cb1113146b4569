"""Everything trackside raises on purpose, and the one tree it hangs in.

::

    TracksideError
    ├── CoercionError (also TypeError)      a value has no meaning as one float
    ├── ConfigurationError (also ValueError) start() was given something it can't work with
    │   └── TrackingError                   the tracking server refused, for good
    ├── JournalError (also OSError)         the journal's directory can't be created or written
    ├── DeliveryError                       a destination refused or did not answer
    │   ├── RetryableError                  the same batch may be accepted later
    │   │   ├── GoneError                   ... once what was removed is back
    │   │   └── UnauthorisedError           ... once you correct the credentials
    │   ├── UnprovenError                   acknowledged points are missing
    │   ├── RejectedError                   this batch is never accepted as it is
    │   └── DestinationFailedError          this destination accepts nothing any more
    └── RunActiveError (also RuntimeError)  a second start() on a bus that still has a run

Errors of the first three kinds and ``RunActiveError`` come out of ``start()`` only. Delivery errors
live and die in the shipper. Nothing in this tree is ever raised by ``log()`` or ``emit()``.
"""

from __future__ import annotations


class TracksideError(Exception):
    """Base of everything below."""


class CoercionError(TracksideError, TypeError):
    """A value cannot be read as one float; the message names its type and the reason."""


class ConfigurationError(TracksideError, ValueError):
    """``start()`` was given something it cannot work with; the message says what to change."""


class TrackingError(ConfigurationError):
    """The tracking server refused the run for a reason that trying again will not mend."""


class JournalError(TracksideError, OSError):
    """The journal cannot be created or written at all."""


class RunActiveError(TracksideError, RuntimeError):
    """A run is already being logged through this bus."""


class DeliveryError(TracksideError):
    """A destination did not accept a call."""


class RetryableError(DeliveryError):
    """A passing fault (connection, 408, 429, 5xx, database locked): send the same batch again.

    ``retry_after`` is the server's own wish in seconds, where it named one.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GoneError(RetryableError):
    """What the destination delivers to was removed. The call is retried, and nothing is created again."""


class UnauthorisedError(RetryableError):
    """401 or 403. The call is retried slowly, because only a person can correct the credentials."""


class UnprovenError(DeliveryError):
    """A destination does not show points it has acknowledged. They are delivered again."""


class RejectedError(DeliveryError):
    """A lasting refusal of this batch (400 and the like).

    The batch is bisected down to the record that causes it, and that record goes to the dead-letter file.
    """


class DestinationFailedError(DeliveryError):
    """A lasting refusal of everything, such as a run that was deleted. The delivery worker ends."""
