"""What a shipper may do that its journal alone must not decide. Whoever starts the shipper grants it.

Three things travel as options of the shipper's command:

* ``--allow-import NAME``: the destination that is named by its dotted path may be imported.
* ``--credentials-for ADDRESS``: the credentials in the environment were set for that server.
* ``--trust``: the journal is used though it may be another user's (:mod:`trackside.journal.trust`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.destinations.mlflow.address import is_server
from trackside.destinations.registry import is_dotted
from trackside.journal import trust
from trackside.redaction.forms import mask_address
from trackside.settings import environment_address

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import DestinationSpec

IMPORT, CREDENTIALS, TRUST = "--allow-import", "--credentials-for", "--trust"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Have ``parser`` take the options."""
    parser.add_argument(IMPORT, action="append", default=[], dest="importable")
    parser.add_argument(CREDENTIALS, action="append", default=[], dest="credentials_for")
    parser.add_argument(TRUST, action="store_true")


def imports(names: Iterable[str]) -> list[str]:
    """The options that allow these dotted names."""
    return [word for name in names for word in (IMPORT, name)]


def credentials_for(address: str) -> list[str]:
    """The options that bind the environment's credentials to ``address``, if that is a server."""
    return [CREDENTIALS, mask_address(address)] if is_server(address) else []


def grants(journal: JournalDirectory, specs: Iterable[DestinationSpec]) -> tuple[str, ...]:
    """The options for the shipper of a journal that this process has just made for its own arguments."""
    options = imports(spec.kind for spec in specs if is_dotted(spec.kind))
    return (*options, TRUST) if trust.is_vouched_for(journal.path) else tuple(options)


def for_earlier(tracking_uri: str, *, importable: Iterable[str], bound: Iterable[str] = ()) -> list[str]:
    """The options for a shipper of an earlier attempt, started by that of the attempt at ``tracking_uri``.

    What the earlier one says was read from a file, so the credentials go nowhere that they do not go by now:
    to the servers they are ``bound`` to, if the shipper that starts it was told so.
    """
    told = [word for address in bound for word in (CREDENTIALS, address)]
    home = told or credentials_for(tracking_uri) or credentials_for(environment_address())
    return [*home, *imports(importable)]
