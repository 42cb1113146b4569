"""How an address asks for the bulk store: the database's own address, with ``trackside+`` before it.

MLflow takes every scheme that begins with a database's name for its own store, whatever follows
(``get_uri_scheme`` in ``mlflow/utils/uri.py``). So ours begins with another word.
"""

from __future__ import annotations

PREFIX = "trackside+"

_DATABASES = {"sqlite", "postgresql"}


def plain_uri(uri: str) -> str:
    """``uri`` as SQLAlchemy and MLflow's own stores want it."""
    return uri.removeprefix(PREFIX)


def can_be_bulk(uri: str) -> bool:
    """Whether ``uri`` is a database that can be written in bulk."""
    scheme, found, _ = plain_uri(uri).partition("://")
    return bool(found) and scheme.partition("+")[0] in _DATABASES
