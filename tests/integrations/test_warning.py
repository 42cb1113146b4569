"""What an integration warns of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.integrations.warning import warn_once

if TYPE_CHECKING:
    import pytest


def test_a_warning_is_logged_once_and_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """It may quote an exception of the user's code, in which anything can stand."""
    with caplog.at_level(logging.WARNING, "trackside"):
        for _ in range(3):
            warn_once("a round is not logged: ValueError: password=hunter2hunter2")
    (said,) = caplog.messages
    assert said.startswith("a round is not logged: ValueError: password=")
    assert said.endswith("(logged once)")
    assert "hunter2" not in said
