"""Everything trackside raises on purpose, and the one tree it hangs in.

::

    TracksideError
    ├── CoercionError (also TypeError)      a value has no meaning as one float
    ├── ConfigurationError (also ValueError) start() was given something it can't work with
    │   └── TrackingError                   the tracking server refused, for good
    ├── JournalError (also OSError)         the journal's directory can't be created or written
    ├── DeliveryError                       a destination refused or did not answer
    │   ├── RetryableError                  the same batch may be taken later
    │   │   ├── GoneError                   ... once what was removed is back
    │   │   └── UnauthorisedError           ... once somebody mends the credentials
    │   ├── UnprovenError                   what was acknowledged is not there
    │   └── RejectedError                   this batch will never be taken as it is
    │       └── RefusedError                ... nor will any other: the run is gone
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
    """A destination did not take a batch."""


class RetryableError(DeliveryError):
    """A passing fault (connection, 408, 429, 5xx, database locked): send the same batch again.

    ``retry_after`` is the server's own wish in seconds, where it named one.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GoneError(RetryableError):
    """What the destination delivers to was removed: retried, but never made again."""


class UnauthorisedError(RetryableError):
    """401 or 403: retried slowly, because only a person can mend it."""


class UnprovenError(DeliveryError):
    """A destination does not show what it has acknowledged: deliver again what was not proven yet."""


class RejectedError(DeliveryError):
    """A lasting refusal (400 and the like): bisect the batch down to the record that causes it."""


class RefusedError(RejectedError):
    """A lasting refusal of everything (the run was deleted): bisecting is of no use, somebody must act."""
