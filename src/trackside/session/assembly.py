"""How a recording run is wired: its journal, the shipper that delivers it, the hooks and the sinks.

Invariant: an assembly that fails half-way leaves nothing behind, neither a journal nor a descriptor.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.findings import Finding
from trackside.destinations.mlflow.first_check import begin_check
from trackside.errors import JournalError, TrackingError
from trackside.events import LifecycleEvent
from trackside.journal import lossless_json
from trackside.journal.directory import create_directory, not_writable
from trackside.journal.files import write_atomically
from trackside.journal.provenance import folder_number
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.crash_notes import expect_notes, forget_notes
from trackside.lifecycle.exit_code import ExitCodeNote
from trackside.lifecycle.exit_hold import ExitHold
from trackside.lifecycle.hooks import ProcessHooks
from trackside.lifecycle.subscriber import LifecycleSubscriber
from trackside.redaction.known_values import SHORTEST_IN_USE, know, passwords_in
from trackside.redaction.redact import secrets_among
from trackside.session import current, fluent
from trackside.session.announce import Announcer
from trackside.session.delivery import Delivery
from trackside.session.launcher import is_in_a_job
from trackside.session.opening import Opening
from trackside.session.plan import make_meta, may_resume
from trackside.session.shipper_handle import ShipperProcess
from trackside.session.undelivered import undelivered_runs
from trackside.shipper.grants import grants
from trackside.shipper.leftovers import last_step_of
from trackside.sinks.mlflow import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trackside.events import ConfigEvent
    from trackside.journal.directory import JournalDirectory
    from trackside.lifecycle.own_errors import OwnErrors
    from trackside.session.plan import RunPlan


class Assembly:
    """The parts of one run. The constructor makes them, and :meth:`begin` puts them to work.

    ``beside``: the ids of the process's other journals. The hooks call ``at_exit`` when the interpreter
    leaves, and ``before_death`` when a terminate signal is about to end the process.
    """

    def __init__(
        self,
        plan: RunPlan,
        errors: OwnErrors,
        *,
        beside: tuple[str, ...],
        at_exit: Callable[[], None],
        before_death: Callable[[], None],
    ) -> None:
        self.plan = plan
        target, settings = plan.target, plan.settings
        know(passwords_in(target.tracking_uri), shortest=SHORTEST_IN_USE)
        know(secrets_among(plan.destinations.secrets))
        asked = settings.mode == "online" and plan.destinations.mlflow and not target.adopted
        self._found = begin_check(target) if asked else Finding
        label = target.run_name or target.experiment_name or "run"
        self.journal: JournalDirectory = create_directory(settings.directory, label)
        hold = ExitHold.if_needed() if settings.mode == "online" else None
        try:
            self._make_journal(beside, hold)
        except BaseException as error:
            if hold is not None:
                hold.close()
            self.journal.remove()
            if isinstance(error, OSError) and not isinstance(error, JournalError):
                raise not_writable(self.journal.path, error) from error
            raise
        self.announcer = Announcer(self.meta, quiet=settings.quiet)
        self.opening = Opening(
            self.journal,
            self.meta,
            settings,
            shipper=self.shipper,
            on_open=lambda info: self.announcer.tell("logging run {}", info),
        )
        self.delivery = Delivery(
            self.journal,
            self.meta,
            settings,
            writer=self.writer,
            shipper=self.shipper,
            opening=self.opening,
        )
        self.activation = fluent.Activation()
        self.lifecycle = LifecycleSubscriber(self.writer)
        self.sink = MLflowSink(
            self.writer,
            watch=self.watch,
            last_step=self._last_step_before,
            held_files_cap=settings.held_files_cap,
        )
        self.sinks: list[Any] = []
        """What is attached, in calling order."""
        self.hooks = ProcessHooks(
            plan.bus,
            terminate_signals=plan.terminate_signals,
            note_signal=self.writer.scoreboard.note_signal,
            before_death=before_death,
            at_exit=at_exit,
            wakeup_descriptor=self.shipper.pipe.write_end,
            expected=plan.expected,
            written=lambda: self.writer.last_seq,
            errors=errors,
        )

    def _make_journal(self, beside: tuple[str, ...], hold: ExitHold | None) -> None:
        """Write the journal's first files, and prepare the shipper that delivers it."""
        plan = self.plan
        self.meta = make_meta(plan, beside=beside, folder=folder_number(self.journal.path))
        write_atomically(self.journal.meta, lossless_json.encode(self.meta), durable=True)
        self.writer = JournalWriter(self.journal, cap=plan.cap)
        self.shipper = ShipperProcess(
            self.journal,
            tracking_uri=plan.target.tracking_uri,
            working_directory=self.meta.working_directory,
            secrets=plan.destinations.secrets,
            hold=hold,
            options=grants(self.journal, plan.destinations.specs),
        )
        self.exit_code = ExitCodeNote.write_to(self.journal.exit_code)

    def begin(self, sinks: Iterable[Any], config: ConfigEvent | None) -> None:
        """Attach the sinks, hook in and start the shipper. Wait for the run if the plan says so."""
        bus = self.plan.bus
        self.attach((self.sink, self.lifecycle, *sinks))
        undelivered_runs.watch_exit()
        undelivered_runs.tidy()
        self.hooks.install()
        bus.emit(LifecycleEvent("started"))
        if config is not None:
            bus.emit(config)
        if is_in_a_job():
            expect_notes(self.plan.settings.directory, self.meta.job)
        found = self._found()
        if found.refusal is not None:
            raise self.opening.refusal(found.refusal)
        if not (self.delivery.online and self.shipper.start() and self.meta.mlflow):
            return
        if self.plan.wait:
            self.opening.open_at_start()
            self.shipper.log_notices(self.shipper.state())
        elif found.trouble is not None:
            self.opening.say_unreachable(found.trouble)

    def attach(self, sinks: Iterable[Any]) -> None:
        """Attach ``sinks`` until the run ends. Raises ``TypeError``, and attaches none, if one is no sink."""
        before = len(self.sinks)
        try:
            for sink in sinks:
                self.sinks.append(self.plan.bus.attach(sink))
        except BaseException:
            for sink in self.sinks[before:]:
                self.plan.bus.detach(sink)
            del self.sinks[before:]
            raise

    def watch(self) -> float | None:
        """Every few seconds: check that the shipper lives, and that signals are written to its pipe."""
        soon = self.delivery.watch()
        undelivered_runs.tidy()
        self.hooks.signals.use_wakeup(self.shipper.pipe.write_end)
        return soon

    def disconnect(self) -> None:
        """Take everything off the bus and out of the process, and close the journal."""
        self.hooks.uninstall()
        for sink in self.sinks:
            self.plan.bus.detach(sink)
        self.writer.close()
        if self.exit_code is not None:
            self.exit_code.stop()
        current.leave(self.plan.bus, self.journal)

    def dismiss_shipper(self) -> None:
        """Tell the shipper that its final state was read, and close the ways to it."""
        self.shipper.dismiss()
        self.shipper.let_go_of_exit()
        self.shipper.hang_up()
        self.hooks.signals.when_wakeup_is_free(self.shipper.pipe.close)

    def leave_shipper(self) -> None:
        """The run is over and not delivered yet: let the shipper go on without us, but hear its last word."""
        self.shipper.leave(hang_up=undelivered_runs.are_many)
        self.hooks.signals.when_wakeup_is_free(self.shipper.pipe.close)

    def hold_exit(self) -> None:
        """Let the shipper act on the exit code before the process is gone: in a container it dies with it."""
        if self.exit_code is not None and self.shipper.hold_exit(self.plan.settings.terminate_timeout):
            self.exit_code.note_before()

    def remove_journal(self) -> None:
        """Delete what was kept, because the start failed."""
        self.journal.remove()
        forget_notes(self.plan.settings.directory, self.meta.job, since_ms=self.meta.started_ms)

    def _last_step_before(self) -> int | None:
        """The last step of the attempts before this one, or None in a new run.

        A run that may be resumed is waited for, because only MLflow knows how far it got.
        """
        with contextlib.suppress(TrackingError):  # told by then, and the steps begin anew
            if may_resume(self.meta.target):
                self.opening.wait()
        info = self.delivery.run_info()
        return last_step_of(self.meta) if info is None else info.last_step
