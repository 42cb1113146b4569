"""Options of several commands: a duration, a folder of journals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
    """A length of time such as ``90s``, ``10m``, ``2h`` or ``1d``, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds, or fail with the accepted forms."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a duration. Write 90s, 10m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="The folder with the journals. [default: TRACKSIDE_DIR, else ./.trackside]",
)


def existing_directory(given: Path | None) -> Path | None:
    """Return the folder with the journals, or None if the default one does not exist.

    The default folder comes with the first journal and goes with the last. Any other folder must exist,
    because a misspelt one must not look like one where everything is delivered.
    """
    from trackside.journal.directory import comes_and_goes
    from trackside.settings import read_environment

    where = (given or read_environment().directory).absolute()
    try:
        is_there = where.is_dir()
    except OSError as error:
        raise _unreadable(where, error) from error
    if is_there:
        return where
    if where.exists():
        raise click.UsageError(f"{where} is not a folder")
    if comes_and_goes(where) and where.parent.is_dir():
        return None
    raise click.UsageError(
        f"there is no folder {where}: name the folder with the journals by --dir or TRACKSIDE_DIR, "
        "or run this where the training ran"
    )


def journals_lying_in(directory: Path | None) -> list[JournalDirectory]:
    """Return the journals in ``directory``. An unreadable folder must not look like an empty one."""
    from trackside.shipper.inventory import journals_in

    try:
        return [] if directory is None else journals_in(directory)
    except OSError as error:
        assert directory is not None  # noqa: S101 - without a directory nothing was read
        raise _unreadable(directory, error) from error


def _unreadable(directory: Path, error: OSError) -> click.ClickException:
    reason = error.strerror or str(error)
    return click.ClickException(f"{directory} can't be read ({reason}): run this as the user who trained")
