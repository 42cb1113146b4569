"""What a journal says about itself: ``meta.json`` by the trainer, ``state.json`` by the shipper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from trackside.events import FinalStatus
from trackside.journal.files import read_json
from trackside.journal.format import LifecycleRecord
from trackside.journal.owner import Owner, ProcessNumber
from trackside.journal.scoreboard import SignalSeen
from trackside.journal.version import FIRST_FORMAT
from trackside.transform import Transform

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

NAME = re.compile(r"[A-Za-z0-9-]{1,60}")
"""A destination's name, which is in the names of its files."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


Adopted: TypeAlias = Literal["", "made", "resumed", "joined"]
"""How a run of MLflow's own API came to have a journal, which is empty for a run of ``start()``.

``made``: this process has just created it, and the claim to it is on its page. ``resumed``: this process has
set it to RUNNING again, or was told to log into it. ``joined``: this process only adds to it.
"""


class Target(msgspec.Struct, frozen=True):
    """The MLflow run the journal is for. ``tracking_uri`` carries no credentials."""

    tracking_uri: str
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_name: str | None = None
    run_id: str | None = None
    required_run: bool = False
    """Whether a missing ``run_id`` is an error (the user named it) or means a new run (a run-id file
    did)."""
    artifact_location: str | None = None
    tags: dict[str, str] = {}
    parent_run_id: str | None = None
    parent_journal: str | None = None
    """The parent's journal, where its run's id was not known at the start."""
    checkpoint_dir: str | None = None
    """Directory of the checkpoint's ``mlflow_run_id`` file, kept up to date with the run's id."""
    resume: bool = True
    """Whether the run named by the run-id file is resumed."""
    resume_finished: bool = False
    """Whether it is resumed even if it is finished, or has another experiment or name."""
    adopted: Adopted = ""
    """Whether, and how, the run ``run_id`` came from MLflow's own API."""


class DestinationSpec(msgspec.Struct, frozen=True):
    """A destination beside the MLflow run: what it is, and its options, without secrets."""

    name: str
    """Names its cursor. No other destination of the journal has it."""
    kind: str
    """A short name, or ``package.module:Class``."""
    options: dict[str, Any] = {}
    transform: Transform | None = None

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for a name that would lead a path out of the journal."""
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a destination can't be named {self.name!r}")


class Meta(msgspec.Struct, frozen=True):
    """Everything the shipper, ``sync``, ``status`` and ``reap`` need to know of a run attempt."""

    journal_id: str
    owner: Owner
    target: Target
    rank: int
    working_directory: str
    started_ms: int
    mode: str = "online"
    schema: int = FIRST_FORMAT
    """The format of the journal (:mod:`trackside.journal.version`)."""
    cap: int = 4 << 30
    terminate_signals: tuple[int, ...] = ()
    job: str | None = None
    """The launcher's job this process is a rank of (:func:`trackside.session.launcher.job_key`)."""
    after: tuple[str, ...] = ()
    """Journals of earlier attempts with the same checkpoints and address, which are delivered before this
    one (:mod:`trackside.shipper.earlier`)."""
    destinations: tuple[DestinationSpec, ...] = ()
    mlflow: bool = True
    """Whether the MLflow run is a destination: not on other ranks."""
    mlflow_transform: Transform | None = None
    system_metrics: float | None = None
    """Seconds between two samples of the machine's load. None takes no samples."""
    beside: tuple[str, ...] = ()
    """Ids of the journals of this process's other runs that were live at the start."""
    store_path: str | None = None
    """The sqlite file, or else its folder, that was there at the start: gone, it is not made again."""
    folder: int | None = None
    """The number of the folder the journal was made in (:mod:`trackside.journal.trust`)."""
    start_waits: bool = False
    """Whether ``start()`` waits for the run, and raises what keeps it from being opened."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for names that would lead a path out of the journal, or be one twice."""
        names = self.destination_names
        if len({*names}) < len(names):
            raise ValueError("two destinations have one name")
        if not _ID.fullmatch(self.journal_id) or not _ID.fullmatch(self.job or "none"):
            raise ValueError("an id of the journal or of its job is not one")

    @property
    def destination_names(self) -> tuple[str, ...]:
        """All destinations. The run's own is the first."""
        return (*(["mlflow"] if self.mlflow else []), *(spec.name for spec in self.destinations))

    def label_of(self, name: str) -> str:
        """What messages call the destination ``name``."""
        return f"MLflow at {self.target.tracking_uri}" if name == "mlflow" else f"destination {name}"


class RunInfo(msgspec.Struct, frozen=True):
    """The run in MLflow, once it is made or found."""

    run_id: str
    experiment_id: str
    artifact_uri: str
    url: str | None
    """The page with its curves, or None in a journal written before every store had one."""
    resumed: bool = False
    created_ms: int = 0
    name: str = ""
    """MLflow's, which makes one up for a run that has none."""
    joined: bool = False
    """Whether another attempt owned it when this one came: then this one was a secondary writer at first."""
    last_step: int | None = None
    """The last step of a resumed run."""
    opening: str | None = None
    """What was done with a run that was there before, in words."""


class FileProgress(msgspec.Struct, frozen=True):
    """The file that goes to one destination now, if one does."""

    place: str = ""
    size: int = 0
    sent: int = 0
    """Bytes of it that went out."""
    error: str | None = None
    """What files fail with, while they are tried again."""


class WorkerState(msgspec.Struct, frozen=True):
    """How one destination is doing."""

    status: FinalStatus | None = None
    """The status it was told last."""
    finished: bool = False
    """Whether it has everything, and that status is final."""
    refused: str | None = None
    """Why it has failed permanently."""
    error: str | None = None
    """What it failed with, while it is tried again."""
    waits: bool = False
    """Whether ``error`` is no fault: something else is delivered first."""
    files: FileProgress = FileProgress()


class State(msgspec.Struct):
    """Where the shipper is.

    ``phase``: ``starting``, ``shipping``, ``retrying``, ``refused``, ``stopped``, ``artifacts`` (all is
    delivered but files, or params, that wait in the journal), ``done``.
    """

    pid: ProcessNumber
    phase: str = "starting"
    run: RunInfo | None = None
    error: str | None = None
    artifacts_error: str | None = None
    """Why artifacts wait in the journal, or None while the artifact store works."""
    status: FinalStatus | None = None
    """The status MLflow was told last."""
    ownership: str = ""
    """Whose run it is: ``held`` (this attempt sets the status), ``joined`` (another one did from the start),
    ``lost`` (a newer attempt has taken it over). Empty while that is not known."""
    notices: list[str] = []
    lifecycle: list[LifecycleRecord] = []
    """The lifecycle records read so far: the cursor may be past them when a shipper is
    restarted."""
    signals: list[SignalSeen] = []
    """Signals that came through the wakeup pipe."""
    workers: dict[str, WorkerState] = {}
    """Each destination, by its name."""
    updated_ms: int = 0


def read_meta(journal: JournalDirectory) -> Meta | None:
    """What ``journal`` says about itself, or None if it is gone, is damaged or is in a newer format."""
    return None if journal.why_newer() else read_json(journal.meta, Meta)
