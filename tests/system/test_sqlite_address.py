"""The path of a sqlite address is the one that SQLAlchemy opens, whichever version that is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from trackside.destinations.mlflow.address import database_file
from trackside.settings import absolute_tracking_uri

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["plain.db", "a space.db", "a%20space.db", "50%25.db", "50%.db", "a%2Fb.db", "a+b#c.db", "%41.db"]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_an_address(name: str) -> None:
    """With and without ``%``."""
    uri = f"sqlite:////data/{name}"
    assert database_file(uri) == sqlalchemy.engine.make_url(uri).database


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", ["plain", "run %41 of 50%"])
def test_a_relative_address_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    """Names the same file, in a folder of any name."""
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    relative = f"sqlite:///{name}"
    meant = os.path.abspath(sqlalchemy.engine.make_url(relative).database or "")
    made = absolute_tracking_uri(relative)
    assert sqlalchemy.engine.make_url(made).database == database_file(made) == meant


def test_a_file_is_made_where_we_look_for_it(tmp_path: Path) -> None:
    """By SQLAlchemy, for an address with an encoded space."""
    uri = f"sqlite:///{tmp_path}/with%20space.db"
    with sqlalchemy.create_engine(uri).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    assert os.path.exists(database_file(uri) or "")
