"""The owner's sign of life: a tag with the time and the machine, renewed while the training lives."""

from __future__ import annotations

import socket
from datetime import datetime, timezone


def new_heartbeat() -> str:
    """The tag, as of now."""
    now = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    return f"{now} {socket.gethostname()}"


def parse_heartbeat(text: str) -> tuple[float, str] | None:
    """Time (seconds since the epoch) and host of a heartbeat tag. None for any other text."""
    stamp, _, host = text.partition(" ")
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp(), host
