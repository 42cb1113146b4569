"""A run being logged: what ``start()`` returns, and how it ends.

Invariant: whatever ends first, the program or the :class:`Run`, the journal holds the end record before the
process is gone, and the shipper needs nothing more from this process. Nothing is imported on the way out:
code that a module runs through ``eval`` (any namedtuple does) makes CPython forget that a Ctrl-C was not
handled, and the exit code would be 1 instead of death by SIGINT.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.destinations.mlflow.run_page import front_page, how_to_look, run_page
from trackside.errors import JournalError, RunActiveError, TrackingError
from trackside.events import LifecycleEvent
from trackside.journal import lossless_json
from trackside.journal.directory import JournalDirectory, create_directory, not_writable
from trackside.journal.files import write_atomically
from trackside.journal.provenance import folder_number
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.exit_code import ExitCodeNote
from trackside.lifecycle.exit_hold import ExitHold
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.lifecycle.fork import abandon_in_children, keep_in_children
from trackside.lifecycle.hooks import ProcessHooks
from trackside.lifecycle.in_flight import InFlightException, interpreter_is_leaving, passing_exception
from trackside.lifecycle.launcher import is_in_a_job
from trackside.lifecycle.peer_crash import expect_notes, forget_notes
from trackside.lifecycle.provisional import ProvisionalEnd, conclude_earlier, conclude_others
from trackside.lifecycle.provisional import forget as forget_open_ends
from trackside.lifecycle.subscriber import LifecycleSubscriber
from trackside.lifecycle.verdict import RunStatus, checked_status
from trackside.redaction.known_values import SHORTEST_IN_USE, know, passwords_in
from trackside.redaction.redact import mask_address, redact, secrets_among
from trackside.session import fluent
from trackside.session.announce import announce
from trackside.session.call_site import CallSite
from trackside.session.daemon import is_daemon_of, session, wait_for_run
from trackside.session.delivery import Counts, Delivery
from trackside.session.destinations import RUN_ONLY
from trackside.session.parent import NO_PARENT, Parent
from trackside.session.plan import make_meta
from trackside.session.shipper_handle import ShipperProcess
from trackside.session.sinks import close_sinks
from trackside.shipper.grants import grants
from trackside.shipper.inventory import last_step_of
from trackside.sinks.mlflow import MLflowSink
from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from typing_extensions import Self

    from trackside.event_bus.bus import Bus
    from trackside.events import ConfigEvent
    from trackside.journal.meta import Meta, RunInfo, Target
    from trackside.session.destinations import DestinationPlan
    from trackside.settings import Settings

logger = logging.getLogger(__name__)

active_runs: dict[int, Run] = {}
"""The run of each bus that has one, by the bus's id."""


class Run:
    """A run being logged. :func:`trackside.start` makes it.

    Log with ``trackside.log({"loss": loss}, step=step)``. The run ends with the program, or when you say so::

        with trackside.start("digits") as run:  # finishes it at the end of the block
            trackside.log({"loss": 0.5}, step=0)
        print(run.run_id, run.status, run.counts)

    ``run_id`` and ``url`` say where it is in MLflow, ``status`` and ``counts`` how it stands. ``flush()``
    waits until all that was logged is delivered, ``finish()`` ends the run, and ``activate()`` makes it
    MLflow's active run, for ``mlflow.log_artifact`` and ``autolog``.
    """

    def __init__(
        self,
        bus: Bus,
        settings: Settings,
        target: Target,
        *,
        terminate_signals: tuple[int, ...],
        cap: int,
        rank: int = 0,
        destinations: DestinationPlan = RUN_ONLY,
        system_metrics: float | None = None,
        expected: Expected = NOTHING_ELSE,
        call_site: CallSite | None = None,
    ) -> None:
        conclude_earlier(bus)
        conclude_others(bus)
        self._session = session()
        self._start_again = functools.partial(
            Run.__init__,
            self,
            bus,
            settings,
            terminate_signals=terminate_signals,
            cap=cap,
            rank=rank,
            destinations=destinations,
            system_metrics=system_metrics,
            expected=expected,
        )
        self._target = target
        self._settings = settings
        self._bus = bus
        self._tracking_uri = target.tracking_uri
        know(passwords_in(target.tracking_uri), shortest=SHORTEST_IN_USE)
        know(secrets_among(destinations.secrets))
        target = msgspec.structs.replace(target, tracking_uri=mask_address(target.tracking_uri))
        label = target.run_name or target.experiment_name or "run"
        self.journal: JournalDirectory = create_directory(settings.directory, label)
        hold = ExitHold.if_needed() if settings.mode == "online" else None
        try:
            self._meta: Meta = make_meta(
                target,
                settings,
                terminate_signals=terminate_signals,
                cap=cap,
                rank=rank,
                destinations=destinations,
                system_metrics=system_metrics,
                beside=tuple(run._meta.journal_id for run in active_runs.values()),  # noqa: SLF001 - our own kind
                folder=folder_number(self.journal.path),
            )
            write_atomically(self.journal.meta, lossless_json.encode(self._meta), durable=True)
            self._writer = JournalWriter(self.journal, cap=cap)
            self._shipper = ShipperProcess(
                self.journal,
                tracking_uri=self._tracking_uri,
                working_directory=self._meta.working_directory,
                secrets=destinations.secrets,
                hold=hold,
                options=grants(self.journal, destinations.specs),
            )
            self._exit_code = ExitCodeNote.write_to(self.journal.exit_code)
        except BaseException as error:
            if hold is not None:
                hold.close()
            self.journal.remove()
            if isinstance(error, OSError) and not isinstance(error, JournalError):
                raise not_writable(self.journal.path, error) from error
            raise
        self._sinks: list[Any] = []
        self._lifecycle = LifecycleSubscriber(self._writer)
        self._delivery = Delivery(
            self.journal, self._meta, settings, writer=self._writer, shipper=self._shipper
        )
        self._sink = MLflowSink(self._writer, watch=self._watch, last_step=self._last_step_before)
        self._finishing = threading.Lock()
        self._ended = False
        self._open_end: ProvisionalEnd | None = None
        handled = passing_exception()
        self._handled_before = None if handled is None else InFlightException(handled)
        self._delivered = False
        self._final_counts: Counts | None = None
        self._fluent = fluent.Activation()
        self._expected = expected
        self._call_site = CallSite() if call_site is None else call_site
        self._of_earlier_runs: list[InFlightException] = []
        self._hooks = ProcessHooks(
            bus,
            terminate_signals=terminate_signals,
            note_signal=self._writer.scoreboard.note_signal,
            before_death=self._wait_before_death,
            at_exit=self._at_exit,
            wakeup_descriptor=self._shipper.pipe.write_end,
            expected=expected,
            written=lambda: self._writer.last_seq,
            belongs_elsewhere=self._belongs_elsewhere,
            own_end=self._own_end,
            left_by=self._left_by,
        )

    # What a user reads

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id. Waits for the shipper's answer, as long as ``start()`` would; None without."""
        info = self._delivery.run_info(wait=not self._ended)
        return None if info is None else info.run_id

    @property
    def url(self) -> str:
        """The page with the run's curves in MLflow's UI. Waits for the run's id, as :attr:`run_id` does.

        For a local store it is the page that ``mlflow ui`` would serve. While the run has no id, it is the
        UI's front page. On other ranks and in disabled mode it is empty.
        """
        if not self._meta.mlflow:
            return ""
        return self._page(self._delivery.run_info(wait=not self._ended))

    @property
    def status(self) -> RunStatus:
        """The status the run has by what this process knows."""
        return self._lifecycle.status

    @property
    def tracking_uri(self) -> str:
        """The MLflow address in use, without credentials."""
        return self._meta.target.tracking_uri

    @property
    def dropped(self) -> int:
        """Points that could not be kept: no room, or no number."""
        return self._writer.scoreboard.dropped_points

    @property
    def counts(self) -> Counts:
        """Points by what became of them: up to now, or up to the moment :meth:`finish` returned."""
        return self._final_counts or self._delivery.counts()

    def __repr__(self) -> str:
        info = self._delivery.run_info(wait=False)
        target = self._meta.target
        name = (info.name if info is not None else None) or target.run_name or target.experiment_name
        run_id = "no id yet" if info is None else info.run_id
        counts = ", ".join(f"{count} {what}" for what, count in self.counts._asdict().items())
        return f"<trackside.Run {name or ''!r} ({run_id}) {self.status}: {counts}>"

    @property
    def link(self) -> Parent:
        """What a child needs to be nested under this run."""
        if not self._meta.mlflow:
            return NO_PARENT
        info, target = self._delivery.run_info(wait=False), self._meta.target
        journal = None if info is not None else str(self.journal.path)
        run_id = None if info is None else info.run_id
        return Parent(run_id, journal, self._tracking_uri, target.experiment_name, target.experiment_id)

    # What a user calls

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until every destination has all that was emitted so far.

        A server's acknowledgement is only a claim, so the run is read once more. True when everything is
        there; False after ``timeout`` seconds, offline, or when one of them refused for good.
        After :meth:`finish` it is what that found.
        """
        if not self._delivery.online or self._ended:
            return self._delivered
        before = steady()
        arrived = self._sink.settle(timeout)
        return self._delivery.wait_for_all(timeout - (steady() - before)) and arrived

    def finish(self, status: str = "FINISHED") -> None:
        """End the run as ``status`` (FINISHED, FAILED or KILLED) and wait for delivery; idempotent.

        A crash or a terminate signal seen before is not covered up by FINISHED. Waits up to 30 s
        (``TRACKSIDE_EXIT_TIMEOUT``); the shipper goes on after that. Raises ``ValueError`` for a status
        that is none.

        Called while an exception is on its way (in a ``finally``), FINISHED is what the run shows until
        that has ended the program, or is handled, which makes it final. With FAILED or KILLED, the run keeps
        the exception's type, message and traceback, and Ctrl-C is KILLED in any case.
        """
        self._finish(status)

    def finish_before(self, later: CallSite) -> None:
        """End the run because ``later``, the same call of ``start()`` again, begins the next one.

        Raises :class:`RunActiveError` if it is another call: then two runs would share the bus.
        """
        if not self._call_site.is_again(later):
            msg = (
                f"this bus already has a run ({self.journal.name}): end it first, with run.finish() or "
                "trackside.finish(), or give start() a bus=Bus() of its own"
            )
            raise RunActiveError(msg)
        logger.warning(
            "run %s was not finished, and start() was called again from the same place: it is finished now. "
            "Use `with trackside.start(...) as run:` so that each run ends with its own code",
            self.journal.name,
        )
        error = self._left_by()
        if error is None:
            self._finish("FINISHED", how="finished by the next start()")
        else:
            self._finish("FAILED", error)

    def follow(self, earlier: Run) -> None:
        """Take over what ``earlier``, a run of the same place, knows: exceptions that are not this run's."""
        known = earlier._of_earlier_runs
        more = earlier._call_site.errors()
        self._of_earlier_runs = [*(one for one in known if one.is_alive), *map(InFlightException, more)]

    def _finish(self, status: str, error: BaseException | None = None, how: str | None = None) -> None:
        wanted = checked_status(status)
        with self._finishing:
            if self._ended:
                return
            self._ended = True
        self._bus.deliver_postponed()
        self._fluent.end(wanted)  # MLflow's own atexit hook would call it FINISHED
        if wanted != "FINISHED":
            self._keep_evidence(wanted, self._passing() if error is None else error)
        elif how is None:
            self._open_end = self._what_is_open()
        if self._open_end is None:
            self._bus.emit(LifecycleEvent("finished", status=wanted, message=how))
            self._disconnect()
        else:
            self._stay(self._open_end)
        self._delivered = self._delivery.wait_for_end()
        self._delivery.run_info(wait=False)
        # An exception on its way may yet make it FAILED: the exit says how that came out.
        self._announce_end(self.status, certain=self._open_end is None)
        self._final_counts = self._delivery.counts()  # the journal goes once the shipper is released
        if self._open_end is None:
            self._let_shipper_go()
        close_sinks(self._sinks)  # last: a sink that takes its time must not outlast the shipper's patience

    def activate(self) -> Run:
        """Make this run MLflow's fluent active run here too: ``mlflow.log_artifact``, ``autolog``.

        The status stays the owner's to set. Raises :class:`TrackingError` after the end. If the run can't be
        made active (offline, or no answer from the server), one warning says so, and what you log through
        ``mlflow.*`` is not kept. On other ranks and in disabled mode the same happens without a warning.
        """
        if self._fluent:
            return self
        if self._ended:
            msg = "the run has ended: making it active again would set it back to RUNNING"
            raise TrackingError(msg)
        reason = self._why_not_active() if self._meta.mlflow else ""
        if reason is not None:
            self._fluent.swallow()
            if reason:
                logger.warning(
                    "run.activate(): %s, so what you log through mlflow.* is not kept; "
                    "what you log with trackside is",
                    reason,
                )
        return self

    def _why_not_active(self) -> str | None:
        """Make the run active; what has kept it from being so."""
        if not self._delivery.online:
            return "the run is offline"
        run_id = self.run_id
        if run_id is None:
            return "the run has no id yet, since the server has not answered"
        try:
            info = self._delivery.run_info(wait=False)
            owned = info is None or not info.joined
            journal_id = self._meta.journal_id if owned else None
            self._fluent.begin(self._tracking_uri, run_id, journal_id=journal_id)
        except Exception as error:  # the server has gone away since
            return f"MLflow does not answer ({redact(str(error))})"
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is a handle that knows the run's names."""
        from trackside.session.handle import Names, RunHandle

        known = self._delivery.run_info(wait=False)
        url = "" if known is None else self._page(known)
        return RunHandle, (Names(self.link._replace(tracking_uri=self.tracking_uri), url),)

    def __deepcopy__(self, _memo: object) -> Self:
        """Itself: frameworks copy whatever holds a run."""
        return self

    def __copy__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clean_exit = isinstance(error, SystemExit) and error.code in {None, 0}
        if error is None or kind is GeneratorExit or clean_exit:
            self.finish()
        else:
            self._finish("FAILED", error)

    def abandon(self) -> None:
        """In a forked child: be inert."""
        ended, self._ended = self._ended, True
        self._open_end = None
        forget_open_ends()
        self._writer.abandon()
        self._shipper.abandon()
        self._bus.forget_all(self.journal.path, None if ended else self._go_on_as_daemon)
        ExitCodeNote.abandon_all()
        active_runs.clear()

    def _go_on_as_daemon(self) -> bool:
        """In a forked child that logs: go on with the run, if this is the daemon that the program became."""
        before, own = self.journal, {id(self._sink), id(self._lifecycle)}
        if not is_daemon_of(self._meta.owner, self._session):
            return False
        info = self._delivery.run_info(wait=False)
        if info is None and self._meta.mlflow and self._delivery.online:
            info = wait_for_run(before, self._settings.start_timeout)
        target = self._target
        if info is not None:
            target = msgspec.structs.replace(target, run_id=info.run_id, required_run=True)
        others = [sink for sink in self._sinks if id(sink) not in own]
        try:
            self._start_again(target)
            self.begin(others, None)
        except Exception as error:
            logger.warning("the run can't be continued in the process that the program forked: %s", error)
            return False
        logger.info("the program is a daemon now: its run goes on in process %s", os.getpid())
        if info is None and self._meta.mlflow:
            logger.warning(
                "the run of %s had no id yet: what is logged from here on is a new one", before.path
            )
        return True

    # Beginning

    def begin(self, sinks: Iterable[Any], config: ConfigEvent | None) -> None:
        """Attach, hook in, start the shipper and wait for the run; the other half of the constructor."""
        active_runs[id(self._bus)] = self
        abandon_in_children(self)
        try:
            for sink in (self._sink, self._lifecycle, *sinks):
                self._sinks.append(self._bus.attach(sink))
            self._hooks.install()
            self._bus.emit(LifecycleEvent("started"))
            if config is not None:
                self._bus.emit(config)
            if is_in_a_job():
                expect_notes(self._settings.directory, self._meta.job)
            if self._delivery.online and self._shipper.start() and self._meta.mlflow:
                self._delivery.await_run()
                self._announce("logging run {}")
        except BaseException as error:
            self._ended = True
            interrupted = not isinstance(error, Exception)
            if interrupted:  # the shipper may have made the run by now: it has to end it, too
                self._bus.emit(LifecycleEvent("finished", status="KILLED"))
            self._disconnect()
            self._let_shipper_go()
            if not (interrupted and self._shipper.pid is not None):
                self.journal.remove()
                forget_notes(self._settings.directory, self._meta.job, since_ms=self._meta.started_ms)
            raise

    def _announce(self, what: str) -> None:
        """Tell the user ``what`` of the run, and where to look at it; nothing while it has no id."""
        info = self._delivery.run_info(wait=False) if self._meta.mlflow else None
        if info is not None and not self._settings.quiet:
            look = how_to_look(self.tracking_uri, self._page(info))
            announce(what.format(info.name or info.run_id) + f". {look}")

    def _announce_end(self, status: RunStatus, *, certain: bool) -> None:
        """Tell the user how the run ended, if that is ``certain``, and MLflow was told so by this attempt.

        Otherwise the run's page may show another status, now or later. It may be worse than ours: another
        rank may have crashed.
        """
        told = self._delivery.told
        worse = told is not None and told != "FINISHED"
        known = certain and told is not None
        self._announce(f"run {{}} is {told if worse else status}" if known else "logged run {}")

    def _page(self, info: RunInfo | None) -> str:
        if info is None:
            return front_page(self.tracking_uri)
        return info.url or run_page(self.tracking_uri, info.experiment_id, info.run_id)

    # Ending

    def _keep_evidence(self, wanted: RunStatus, error: BaseException | None) -> None:
        """Report the exception behind a ``finish("FAILED")``, wherever it is by now."""
        if error is not None:
            self._hooks.exceptions.report_passing(error, status="KILLED" if wanted == "KILLED" else None)
            return
        self._hooks.exceptions.report_uncaught()  # in another library's hook nothing is on its way any more
        if interpreter_is_leaving():
            self._hooks.exits.report_cause()

    def _passing(self) -> BaseException | None:
        """The exception on its way, unless it was being handled already when the run began."""
        error = passing_exception()
        return None if self._handled_before and self._handled_before.is_behind(error) else error

    def _left_by(self) -> BaseException | None:
        """The exception, kept by somebody, by which the function that started this run was left."""
        errors = [error for error in self._call_site.errors() if not self._belongs_elsewhere(error)]
        return errors[-1] if errors else None

    def _belongs_elsewhere(self, error: BaseException | None) -> bool:
        return any(known.is_behind(error) for known in self._of_earlier_runs)

    def _own_end(self) -> LifecycleEvent:
        """What is known of this run's end if the exception of an earlier one ends the program."""
        error = self._left_by()
        if error is None:
            how = "finished; an earlier run's exception ended the program"
            return LifecycleEvent("finished", status="FINISHED", message=how)
        return crash_event("crashed", type(error), error, error.__traceback__, expected=self._expected)

    def _at_exit(self) -> None:
        """The interpreter leaves and nobody called ``finish()``: wait for delivery, then let it go."""
        if self._exit_code is not None:
            self._exit_code.renew()
        if self._ended and (self._open_end is None or self._open_end.conclude_if_handled()):
            return
        status: RunStatus = self.status if self.status != "RUNNING" else "FINISHED"
        self._fluent.end(status)
        delivered = self._delivery.wait_for_end()
        if delivered:
            self._hold_exit()
        # `raise SystemExit(3)` looks like a return until after this: promise nothing of it.
        known = status != "FINISHED" or self._hooks.exits.knows_code
        self._announce_end(status, certain=known)

    def _last_step_before(self) -> int | None:
        """The last step of the attempts before this one; None in a new run."""
        info = self._delivery.run_info(wait=False)
        return last_step_of(self._meta) if info is None else info.last_step

    def _watch(self) -> None:
        """Every few seconds: the shipper lives, and signals are written to its pipe and to nothing else."""
        self._delivery.watch()
        self._hooks.signals.use_wakeup(self._shipper.pipe.write_end)

    def _hold_exit(self) -> None:
        """In a container the shipper may die with this process: it gets to act on the exit code before."""
        if self._exit_code is not None and self._shipper.hold_exit(self._settings.terminate_timeout):
            self._exit_code.note_before()

    def _wait_before_death(self) -> None:
        if not self._ended:
            self._delivery.wait_before_death()

    def _what_is_open(self) -> ProvisionalEnd | None:
        """What may still show that the program has crashed, where there is such."""
        error = self._passing()
        self._hooks.exits.note(error)
        if error is None and not interpreter_is_leaving():
            return None
        return ProvisionalEnd(
            self._bus,
            error,
            settle=self._settle,
            wait=self._delivery.wait_until_settled,
            tidy_up=self._tidy_up,
            anywhere=lambda: not self._hooks.signals.needs_main_thread,
            has_left=lambda end: (found := self._left_by()) is not None and end.concerns(found),
        )

    def _stay(self, open_end: ProvisionalEnd) -> None:
        """Take nothing more, but go on listening for the program's end."""
        self._hooks.exceptions.heed_only(open_end.concerns)
        self._bus.emit(LifecycleEvent("finishing", status="FINISHED", error_type=open_end.error_type))
        for sink in self._sinks:
            if sink is not self._lifecycle:
                self._bus.detach(sink)
        active_runs.pop(id(self._bus), None)

    def _settle(self) -> None:
        """Have the journal say that this is the end."""
        self._hooks.exceptions.report_uncaught()
        if self._open_end is not None and self._open_end.is_alive:
            error = self._left_by()
            if error is not None and self._open_end.concerns(error):
                self._hooks.exceptions.report_passing(error)
        self._bus.detach(self._lifecycle)
        self._lifecycle.on_lifecycle(LifecycleEvent("finished", status="FINISHED"))
        self._shipper.nudge()
        self._shipper.release()

    def _tidy_up(self) -> None:
        self._disconnect()
        self._let_shipper_go()

    def _disconnect(self) -> None:
        self._hooks.uninstall()
        for sink in self._sinks:
            self._bus.detach(sink)
        self._writer.close()
        if self._exit_code is not None:
            self._exit_code.release()
        keep_in_children(self)
        if active_runs.get(id(self._bus)) is self:
            del active_runs[id(self._bus)]

    def _let_shipper_go(self) -> None:
        self._shipper.release()
        self._shipper.let_go_of_exit()
        self._shipper.hang_up()
        self._hooks.signals.when_wakeup_is_free(self._shipper.pipe.close)
