"""Addresses of the journal store: right ones lead to the inner address, mistakes to the right form."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from trackside.errors import ConfigurationError
from trackside.journal_store.address import checked_inner, why_malformed
from trackside.settings import environment_address, read_environment
from trackside.system.journal_address import inner_address, is_journal_address

RIGHT = {
    "journal+https://mlflow.example.org": "https://mlflow.example.org",
    "journal+http://user:secret@host:5000/path": "http://user:secret@host:5000/path",
    "journal+sqlite:///mlflow.db": "sqlite:///mlflow.db",
    "journal+postgresql+psycopg2://host/db": "postgresql+psycopg2://host/db",
    "journal+trackside+sqlite:////tmp/x.db": "trackside+sqlite:////tmp/x.db",
    "Journal+file:///tmp/runs": "file:///tmp/runs",
}
WRONG = {
    "journal+": "names no store",
    "journal+http://": "names no store",
    "journal://host:5000": "names no store",
    "journal+journal+http://host:5000": "Write journal+http://host:5000",
    "journal+htp://host": "unknown scheme 'htp'",
    "journal+localhost:5000": "Write http://localhost:5000, with journal+ before it",
    "journal+postgres://host/db": "Write postgresql://host/db, with journal+ before it",
    "journal+/tmp/runs": "Write journal+file:///path",
    "journal+sqlite://mlflow.db": "Write sqlite:///mlflow.db, with journal+ before it",
}


@pytest.mark.parametrize(("uri", "inner"), RIGHT.items())
def test_a_right_address_leads_to_the_inner_one(uri: str, inner: str) -> None:
    """The inner address is what MLflow itself, and the shipper, use."""
    assert is_journal_address(uri)
    assert checked_inner(uri) == inner_address(uri) == inner
    assert why_malformed(uri) is None


@pytest.mark.parametrize(("uri", "says"), WRONG.items())
def test_a_mistake_gets_an_error_that_shows_the_right_form(uri: str, says: str) -> None:
    """Whatever is wrong: the scheme, the slashes, the prefix, or nothing behind it."""
    with pytest.raises(ConfigurationError, match="journal") as caught:
        checked_inner(uri)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_mistake_of_which_mlflow_does_not_ask_us_is_said_too() -> None:
    """MLflow takes an address without a scheme for a folder. Addresses of others are none of our business."""
    assert "names no store" in str(why_malformed("journal+"))
    assert why_malformed("http://host:5000") is None
    assert why_malformed("sqlite:///journal+x.db") is None


def test_the_settings_have_the_inner_address() -> None:
    """So start() under the variable, ``sync`` and ``reap`` talk to the store that is behind it."""
    environment = {"MLFLOW_TRACKING_URI": " journal+http://host:5000 "}
    assert (
        read_environment(environment).tracking_uri == environment_address(environment) == "http://host:5000"
    )
    assert environment_address({}) == ""


def test_mlflow_finds_a_store_and_a_registry_for_each_spelling() -> None:
    """MLflow looks a scheme up as it is written."""
    schemes = {uri.partition(":")[0].lower() for uri in RIGHT}
    for group in ("mlflow.tracking_store", "mlflow.model_registry_store"):
        assert schemes <= {point.name for point in entry_points(group=group)}
