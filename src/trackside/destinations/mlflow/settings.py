"""MLflow's variables that change what a call promises, and the values that delivery needs.

The shipper inherits the user's environment. The cursor relies on two facts about a call: when it returns,
MLflow has the data, and when it fails, it fails soon, so that the shipper's own policy decides what comes
next. So the shipper sets these variables in its own process. Variables that say where MLflow is, how to log
in, or how large a part of an upload is stay the user's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_TIMEOUT = 30
"""Seconds. MLflow's default of 120, seven times over, keeps a caller waiting for minutes."""

LONGEST_TIMEOUT = 600
"""Seconds: the longest that a user may ask for."""

_OFF = {"", "false", "0"}

_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"

OURS = {
    # With it, log_batch and set_tag return before anything is sent, and the queue dies with the process.
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    # The shipper has its own policy. MLflow's takes 7 tries, 244 s in all.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # A redirected write proves nothing, and takes the credentials with it.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # It prints each statement with its values, into a log that is not rotated.
    "MLFLOW_SQLALCHEMYSTORE_ECHO": "false",
}
"""What each has to be while the shipper delivers."""


def set_variables() -> None:
    """Set this process's variables to what delivery needs."""
    os.environ.update(OURS)
    os.environ[_TIMEOUT] = str(request_timeout())


def is_on(name: str, environment: Mapping[str, str]) -> bool:
    """Whether one of MLflow's variables is set, and not to a word for no."""
    return environment.get(name, "").strip().lower() not in _OFF


def request_timeout() -> int:
    """Seconds that a request may take: the user's, if MLflow and ``requests`` would take it, else ours."""
    text = os.environ.get(_TIMEOUT, "").strip()
    asked = int(text) if text.isascii() and text.isdigit() else 0
    return min(asked, LONGEST_TIMEOUT) or REQUEST_TIMEOUT
