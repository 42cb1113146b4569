"""What the workers do, as others see it: the shipper's state, and notices to the user.

The first worker is the run's own. Its phase is the shipper's phase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.events import as_final
from trackside.journal.meta import WorkerState
from trackside.shipper.trouble import Trouble
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Meta
    from trackside.journal.progress import Progress
    from trackside.shipper.worker import DeliveryWorker

SIGN_EVERY = 30.0
"""Seconds between two signs of life in ``state.json``."""


class WorkerReport:
    """Reports of ``workers`` by ``progress``."""

    def __init__(
        self, journal: JournalDirectory, meta: Meta, progress: Progress, workers: Sequence[DeliveryWorker]
    ) -> None:
        self._journal = journal
        self._meta = meta
        self._progress = progress
        self._workers = workers
        self._troubles = [
            Trouble(meta.label_of(worker.destination.name), progress.notice) for worker in workers
        ]
        self._troubles_with_files = [
            Trouble(
                meta.label_of(worker.destination.name),
                progress.notice,
                fails="has taken no file",
                then="Metrics go on. Files are kept, and are tried again",
                mended="The files that were kept are being delivered",
            )
            for worker in workers
        ]
        self._rejections = Once()

    def publish(self) -> None:
        """Publish the phase and the workers, and notify the user of troubles."""
        self.publish_workers()
        state = self._progress.state
        phase, error = _phase_of(self._workers[0])
        if (phase, error) != (state.phase, state.error):
            self._progress.update(phase=phase, error=error)
        elif self._progress.silent_for > SIGN_EVERY:
            self._progress.touch()  # the worker may hang in a request, and others can't look us up

    def publish_workers(self) -> None:
        """Publish the workers alone, when the shipper leaves and sets the phase itself."""
        self._tell_of_troubles()
        workers = {worker.destination.name: state_of(worker) for worker in self._workers}
        if workers == self._progress.state.workers:
            return
        # A shipper that has just begun does not know what the one before it has told.
        status = workers[self._workers[0].destination.name].status or self._progress.state.status
        self._progress.update(workers=workers, status=status)
        for name, state in list(workers.items())[1:]:
            if state.refused:
                self._progress.notice(
                    f"destination {name} has failed permanently: {state.refused} (see {self._journal.log})"
                )

    def _tell_of_troubles(self) -> None:
        troubles = zip(self._workers, self._troubles, self._troubles_with_files, strict=True)
        for worker, trouble, files in troubles:
            failing = None if worker.calls.waits else worker.calls.failing  # its turn has not come yet
            # start() has told of the first that does not open.
            trouble.note(failing, quietly=worker is self._workers[0] and not worker.opened)
            if failing is None:  # where nothing is taken, that is told
                files.note(worker.artifacts.failing)
            name = worker.destination.name
            if worker.cursor.rejected and self._rejections.is_first(name):
                where = f"kept in {self._journal.rejected}, with the reason"
                self._progress.notice(f"{trouble.name} rejects some of what was logged. It is {where}")


def state_of(worker: DeliveryWorker) -> WorkerState:
    """How it is doing, for the shipper's state."""
    told = worker.destination.status if worker.told is None else as_final(worker.told.status)
    return WorkerState(
        told,
        worker.finished,
        refused=worker.refused,
        error=worker.failing,
        waits=worker.calls.waits,
        files=worker.artifacts.progress(),
    )


def _phase_of(worker: DeliveryWorker) -> tuple[str, str | None]:
    if worker.refused is not None:
        return "refused", worker.refused
    if worker.finished and worker.failing is not None:
        return "artifacts", worker.failing
    if worker.failing is not None:
        return "retrying", worker.failing
    return ("shipping" if worker.opened else "starting"), None
