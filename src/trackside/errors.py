"""The tree of trackside's exceptions.

::

    TracksideError
    ├── CoercionError (also TypeError)      a value has no meaning as one float
    ├── ConfigurationError (also ValueError) an argument of start() is not usable
    │   └── TrackingError                   the tracking server permanently refused the run
    ├── JournalError (also OSError)         the journal's directory can't be created or written
    ├── DeliveryError                       a destination refused or did not answer
    │   ├── RetryableError                  the same batch may be accepted later
    │   │   ├── GoneError                   ... once what was removed is back
    │   │   └── UnauthorisedError           ... once you correct the credentials
    │   ├── UnprovenError                   acknowledged points are missing
    │   ├── RejectedError                   this batch is never accepted as it is
    │   └── DestinationFailedError          this destination has failed permanently
    └── RunActiveError (also RuntimeError)  a second start() on a bus that still has a run

``start()`` raises ``ConfigurationError``, ``JournalError`` and ``RunActiveError``. Delivery errors stay in
the shipper. ``log()`` and ``emit()`` raise none of these.
"""

from __future__ import annotations


class TracksideError(Exception):
    """Base class of trackside's exceptions."""


class CoercionError(TracksideError, TypeError):
    """A value cannot be read as one float. The message names its type and the reason."""


class ConfigurationError(TracksideError, ValueError):
    """An argument of ``start()``, or a variable, is not usable. The message says what to change."""


class TrackingError(ConfigurationError):
    """The tracking server refused the run, and another try would not help."""


class JournalError(TracksideError, OSError):
    """The journal cannot be created or written at all."""


class RunActiveError(TracksideError, RuntimeError):
    """This bus already has a run."""


class DeliveryError(TracksideError):
    """A destination did not accept a call."""


class RetryableError(DeliveryError):
    """A transient fault (connection, 408, 429, 5xx, database locked). The same batch is sent again.

    ``retry_after`` is the pause in seconds that the server asked for, if it did. ``waits``: nothing is at
    fault, and something else comes first.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, waits: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.waits = waits


class GoneError(RetryableError):
    """What the destination delivers to was removed. The call is retried, and nothing is created again."""


class UnauthorisedError(RetryableError):
    """401 or 403. The call is retried slowly, because only a person can correct the credentials."""


class UnprovenError(DeliveryError):
    """A destination does not show points that it acknowledged. They are delivered again."""


class RejectedError(DeliveryError):
    """The destination permanently rejects this batch (status 400, for example).

    The batch is bisected down to the record that causes it, and that record goes to the dead-letter file.
    ``write_postponed`` may say which artifact it is, ``place``, and where on this disk it is kept, ``file``.
    """

    def __init__(self, message: str = "", *, place: str = "", file: str | None = None) -> None:
        super().__init__(message)
        self.place = place
        self.file = file


class DestinationFailedError(DeliveryError):
    """The destination has failed permanently, because its run was deleted, for example. The worker ends."""


class ArtifactError(TracksideError, ValueError):
    """A file, picture, table or model cannot be kept as it was given. The text says what to do.

    It never reaches your training: the call is counted, and the reason is told once.
    """
