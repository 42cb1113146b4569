"""Which versions of MLflow the bulk store supports. Pure, and without MLflow.

A newer version may do more in ``log_batch`` than the bulk store does in its place. So it is tried first
(``make newer-mlflow``), and then :data:`NEWEST` is raised. Until then MLflow's own store takes the metrics.
"""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

OLDEST = Version("3.6")
NEWEST = Version("3.18")
"""With all its patch releases. The tests pass with both ends."""

FIRST_UNKNOWN = f"{NEWEST.major}.{NEWEST.minor + 1}"


def why_unsupported(version: str) -> str | None:
    """Return why the bulk store is off with MLflow ``version``, and what to do. None if it is on."""
    try:
        found = Version(version)
    except InvalidVersion:
        return f"MLflow's version is not known ({version})"
    if found < OLDEST:
        return f"MLflow {version} is older than {OLDEST}, the oldest version it supports. Upgrade MLflow"
    if found.release[:2] > NEWEST.release[:2]:
        return (
            f"MLflow {version} is newer than {NEWEST}, the newest version it supports. Upgrade trackside, or "
            f"install 'mlflow<{FIRST_UNKNOWN}'"
        )
    return None
