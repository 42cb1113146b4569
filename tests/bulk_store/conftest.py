"""What the comparisons on sqlite and on PostgreSQL share. Each module brings its own ``shared_pair``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bulk_store.pair import Pair


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """The databases, with a new run in each."""
    shared_pair.renew()
    return shared_pair
