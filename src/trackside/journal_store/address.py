"""``journal+https://mlflow.example.org``, checked: each mistake gets an error that shows the right form."""

from __future__ import annotations

from trackside.destinations.mlflow.address import checked_address
from trackside.errors import ConfigurationError
from trackside.redaction.forms import mask_address
from trackside.system.journal_address import PREFIX, inner_address, is_journal_address

FORMS = (
    "journal+https://mlflow.example.org, journal+sqlite:///mlflow.db or journal+postgresql://user@host/name"
)
"""What a right address looks like."""


def checked_inner(uri: str) -> str:
    """The inner address of ``uri``. Raises :class:`ConfigurationError`, which shows the right form."""
    inner = inner_address(uri.strip())
    if is_journal_address(inner):
        while is_journal_address(inner):
            inner = inner_address(inner)
        raise ConfigurationError(
            f"tracking_uri {mask_address(uri)!r} has {PREFIX} twice. Write {PREFIX}{mask_address(inner)}"
        )
    if not is_journal_address(uri.strip()) or inner.rstrip("/") in {"", inner.partition(":")[0] + ":"}:
        raise ConfigurationError(f"tracking_uri {mask_address(uri)!r} names no store. Write {FORMS}")
    try:
        checked = checked_address(inner, f"what follows {PREFIX} in tracking_uri")
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, with {PREFIX} before it. Right forms are {FORMS}") from None
    if "://" not in checked:
        raise ConfigurationError(
            f"tracking_uri {mask_address(uri)!r} names a folder. Write {PREFIX}file:///path or {FORMS}"
        )
    return checked


def why_malformed(uri: str) -> str | None:
    """What is wrong with ``uri``, if it is meant for the journal store and MLflow would not ask us. Or None.

    MLflow takes an address without a scheme for a folder, and one with an unknown scheme for a plug-in that
    is not installed. Neither error leads to the right form.
    """
    if not is_journal_address(uri.strip()):
        return None
    try:
        checked_inner(uri)
    except ConfigurationError as error:
        return str(error)
    return None
