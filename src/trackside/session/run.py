"""What ``start()`` returns, whatever the rank and the mode: the attributes and methods that you call.

:class:`~trackside.session.recording.RecordingRun` keeps what you log. On other ranks and in disabled mode
:class:`~trackside.session.noop.NoopRun` stands in for it, and in other processes
:class:`~trackside.session.handle.RunHandle` does.

Invariant: the three have the same attributes, with the same types and signatures. Code that holds a run never
asks which of them it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.artifact_calls import ArtifactCalls
from trackside.events import MetricsSample, checked_status
from trackside.journal.delivery_status import DeliveryStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from trackside.event_bus.bus import Bus
    from trackside.events import Event, FinalStatus, RunStatus
    from trackside.journal.directory import JournalDirectory
    from trackside.session.parent import Parent


class Files(NamedTuple):
    """Files, pictures, tables and models of a run, by what became of them. A folder is one of them."""

    delivered: int = 0
    """Every destination that takes files has them."""
    replaced: int = 0
    """Not delivered, because a newer one of the same place came (``policy="latest"`` or ``"end"``)."""
    rejected: int = 0
    """Rejected for good by a destination, and kept, with the reason in the dead-letter file."""
    waiting: int = 0
    bytes_waiting: int = 0
    not_kept: int = 0
    """Never kept: a missing file, an image of a strange shape, no room."""


class _Points(NamedTuple):
    shipped: int = 0
    """Acknowledged by every destination."""
    rejected: int = 0
    """Rejected for good by a destination, and kept in the dead-letter file."""
    dropped: int = 0
    """Never kept: the journal had no room, or the value is not a number."""


class Counts(_Points):
    """How many points (name, value, step, time) of a run reached their destinations, and how many did not.

    ``shipped, rejected, dropped = run.counts`` gives the points. ``run.counts.files`` has the files.
    """

    files: Files

    def __new__(
        cls, shipped: int = 0, rejected: int = 0, dropped: int = 0, files: Files | None = None
    ) -> Self:
        """Of files there are none by default."""
        made = super().__new__(cls, shipped, rejected, dropped)
        made.files = files or Files()
        return made

    def __repr__(self) -> str:
        """The files are left out where there were none."""
        points = ", ".join(f"{name}={value}" for name, value in self._asdict().items())
        return f"Counts({points})" if self.files == Files() else f"Counts({points}, files={self.files})"


def status_with(error: BaseException | None, status: FinalStatus) -> FinalStatus:
    """``status``, checked. FINISHED becomes FAILED because of ``error``, unless it is a clean exit.

    Raises ``ValueError`` for an unknown status.
    """
    wanted = checked_status(status)
    if error is None or (isinstance(error, SystemExit) and error.code in {None, 0}):
        return wanted
    return "FAILED" if wanted == "FINISHED" else wanted


class Run(ArtifactCalls, ABC):
    """A run. :func:`trackside.start` makes it.

    The run ends with the program, or when you say so::

        with trackside.start("digits") as run:  # finishes it at the end of the block
            run.log({"loss": 0.5}, step=0)
        print(run.run_id, run.status, run.counts)

    ``run_id`` and ``url`` say where the run is in MLflow. ``status`` and ``counts`` say how it stands, and
    ``delivery`` whether MLflow has opened it.
    ``log()`` and ``emit()`` do what ``trackside.log()`` and ``trackside.emit()`` do on the default bus.
    ``flush()`` waits until everything logged is delivered, and ``finish()`` ends the run. ``activate()``
    makes it MLflow's active run, for ``mlflow.log_artifact`` and ``autolog``.

    On other ranks and in disabled mode every attribute and method is there, and nothing is logged.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._closed = False
        self._told = False

    # What you read

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id. None without an answer.

        While the run is not open, this waits for it: up to 15 s (``TRACKSIDE_START_TIMEOUT``) in all, and
        never again. If MLflow has refused the run, it raises the :class:`TrackingError` that
        ``start(wait=True)`` would have raised.
        """
        return None

    @property
    def url(self) -> str:
        """The page with the run's curves in MLflow's UI. Waits for the run's id, as :attr:`run_id` does.

        For a local store it is the page that ``mlflow ui`` serves. Without an id, it is the UI's front page.
        On other ranks and in disabled mode it is empty.
        """
        return ""

    @property
    @abstractmethod
    def status(self) -> RunStatus:
        """The run's status, as far as this process knows: RUNNING, FINISHED, FAILED or KILLED."""

    @property
    def delivery(self) -> DeliveryStatus:
        """Whether MLflow has opened the run, and what delivery fails with. Waits for nothing."""
        return DeliveryStatus("disabled")

    @property
    def tracking_uri(self) -> str:
        """The MLflow address in use, without credentials. Empty where nothing is logged."""
        return ""

    @property
    def counts(self) -> Counts:
        """Points by what became of them, up to now or up to the moment :meth:`finish` returned."""
        return Counts()

    @property
    def dropped(self) -> int:
        """Points that could not be kept: the journal had no room, or the value is not a number."""
        return 0

    @property
    def is_recording(self) -> bool:
        """Whether what you log now is kept. False after the end, on other ranks and in disabled mode."""
        return False

    @property
    def called_exit(self) -> bool:
        """Whether the program has called ``sys.exit``, so that the exit code says how the run ends."""
        return False

    @property
    def journal(self) -> JournalDirectory | None:
        """Where points wait for their delivery. None where nothing is logged."""
        return None

    @property
    @abstractmethod
    def link(self) -> Parent:
        """What ``start(parent=run)`` needs to nest a run under this one."""

    @property
    def bus(self) -> Bus:
        """The bus this run listens to."""
        return self._bus

    # What you call

    def log(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        epoch: float | None = None,
        prefix: str | None = None,
    ) -> None:
        """Log the metrics of one step into this run, as :func:`trackside.log` does on the default bus.

        After the end of the run one warning says that what you log is not kept. Never raises an
        ``Exception``.
        """
        quick_log = None if self._closed else self._bus.quick_log
        if quick_log is None or not quick_log(metrics, step, epoch, prefix):
            self.emit(MetricsSample(step, epoch, metrics, prefix, time_ns() // 1_000_000))

    def emit(self, event: Event) -> None:
        """Send an event on this run's bus, as :func:`trackside.emit` does on the default bus.

        After the end of the run one warning says that the event is not kept. Never raises an ``Exception``.
        """
        if not self._closed:
            self._bus.emit(event)
        elif not self._told:
            self._told = True
            self._warn_of_closed()

    def flush(self, timeout: float = 30.0) -> bool:  # noqa: ARG002 - nothing waits here
        """Wait until every destination has everything emitted so far, for up to ``timeout`` seconds.

        The shipper also reads the run back from the server, because an acknowledgement alone proves nothing.
        True when everything is there, and where nothing is logged. False when the time is up, in offline
        mode, and when a destination has failed permanently. After :meth:`finish` it returns what that found.
        """
        return True

    @abstractmethod
    def finish(
        self,
        status: FinalStatus = "FINISHED",
        *,
        error: BaseException | None = None,
        reason: str | None = None,
        wait: bool = True,
    ) -> None:
        """End the run as ``status`` (FINISHED, FAILED or KILLED) and wait for delivery. Idempotent.

        FINISHED never hides a crash or a terminate signal that came before. The wait takes up to 30 s
        (``TRACKSIDE_EXIT_TIMEOUT``), and the shipper works on after it. Raises ``ValueError`` for an unknown
        status. Without ``wait``, the exit of the process waits for all such runs together, and :meth:`flush`
        for this one.

        If an exception is in flight (you call this in a ``finally``), the run shows FINISHED for now. If the
        exception is handled, FINISHED becomes final. If it ends the program, the run becomes FAILED. With
        FAILED or KILLED, the run keeps the exception's type, message and traceback. Ctrl-C is always KILLED.

        ``error``: an exception that you were handed and that is not in flight here, as a framework's
        callbacks are. The run ends as if the exception had left its ``with`` block. ``reason``: why the run
        ended, in a few words, for its page. An exception or a signal that ended it comes before that.
        """

    @abstractmethod
    def activate(self) -> Run:
        """Make this run MLflow's fluent active run here too: ``mlflow.log_artifact``, ``autolog``.

        The owner still sets the status. Waits for the run's id, as :attr:`run_id` does. Raises
        :class:`TrackingError` after the end, and if MLflow has refused the run. If the run can't be made
        active (offline, or no answer from the server), one warning says so, and what you log through
        ``mlflow.*`` is not kept. On other ranks and in disabled mode the same happens without a warning.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(error=None if kind is GeneratorExit else error)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        """Itself: frameworks copy objects that hold a run."""
        return self

    @abstractmethod
    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is a handle that knows the run's names."""

    @abstractmethod
    def _warn_of_closed(self) -> None:
        """Say once that this run no longer takes events."""
