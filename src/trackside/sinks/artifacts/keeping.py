"""What the functions of this package get, besides the event: held files, a voice, and the latest step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.steps import is_whole, read_step
from trackside.errors import ArtifactError
from trackside.journal.held_files import HeldFiles
from trackside.sinks.odd_values import brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.format import ArtifactRecord, MetricsRecord
    from trackside.journal.writer import JournalWriter


class Keeping(HeldFiles):
    """Held files, and what pictures need besides.

    ``warn(subject, text, once_for=...)`` tells the user once. ``last_step`` gives the step of the latest
    sample, or None. ``cap`` and ``leave_out`` are those of :class:`~trackside.journal.held_files.HeldFiles`.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        warn: Callable[..., None],
        last_step: Callable[[], int | None] = lambda: None,
        cap: int | None = None,
        leave_out: Callable[[str], None],
    ) -> None:
        super().__init__(journal.directory, cap=cap, leave_out=leave_out)
        self._journal = journal
        self._warn = warn
        self._last_step = last_step

    def tell(self, subject: str, text: str) -> None:
        """Tell the user something about how ``subject`` is kept, once for each text."""
        self._warn(subject, text, once_for=text)

    def step(self, step: Any) -> int:
        """``step`` as an int. The step of the latest sample in place of a missing or bad one, or 0."""
        number = read_step(step)
        if number is None:
            number = self._last_step() or 0
            if step is not None:
                self.tell(
                    f"the step {brief(step)}",
                    "is not a 64-bit whole number. The step of the latest metrics is taken. Pass an int",
                )
        elif not is_whole(step):
            self.tell(f"the step {brief(step)}", "is not a whole number and is cut. Pass an int")
        return number

    def add_metrics(self, record: MetricsRecord) -> bool:
        """Journal metrics that describe what is kept. Returns whether they are in the journal."""
        return self._journal.append(record)

    def add_part(self, record: ArtifactRecord) -> None:
        """Journal a part of what is kept, such as an image in a table. Raises :class:`ArtifactError`."""
        if not self._journal.append(record):
            if record.held is not None:
                self.let_go(record.held)
            raise ArtifactError("the journal has no room")
