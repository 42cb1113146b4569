"""What the shipper tells a destination about the run it delivers for."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.errors import ConfigurationError, DestinationFailedError
from trackside.journal.files import write_atomically
from trackside.journal.opening import MAX_WORD, read_file
from trackside.plugins import unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.meta import Meta, RunInfo

logger = logging.getLogger("trackside.destinations")

PLACEHOLDERS = ("run", "run_name", "experiment_name", "journal", "rank")
"""What may stand in braces in a path."""

ID_LENGTH = 8
"""Characters of a run's id that tell runs of one name apart."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NOT_IN_A_NAME = re.compile(r'[/\\\0<>:"|?*\x01-\x1f]')


def _not_known() -> RunInfo | None:
    """Stand in for an MLflow that does not answer."""
    return None


@dataclass(frozen=True)
class DestinationContext:
    """One destination's place: its name, the run it belongs to, and the journal it is fed from."""

    name: str
    """Names the cursor. Letters, digits and dashes."""
    meta: Meta
    journal: Path
    """The journal's directory. What a destination keeps there goes when everything is delivered."""
    notice: Callable[[str], None] = logger.warning
    """Tells the user something, once: the training process logs it."""
    run: Callable[[], RunInfo | None] = _not_known
    """Asks for the run in MLflow. None while MLflow has not answered, and on ranks other than 0."""

    restarted: bool = False
    """Whether an earlier shipper has worked on this journal."""

    @property
    def run_id(self) -> str | None:
        """The id of the MLflow run, once it is known."""
        info = self.run()
        return self.meta.target.run_id if info is None else info.run_id

    def run_label(self) -> str:
        """The run's name and the beginning of its id: the same for all attempts at a run, and for no other.

        Where MLflow has not answered yet, the journal stands in for the run. The first answer is kept in the
        journal's directory, because files must not move when a shipper is restarted. Raises ``OSError``.
        """
        kept = self.journal / "run_label"
        try:
            return _read_label(kept)
        except FileNotFoundError:
            write_atomically(kept, self._new_label().encode("utf-8"))
        return _read_label(kept)

    def _new_label(self) -> str:
        info, name = self.run(), self.meta.target.run_name
        if self.run_id is None:
            unique = self.meta.journal_id[:ID_LENGTH]
            return self.journal.name if name is None else f"{file_name(name)}-{unique}"
        name = name or (info.name if info is not None else "") or "run"
        return f"{file_name(name)}-{file_name(self.run_id[:ID_LENGTH])}"  # the id is the server's word

    def values(self) -> dict[str, str]:
        """The :data:`PLACEHOLDERS`, as they may stand in the name of a file. ``run`` is :meth:`run_label`.

        A run without a name is called by its journal, which no other run is called.
        """
        target = self.meta.target
        return {
            "run_name": file_name(target.run_name or self.journal.name),
            "experiment_name": file_name(target.experiment_name or target.experiment_id or "Default"),
            "journal": self.journal.name,
            "rank": str(self.meta.rank),
        }

    def path(self, text: str | os.PathLike[str]) -> Path:
        """``text`` with its placeholders filled in, relative to where the training was started.

        Raises :class:`DestinationFailedError` for an unknown placeholder, and ``OSError``.
        """
        try:
            template = check_template(text)
        except ConfigurationError as error:
            raise DestinationFailedError(str(error)) from error
        values = self.values()
        if "{run}" in template:
            values["run"] = self.run_label()
        filled = _PLACEHOLDER.sub(lambda match: values[match[1]], template)
        return Path(self.meta.working_directory, os.path.expanduser(filled))


def _read_label(kept: Path) -> str:
    return file_name(read_file(kept, MAX_WORD).decode("utf-8", "replace"))


def check_template(text: str | os.PathLike[str]) -> str:
    """``text`` as a string. Raises :class:`ConfigurationError` for an unknown placeholder."""
    if not isinstance(text, str | os.PathLike) or not isinstance(os.fspath(text), str) or not os.fspath(text):
        raise ConfigurationError(f"{text!r} is not a path: give a text or a pathlib.Path")
    template = os.fspath(text)
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            raise ConfigurationError(unknown_name(f"placeholder in {template!r}:", name, PLACEHOLDERS))
    return template


def file_name(text: str) -> str:
    """``text`` as one part of a path: no separators, not hidden, not ``..``, and not too long."""
    name = _NOT_IN_A_NAME.sub("_", text).strip().lstrip(".")
    return name.encode("utf-8", "replace")[:200].decode("utf-8", "ignore") or "_"
