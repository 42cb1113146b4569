"""How an address asks for the journal store: an address of MLflow's, with ``journal+`` before it.

Only the program's own MLflow sees that form. Everything of ours, the shipper too, uses the inner address.
"""

from __future__ import annotations

PREFIX = "journal+"


def is_journal_address(uri: str) -> bool:
    """Whether ``uri`` names the journal store."""
    return uri[: len(PREFIX)].lower() == PREFIX


def inner_address(uri: str) -> str:
    """The address that MLflow would use without the journal store."""
    return uri[len(PREFIX) :] if is_journal_address(uri) else uri
