"""A run that is kept: what you log goes into its journal, and the shipper delivers it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from typing import TYPE_CHECKING, Any, cast

import msgspec

from trackside.errors import RunActiveError, TrackingError
from trackside.journal.delivery_status import DeliveryStatus
from trackside.lifecycle.call_site import CallSite
from trackside.lifecycle.own_errors import OwnErrors
from trackside.lifecycle.provisional import conclude_earlier, conclude_others
from trackside.redaction.redact import redact
from trackside.session import current, fluent
from trackside.session.assembly import Assembly
from trackside.session.daemon import is_daemon_of, session, wait_for_run
from trackside.session.ending import Ending
from trackside.session.parent import NO_PARENT, Parent
from trackside.session.run import Counts, Run, status_with
from trackside.settings import absolute_tracking_uri
from trackside.system.clock import steady
from trackside.system.journal_address import inner_address
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trackside.events import ArtifactEvent, ConfigEvent, FinalStatus, RunStatus
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Adopted, RunInfo
    from trackside.session.plan import RunPlan
    from trackside.session.sinks import SinkPlan

logger = logging.getLogger("trackside.session")

MAX_REASON = 500
"""Characters kept of the reason given to ``finish()``."""

recording_runs = cast("dict[int, RecordingRun]", current.recording_runs)
"""As in :mod:`~trackside.session.current`, which runs of no other class enter."""


class RecordingRun(Run):
    """A run that keeps what you log."""

    def __init__(self, plan: RunPlan, call_site: CallSite) -> None:
        super().__init__(plan.bus)
        self._wire(plan, call_site)

    def _wire(self, plan: RunPlan, call_site: CallSite) -> None:
        conclude_earlier(plan.bus)
        conclude_others(plan.bus)
        self._plan = plan
        self._said = Once()
        self._session = session()
        self._errors = OwnErrors(call_site, plan.expected)
        self._assembly = Assembly(
            plan,
            self._errors,
            beside=tuple(run.journal_id for run in recording_runs.values()),
            at_exit=lambda: self._ending.at_exit(),  # noqa: PLW0108 - the ending is made below
            before_death=lambda: self._ending.before_death(),  # noqa: PLW0108
        )
        self._ending = Ending(self._assembly, self._errors, heir=self._continue_as_daemon)

    def begin(self, sinks: Iterable[Any], config: ConfigEvent | None) -> None:
        """Connect everything, and wait for the run if the plan says so."""
        current.end_noop_run(self._bus)
        recording_runs[id(self._bus)] = self
        try:
            self._assembly.begin(sinks, config)
        except BaseException as error:
            self._ending.fail_start(error)
            raise

    # What you read

    @property
    def run_id(self) -> str | None:
        info = self._named()
        return None if info is None else info.run_id

    @property
    def url(self) -> str:
        if not self._assembly.meta.mlflow:
            return ""
        info = None
        with contextlib.suppress(TrackingError):  # then there is no page but the front page
            info = self._named()
        return self._assembly.announcer.page(info)

    def keep_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run, through the journal."""
        self._assembly.sink.keep_tags(tags)

    def keep_artifact(self, event: ArtifactEvent) -> str | None:
        """Keep a file, which may be deleted right away. Returns why not, if it can't be kept."""
        return self._assembly.sink.keep_artifact(event)

    def known_info(self) -> RunInfo | None:
        """The run in MLflow, as far as it is known now. Waits for nothing."""
        return self._assembly.delivery.run_info()

    def _named(self) -> RunInfo | None:
        """The run in MLflow. While ours lasts, it is waited for."""
        return self._assembly.delivery.run_info() if self._ending.over else self._assembly.opening.wait()

    @property
    def status(self) -> RunStatus:
        return self._assembly.lifecycle.status

    @property
    def tracking_uri(self) -> str:
        return self._assembly.meta.target.tracking_uri

    @property
    def delivery(self) -> DeliveryStatus:
        if self._ending.delivered:
            return DeliveryStatus("delivered")
        return self._assembly.delivery.status()

    @property
    def counts(self) -> Counts:
        return self._ending.counts or self._assembly.delivery.counts()

    @property
    def dropped(self) -> int:
        return self._assembly.writer.scoreboard.dropped_points

    @property
    def is_recording(self) -> bool:
        return not self._ending.over

    @property
    def called_exit(self) -> bool:
        return self._assembly.hooks.exits.knows_code

    @property
    def journal(self) -> JournalDirectory:
        return self._assembly.journal

    @property
    def journal_id(self) -> str:
        """The id of this run's journal."""
        return self._assembly.meta.journal_id

    @property
    def link(self) -> Parent:
        meta = self._assembly.meta
        if not meta.mlflow:
            return NO_PARENT
        info, target = self._assembly.delivery.run_info(), meta.target
        journal = None if info is not None else str(self.journal.path)
        run_id = None if info is None else info.run_id
        address = self._plan.target.tracking_uri
        return Parent(run_id, journal, address, target.experiment_name, target.experiment_id)

    def __repr__(self) -> str:
        info = self._assembly.delivery.run_info()
        target = self._assembly.meta.target
        name = (info.name if info is not None else None) or target.run_name or target.experiment_name
        run_id = "no id yet" if info is None else info.run_id
        counts = ", ".join(f"{count} {what}" for what, count in self.counts._asdict().items())
        return f"<trackside.Run {name or ''!r} ({run_id}) {self.status}: {counts}>"

    # What you call

    def flush(self, timeout: float = 30.0) -> bool:
        return self._flush(timeout, files=True)

    def flush_points(self, timeout: float) -> bool:
        """As :meth:`flush`, without the files."""
        return self._flush(timeout, files=False)

    def _flush(self, timeout: float, *, files: bool) -> bool:
        if not self._assembly.delivery.online or self._ending.over:
            return self._ending.flush(timeout)
        before = steady()
        arrived = self._assembly.sink.drain(timeout)
        left = timeout - (steady() - before)
        return self._assembly.delivery.wait_for_all(left, files=files) and arrived

    def finish(
        self,
        status: FinalStatus = "FINISHED",
        *,
        error: BaseException | None = None,
        reason: str | None = None,
        wait: bool = True,
    ) -> None:
        wanted = status_with(error, status)
        self._closed = True
        how = None if reason is None else redact(reason)[:MAX_REASON]
        self._ending.finish(wanted, error, how, wait=wait)

    def activate(self) -> Run:
        activation = self._assembly.activation
        if activation:
            return self
        if self._ending.over:
            raise TrackingError("the run has ended: making it active again would set it back to RUNNING")
        reason = self._why_not_active() if self._assembly.meta.mlflow else ""
        if reason is not None:
            activation.swallow()
            if reason:
                logger.warning(
                    "run.activate(): %s, so what you log through mlflow.* is not kept. "
                    "What you log with trackside is",
                    reason,
                )
        return self

    def _why_not_active(self) -> str | None:
        """Make the run active. Returns what has prevented it, or None."""
        if not self._assembly.delivery.online:
            return "the run is offline"
        run_id = self.run_id
        if run_id is None:
            return "the run has no id yet, since the server has not answered"
        try:
            info = self._assembly.delivery.run_info()
            owned = info is None or not info.joined
            journal_id = self._assembly.meta.journal_id if owned else None
            address = fluent.address_for(self._plan.target.tracking_uri)
            self._assembly.activation.begin(address, run_id, journal_id=journal_id)
        except Exception as error:  # the server has gone away since
            return f"MLflow does not answer ({redact(str(error))})"
        return None

    def _warn_of_closed(self) -> None:
        logger.warning(
            "run %s has ended: what is logged into it from now on is not kept. Log before finish(), or call "
            "trackside.start() for another run",
            self.journal.name,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        from trackside.session.handle import Names, RunHandle

        known = self._assembly.delivery.run_info()
        url = "" if known is None else self._assembly.announcer.page(known)
        link = self.link._replace(tracking_uri=self.tracking_uri)
        return RunHandle, (Names(link, url, str(self.journal.path), self.status),)

    # A run that MLflow's own API has made

    def takes_starts(self, tracking_uri: str | os.PathLike[str] | None) -> bool:
        """Whether ``start()`` with that address logs into this run, because MLflow's own API has begun it."""
        target = self._plan.target
        if not target.adopted or tracking_uri is None:
            return bool(target.adopted)
        return absolute_tracking_uri(inner_address(os.fspath(tracking_uri))) == target.tracking_uri

    def take_start(self, chosen: SinkPlan, config: ConfigEvent | None, tags: Mapping[str, str]) -> None:
        """Add to this run what ``start()`` was given. Raises ``TypeError``, and adds nothing, for no sink."""
        try:
            self._assembly.attach(chosen.sinks)
        except BaseException:
            chosen.close_made()
            raise
        if self._said.is_first("start"):
            logger.warning(
                "MLflow's run %s is active here, and trackside records it: trackside.start() logs into that "
                "run, too. It keeps its experiment, name and destinations, whatever start() names",
                self._plan.target.run_id,
            )
        if tags:
            self.keep_tags(tags)
        if config is not None:
            self.emit(config)

    # Runs one after the other

    def finish_before(self, later: CallSite) -> None:
        """End the run because ``later``, the same call of ``start()`` again, begins the next one.

        Raises :class:`RunActiveError` for another call: then two runs would share the bus.
        """
        if not self._errors.is_from(later):
            raise RunActiveError(
                f"this bus already has a run ({self.journal.name}): end it first, with run.finish() or "
                "trackside.finish(), or give start() a bus=Bus() of its own"
            )
        logger.warning(
            "run %s was not finished, and start() was called again from the same place: it is finished now. "
            "Use `with trackside.start(...) as run:` so that each run ends with its own code",
            self.journal.name,
        )
        self._closed = True
        error = self._errors.left_by()
        if error is None:
            self._ending.finish("FINISHED", how="finished by the next start()", certain=True)
        else:
            self._ending.finish("FAILED", error)

    def follow(self, earlier: RecordingRun) -> None:
        """Learn from ``earlier``, the run before at the same place, which exceptions are not this run's."""
        self._errors.follow(earlier._errors)

    def _continue_as_daemon(self) -> bool:
        """In a forked child that logs: continue the run, if this is the daemon that the program became."""
        before = self._assembly
        own = {id(before.sink), id(before.lifecycle)}
        if not is_daemon_of(before.meta.owner, self._session):
            return False
        info = before.delivery.run_info()
        if info is None and before.meta.mlflow and before.delivery.online:
            info = wait_for_run(before.journal, self._plan.settings.start_timeout)
        target = self._plan.target
        if info is not None:
            adopted: Adopted = "resumed" if target.adopted else ""
            target = msgspec.structs.replace(target, run_id=info.run_id, required_run=True, adopted=adopted)
        try:
            self._wire(dataclasses.replace(self._plan, target=target, journal_id=None), CallSite())
            self.begin([sink for sink in before.sinks if id(sink) not in own], None)
        except Exception as error:
            logger.warning("the run can't be continued in the process that the program forked: %s", error)
            return False
        logger.info("the program is a daemon now: process %s continues its run", os.getpid())
        if info is None and before.meta.mlflow:
            logger.warning(
                "the run of %s had no id yet: what is logged from here on is in a new run",
                before.journal.path,
            )
        return True
