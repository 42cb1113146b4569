"""What all tests of the shipper have."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper in this process looks around more often than one that should cost nothing."""
    monkeypatch.setattr("trackside.shipper.service.TICK", 0.01)
    monkeypatch.setattr("trackside.shipper.sending.POLL", 0.01)
    monkeypatch.setattr("trackside.shipper.worker.POLL", 0.01)
