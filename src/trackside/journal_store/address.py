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
    if not inner or inner.endswith(("://", ":")):
        raise ConfigurationError(f"tracking_uri {uri!r} names no store after {PREFIX}. Write {FORMS}")
    try:
        return checked_address(inner, f"what follows {PREFIX} in tracking_uri")
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, with {PREFIX} before it, such as {FORMS}") from None


def why_malformed(uri: str) -> str | None:
    """What is wrong with an address that is meant for the journal store, or None.

    MLflow would take some for a folder, and others for a plug-in that is not installed.
    """
    text = uri.strip()
    if not text.lower().startswith("journal"):
        return None
    scheme, colon, _ = text.partition(":")
    if is_journal_address(text):
        try:
            checked_inner(text)
        except ConfigurationError as error:
            return str(error)
        return None
    if colon and scheme.lower() == "journal":
        return f"tracking_uri {mask_address(text)!r} has no + and no scheme of a store. Write {FORMS}"
    return None
