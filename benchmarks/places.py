"""Where points go: a fresh sqlite file, a PostgreSQL of the benchmark's own (fsync off), servers on each."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.ends.harness import new_database
from tests.faults.postgres import find_programs, postgres_server
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator

BULK = "trackside+"
PLACES = ("sqlite", "postgresql", "server on sqlite", "server on postgresql")


@contextmanager
def addresses_in(place: str, *, workers: int = 1) -> Iterator[dict[str, str]]:
    """Addresses in ``place`` by what is before the database's own: for a server, a server with that store.

    Raises ``ClickException`` where the place can't be had here.
    """
    with ExitStack() as stack:
        database = _database(place, stack)
        if "server" not in place:
            yield {"": database, BULK: BULK + database}
            return
        addresses = {}
        for prefix in ("", BULK):
            server = MlflowServer(
                temporary_directory(stack), backend_store_uri=prefix + database, workers=workers
            )
            stack.callback(server.kill)
            server.start()
            addresses[prefix] = server.url
        yield addresses


def _database(place: str, stack: ExitStack) -> str:
    if not place.endswith("postgresql"):
        return new_database(temporary_directory(stack))
    programs = find_programs()
    if programs is None:
        raise click.ClickException("PostgreSQL is not installed")
    return stack.enter_context(postgres_server(programs)).uri


def temporary_directory(stack: ExitStack) -> Path:
    """A new directory, which goes with ``stack``."""
    directory = Path(tempfile.mkdtemp(prefix="trackside-bench-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory
