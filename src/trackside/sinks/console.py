"""Show the latest values on the console: a live line on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import to_float
from trackside.errors import CoercionError, ConfigurationError
from trackside.rank import get_rank
from trackside.redaction.redact import redact
from trackside.sinks.recent_artifacts import RecentArtifacts
from trackside.sinks.values import LatestValues
from trackside.system.clock import steady

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from trackside.events import ArtifactEvent, LifecycleEvent, MetricsSample

_ERASE = "\r\x1b[2K"
_LONG = 1_000_000
"""Whole numbers below it are written out."""


class ConsoleSink:
    """Shows the latest value of every metric, on rank 0.

    On a terminal it is one live line, drawn at most ``per_second`` times a second. In a pipe, a file, CI or a
    notebook, and while a progress bar of tqdm or rich is active, it is a whole line at most every
    ``every_seconds``, above the bar. The last values are always shown when the run or the process ends.
    What you log as files has lines of its own, at most one every ``every_seconds``.

    ``console``: the :class:`rich.console.Console` to write to. By default it is rich's own while that has a
    progress bar, otherwise one on stderr. The sink has no thread. It draws a line when a sample comes.
    Transform the sink (:class:`TransformedSink`) to show only some metrics.

    Raises :class:`~trackside.errors.ConfigurationError` for an invalid interval.
    """

    def __init__(
        self, *, every_seconds: float = 10.0, per_second: float = 4.0, console: Console | None = None
    ) -> None:
        if not every_seconds >= 0:
            raise ConfigurationError(f"every_seconds must be 0 or more, not {every_seconds}")
        if not per_second > 0:
            raise ConfigurationError(f"per_second must be above 0, not {per_second}")
        self.every_seconds = every_seconds
        self.per_second = per_second
        self._given = console
        self._stderr: Console | None = None
        self._latest = LatestValues()
        self._artifacts = RecentArtifacts()
        self._next_artifacts = 0.0
        self._next = 0.0
        self._next_line = 0.0
        self._is_rank_0: bool | None = None
        self._is_shown = True
        self._has_live_line = False

    def __repr__(self) -> str:
        return "ConsoleSink()"

    def on_metrics(self, sample: MetricsSample) -> None:
        """Keep the values, and show them if it is time."""
        if not self._is_rank_0 and not self._find_rank():
            return
        self._latest.update(sample)
        self._is_shown = False
        now = steady()
        if now >= self._next:
            self._next = now + 1 / self.per_second
            if now >= self._next_artifacts:
                self._show_artifacts(now)
            self._show(now)

    def on_artifact(self, event: ArtifactEvent) -> None:
        """Say what was logged, if it is time. Otherwise a later line, or the last one, says it."""
        if self._is_rank_0 or self._find_rank():
            self._artifacts.note(event)
            now = steady()
            if now >= self._next_artifacts:
                self._show_artifacts(now)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Get ready, or show the last values before other output, such as a traceback."""
        if event.kind != "started":
            self._finish()
        elif self._find_rank():
            self._where()  # importing rich takes a tenth of a second, too long for the first step

    def close(self) -> None:
        """Show the last values, and leave the cursor on a new line."""
        self._finish()

    def _find_rank(self) -> bool:
        if self._is_rank_0 is None:  # not earlier, because the rank may not be known before the first sample
            self._is_rank_0 = get_rank() == 0
        return self._is_rank_0

    def _show(self, now: float) -> None:
        console = self._where()
        if _is_live(console) and not _has_progress(console):
            self._draw(console)
        elif now >= self._next_line:
            self._next_line = now + self.every_seconds
            self._print(console)

    def _show_artifacts(self, now: float) -> None:
        """Print a line on what was logged as files, above the live line or a bar."""
        if not self._artifacts:
            return
        self._next_artifacts = now + self.every_seconds
        console = self._where()
        is_over_live_line = self._has_live_line and not _has_progress(console)
        if is_over_live_line:
            self._write(console, _ERASE)
        self._print_line(console, self._text_of_artifacts(console))
        if is_over_live_line:
            self._draw(console)

    def _finish(self) -> None:
        self._show_artifacts(steady())
        if self._latest.sample is None:
            return
        console = self._where()
        if self._has_live_line:
            if not self._is_shown:
                self._draw(console)
            self._write(console, "\n")
            self._has_live_line = False
        elif not self._is_shown:
            self._print(console)

    def _draw(self, console: Console) -> None:
        """Draw the live line, cut to the terminal's width."""
        text = self._text(console)
        text.truncate(max(1, console.width - 1), overflow="crop")
        with console.capture() as drawn:
            console.print(text, end="", soft_wrap=True)
        self._write(console, _ERASE + drawn.get())
        self._has_live_line = self._is_shown = True

    def _print(self, console: Console) -> None:
        """Print a whole line above any progress bar."""
        self._has_live_line = False  # a bar that began since has taken its row
        self._print_line(console, self._text(console))
        self._is_shown = True

    def _print_line(self, console: Console, text: Text) -> None:
        tqdm = _tqdm_at_work()
        if tqdm is None:
            console.print(text, soft_wrap=True)
        else:
            tqdm.write(text.plain, file=console.file)
        console.file.flush()

    def _write(self, console: Console, text: str) -> None:
        console.file.write(text)
        console.file.flush()

    def _where(self) -> Console:
        """Return the console to write to. rich is imported here, on rank 0, at the first line."""
        import rich
        from rich.console import Console

        if self._given is not None:
            return self._given
        if _has_rich_progress(rich.get_console()):
            return rich.get_console()
        if self._stderr is None:
            self._stderr = Console(stderr=True)
        return self._stderr

    def _text(self, console: Console) -> Text:
        from rich.text import Text

        assert self._latest.sample is not None  # noqa: S101 - narrows the type: nothing is shown before
        values = self._latest.floats()
        parts = [("step ", "dim"), (_short(self._latest.sample.step), "bold")]
        if "epoch" in values:
            parts += [("  epoch ", "dim"), (_short(values.pop("epoch")), "bold")]
        for name, value in values.items():
            parts += [(f"  {_printable(name, console.encoding)} ", "dim"), (_short(value), "")]
        return Text.assemble(*parts)

    def _text_of_artifacts(self, console: Console) -> Text:
        from rich.text import Text

        parts = [("logged", "dim")]
        for kind, number, place, step in self._artifacts.take():
            times = f"{number}x " if number > 1 else ""
            name = _printable(redact(place), console.encoding)
            parts += [(f"  {times}{kind} ", "dim"), (name, "bold")]
            if step is not None:
                parts.append((f" step {_short(step)}", "dim"))
        return Text.assemble(*parts)


def _is_live(console: Console) -> bool:
    """Whether a line can be redrawn. It cannot in a pipe, an editor's output pane, a notebook or CI.

    The stream is checked too, because FORCE_COLOR makes rich report a terminal in a pipe.
    """
    is_terminal = console.is_terminal and console.file.isatty()
    return is_terminal and not (console.is_dumb_terminal or console.is_jupyter or os.environ.get("CI"))


def _has_progress(console: Console) -> bool:
    import rich

    return (
        _tqdm_at_work() is not None or _has_rich_progress(console) or _has_rich_progress(rich.get_console())
    )


def _has_rich_progress(console: Console) -> bool:
    """Whether rich keeps a live display there (one until rich 14.0, a stack of them since)."""
    return bool(getattr(console, "_live_stack", None) or getattr(console, "_live", None))


def _tqdm_at_work() -> Any:
    """The class tqdm, if it is imported and has a bar on the screen."""
    tqdm = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    return tqdm if tqdm is not None and len(getattr(tqdm, "_instances", ())) > 0 else None


def _short(value: Any) -> str:
    """A number in few characters: 0.0123, 1.235e-05, 12000."""
    if isinstance(value, int):
        return str(value)
    try:
        number = to_float(value)
    except CoercionError:
        return "?"
    return str(int(number)) if number.is_integer() and abs(number) < _LONG else f"{number:.4g}"


def _printable(name: str, encoding: str) -> str:
    """A name without anything that would move the cursor, or that the stream can't encode."""
    if not name.isprintable():
        name = "".join(c if c.isprintable() else "?" for c in name)
    return name.encode(encoding, "replace").decode(encoding)
