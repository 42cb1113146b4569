"""Write docs/cli.md from the commands' own help: ``python docs/generate.py [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trackside.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 90
TOP = """\
# The command line

This page lists every command and option. You can also run `python -m trackside` instead of `trackside`.

`python docs/generate.py` makes this page from the commands' `--help`. Do not edit it.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([TOP, *sections(main, click.Context(main, info_name="trackside"))])


def sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a section for ``command``, then those of its subcommands."""
    context.max_content_width = context.terminal_width = WIDTH
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from sections(child, click.Context(child, info_name=name, parent=context))


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page(), "utf-8")
    elif page() != PAGE.read_text("utf-8"):
        sys.exit("docs/cli.md is out of date: run `python docs/generate.py`")
