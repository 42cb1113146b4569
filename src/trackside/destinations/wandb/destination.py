"""Weights & Biases, offline and online.

Each sample is a row of its own (``run.log``), numbered from 0 by W&B's ``_step``. W&B throws a row away
whose ``_step`` is below the last one's, and two samples of one training step are nothing rare. So the
training's step is the metric ``trainer/global_step``, which is made the x axis of all others.

Exactly once: ``run.log`` only hands the row to the process ``wandb-core``, which keeps up to 64 KiB of them
and loses these when it dies with the shipper (seen with 0.31: 65 of 300 rows). So a batch counts as
delivered when its last row is in the run's ``.wandb`` file. A restarted shipper begins another file for the
same W&B run, and logs the acknowledged rows of the old one again under their numbers. Online, it
leaves out those that the server says it has. Offline, the old file is then removed, because ``wandb sync``
would have one of two files of a run replace the other.

Not verified: anything online. There is no W&B server where this is tested.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from trackside.destinations.context import check_template, file_name
from trackside.destinations.files import open_failed, prepare_file
from trackside.destinations.wandb.artifacts import ArtifactWays
from trackside.destinations.wandb.kept_files import KeptFiles
from trackside.destinations.wandb.log import TransactionLog
from trackside.destinations.wandb.media import again
from trackside.destinations.wandb.rows import STEP, THEIRS, row_of, row_of_medium
from trackside.errors import (
    ConfigurationError,
    DeliveryError,
    DestinationFailedError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
)
from trackside.journal.files import read_json, write_atomically
from trackside.protocols import Destination
from trackside.redaction.redact import redact
from trackside.system.files import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.destinations.context import DestinationContext
    from trackside.events import RunEnd
    from trackside.journal.format import ArtifactRecord, ConfigRecord, MetricsRecord

logger = logging.getLogger("trackside.destinations")

Mode = Literal["online", "offline"]

EXIT_CODES = {"FINISHED": 0, "FAILED": 1, "KILLED": 255}
"""255 is what wandb itself gives a run that Ctrl-C ended (``wandb/sdk/lib/exit_hooks.py``)."""

FLUSH_SECONDS = 0.05
"""How often ``wandb-core`` writes its rows out. Its default of 15 s would hold up every batch."""

WRITE_TIMEOUT = 30.0
FINISH_TIMEOUT = 60.0
POLL = 0.01


class WandbDestination(Destination):
    """A run in W&B.

    ``project``: the experiment's name by default. ``entity``: your default one. ``run_name``: the run's
    name by default. ``mode``: ``online`` or ``offline``, by default as ``WANDB_MODE`` says. ``dir``: where
    W&B makes its directory ``wandb``. ``id``: the W&B run to create or resume, the journal's by
    default. ``tags``, ``notes``, ``group``, ``job_type``: as in ``wandb.init``.
    """

    def __init__(
        self,
        context: DestinationContext,
        *,
        project: str | None = None,
        entity: str | None = None,
        run_name: str | None = None,
        mode: Mode | None = None,
        dir: str | os.PathLike[str] = ".",  # noqa: A002 - wandb.init's name for it
        id: str | None = None,  # noqa: A002 - wandb.init's name for it
        tags: Sequence[str] = (),
        notes: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
    ) -> None:
        super().__init__(context)
        target = context.meta.target
        self._template = dir
        self._mode = mode
        self._init = {
            "project": project or file_name(target.experiment_name or "trackside").translate(_NOT_IN_PROJECT),
            "entity": entity,
            "name": redact(run_name or target.run_name or "") or None,
            "id": id or context.meta.journal_id,
            "tags": [redact(tag) for tag in tags] or None,
            "notes": None if notes is None else redact(notes),
            "group": group,
            "job_type": job_type,
        }
        self._logs: list[str] = []
        """The transaction logs that hold the acknowledged rows."""
        self._config_path = context.journal / f"{context.name}-config.json"
        self._rows = 0
        self._held = 0
        """Rows below this number are in W&B, whoever brought them there."""
        self._run: Any = None
        self._log: TransactionLog | None = None
        self._ways: ArtifactWays | None = None

    @staticmethod
    def check_options(**options: Any) -> None:
        """Raise :class:`ConfigurationError` for values that can't work."""
        check_template(options.get("dir", "."))
        mode, tags = options.get("mode"), options.get("tags", ())
        if mode is not None and mode not in get_args(Mode):
            raise ConfigurationError(f"mode={mode!r} is neither 'online' nor 'offline'")
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise ConfigurationError(f"tags={tags!r} is not a list of texts")

    def restore(self, state: dict[str, Any]) -> None:
        """Continue behind the rows that were acknowledged."""
        self._rows, self._logs = int(state["rows"]), list(state.get("logs", ()))

    def state(self) -> dict[str, Any]:
        """How many rows are acknowledged, and which files they are in."""
        return {"rows": self._rows, "logs": list(self._logs)}

    def open(self) -> None:
        """Create or resume the W&B run. May take W&B's 90 s when its server is out of reach."""
        # The training's own wandb-core, if it has one, dies with the training.
        os.environ.pop("WANDB_SERVICE", None)
        try:
            import wandb
        except ImportError as error:
            raise DestinationFailedError(
                f"W&B needs its package ({error}): pip install 'trackside[wandb]'"
            ) from error
        self._wandb: Any = wandb
        self._directory = self.context.path(self._template)
        # Tables wait here for `wandb sync`. By default it would be a folder in your home.
        os.environ.setdefault("WANDB_DATA_DIR", str(self._directory / "wandb"))
        probe = self._directory / f".trackside-{self._init['id']}"
        try:
            prepare_file(probe)  # wandb would quietly write to /tmp instead
            probe.unlink()
        except OSError as error:
            raise open_failed(self._directory, error) from error
        self._start()

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Log a row for each record, and wait until they are in the run's file."""
        self._start()
        try:
            self._log_rows([row_of(record) for record in batch])
        except Exception as error:
            self._abandon()
            raise self._translate(error) from error

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        """Log a picture or table in a row, keep a file with the run, or log a model.

        What W&B has no word for is left out: a dataset, and kinds of a later version.
        """
        self._start()
        assert self._ways is not None  # noqa: S101 - _start() has set it
        try:
            self._ways.write(record, content)
        except RejectedError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise open_failed(self._directory, error) from error
            self._abandon()
            raise self._translate(error) from error

    def write_config(self, record: ConfigRecord) -> None:
        """Update the run's config. Values that changed are replaced."""
        self._start()
        import msgspec

        config = {**self._known_config(), **record.document}
        write_atomically(self._config_path, msgspec.json.encode(config))
        self._call(self._run.config.update, record.document, allow_val_change=True)

    def write_end(self, end: RunEnd) -> None:
        """Finish the W&B run, once nothing more can come: 0 FINISHED, 1 FAILED, 255 KILLED.

        What is not uploaded within :data:`FINISH_TIMEOUT` stays on the disk, for ``wandb sync``.
        """
        if not end.final:
            return
        self._start()
        run, self._run = self._run, None
        try:
            run.finish(exit_code=EXIT_CODES[end.status])
        except TimeoutError:
            path = Path(run.settings.sync_file).parent
            self.context.notice(f"W&B has not taken all rows yet: run `wandb sync {path}` to bring the rest")
        except Exception as error:
            raise self._translate(error) from error
        self._wait_for_end()

    def close(self) -> None:
        """Leave a run that is not over in a state from which it can be resumed."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.mark_preempting()
                run.finish(exit_code=EXIT_CODES["KILLED"])
            except Exception:
                logger.exception("%s: the W&B run was not left in order", self.name)

    # Starting

    def _start(self) -> None:
        """Open a run, with all acknowledged rows in it."""
        if self._run is not None:
            return
        run = self._call(self._wandb.init, **self._init, **self._settings())
        new, old = Path(run.settings.sync_file), self._files()
        self._remember([*old, new])
        self._log = TransactionLog(new)
        self._held = int(run.starting_step) if run.resumed else 0
        self._run = run
        kept = KeptFiles(self._wandb, run, new.parent)
        self._ways = self._make_ways(kept)
        try:
            run.define_metric("*", step_metric=STEP)
            run.config.update(self._known_config(), allow_val_change=True)
            self._log_again(old)
            self._keep_again(kept, [path.parent for path in old if path != new])
        except Exception as error:
            self._abandon()
            raise self._translate(error) from error
        self._remember([new])
        for path in old:
            if path != new and path.parent.name.startswith("offline-run-"):
                shutil.rmtree(path.parent, ignore_errors=True)

    def _settings(self) -> dict[str, Any]:
        try:
            settings = self._wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                finish_timeout=FINISH_TIMEOUT,
                finish_timeout_raises=True,
                save_code=False,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
                x_transaction_log_flush_interval=FLUSH_SECONDS,
            )
        except ValueError as error:  # pydantic's: an older wandb does not know one of them
            raise DestinationFailedError(
                f"wandb {self._wandb.__version__} is too old for trackside: "
                "pip install --upgrade 'trackside[wandb]'"
            ) from error
        return {
            "dir": str(self._directory),
            "mode": self._mode,
            "resume": "allow",
            "reinit": "create_new",
            "settings": settings,
        }

    def _log_again(self, files: list[Path]) -> None:
        number = self._held
        for path in files:
            for row in TransactionLog(path).new_rows():
                if number <= row.number < self._rows:
                    values = {k: v for k, v in row.values.items() if k not in THEIRS}
                    folder = path.parent / "files"
                    self._put(row.number, {k: again(self._wandb, v, folder) for k, v in values.items()})
                    number = row.number + 1
        if number < self._rows:
            gone = self._rows - number
            reason = "because W&B's files were removed"
            self.context.notice(f"{self._directory}: {gone} rows are missing, {reason}")
        self._wait_for(number)

    def _make_ways(self, kept: KeptFiles) -> ArtifactWays:
        """How artifacts get to W&B. Each way returns when that is in the run's file."""
        log = self._log
        assert log is not None  # noqa: S101 - _start() has set it

        def row(record: ArtifactRecord, medium: Any) -> None:
            self._log_rows([row_of_medium(record, medium)])

        def save(place: str, source: Path) -> None:
            wanted = log.files + kept.save(place, source)
            self._wait_until(lambda: log.files >= wanted, place)

        def model(record: ArtifactRecord, source: Path) -> None:
            wanted = log.models + kept.log_model(record, source)
            self._wait_until(lambda: log.models >= wanted, record.place)

        return ArtifactWays(self._wandb, self.context, row=row, save=save, model=model)

    def _keep_again(self, kept: KeptFiles, folders: list[Path]) -> None:
        log = self._log
        assert log is not None  # noqa: S101 - _start() has set it
        files, models = log.files, log.models
        for folder in folders:
            told = kept.take_over(folder)
            files, models = files + told[0], models + told[1]
        self._wait_until(lambda: log.files >= files and log.models >= models, "the files of the run")

    def _files(self) -> list[Path]:
        """The transaction logs that the acknowledged rows are in. None elsewhere is read, nor removed."""
        own = os.path.realpath(self._directory)
        # Development versions kept the names in a note beside the cursor.
        note = self.context.journal / f"{self.name}-files.json"
        names = self._logs or read_json(note, list[str]) or ()
        return [Path(path) for path in names if os.path.realpath(path).startswith(f"{own}{os.sep}")]

    def _remember(self, files: list[Path]) -> None:
        self._logs = [str(path) for path in files]
        self.keep_state()

    def _known_config(self) -> dict[str, Any]:
        return read_json(self._config_path, dict[str, Any]) or {}

    # Going on

    def _put(self, number: int, values: dict[str, Any]) -> None:
        if number >= self._held:
            self._run.log(values, step=number, commit=True)

    def _log_rows(self, rows: list[dict[str, Any]]) -> None:
        """Log rows behind the last ones, and wait until they are in the run's file."""
        for number, row in enumerate(rows, self._rows):
            self._put(number, row)
        self._wait_for(self._rows + len(rows))
        self._rows += len(rows)

    def _wait_for(self, rows: int) -> None:
        """Wait until rows up to that number are in the file, and so survive ``wandb-core``."""
        self._wait_until(lambda: self._held >= rows, f"row {rows - 1}")

    def _wait_until(self, is_there: Callable[[], bool], what: str) -> None:
        """Read the run's file until ``is_there()``."""
        assert self._log is not None  # noqa: S101 - _start() came first
        deadline = time.monotonic() + WRITE_TIMEOUT
        while not is_there():
            for row in self._log.new_rows():
                self._held = max(self._held, row.number + 1)
                deadline = time.monotonic() + WRITE_TIMEOUT
            if not is_there():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"wandb-core has not written {what} in {WRITE_TIMEOUT:.0f} s")
                time.sleep(POLL)

    def _wait_for_end(self) -> None:
        """Wait until the end is in the file. ``finish()`` comes back before that."""
        assert self._log is not None  # noqa: S101 - _start() came first
        deadline = time.monotonic() + WRITE_TIMEOUT
        while not self._log.ended and time.monotonic() < deadline:
            for _ in self._log.new_rows():
                pass
            time.sleep(POLL)

    def _abandon(self) -> None:
        """Give the run up, and its ``wandb-core``, which may be gone: the next call starts another."""
        self._run = None
        try:
            self._wandb.teardown(exit_code=EXIT_CODES["KILLED"])
        except Exception as error:
            logger.warning("%s: wandb-core could not be ended: %s", self.name, error)

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> DeliveryError:
        errors = self._wandb.errors
        if isinstance(error, DeliveryError):
            return error
        if isinstance(error, errors.AuthenticationError):
            return UnauthorisedError(f"W&B refuses the credentials: {error}")
        if isinstance(error, errors.UsageError | errors.WandbCoreNotAvailableError):
            return DestinationFailedError(f"W&B: {error}. Set WANDB_API_KEY, or use mode='offline'")
        return RetryableError(f"W&B: {type(error).__name__}: {error}")


_NOT_IN_PROJECT = str.maketrans(dict.fromkeys("/\\#?%:", "_"))
