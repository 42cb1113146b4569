"""Which versions of MLflow the bulk store supports, and what a user of another one is told."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from trackside.bulk_store.versions import FIRST_UNKNOWN, NEWEST, OLDEST, why_unsupported


@pytest.mark.parametrize(
    "supported", [f"{OLDEST}.0", "3.17.2", f"{NEWEST}.0", f"{NEWEST}.7", f"{NEWEST}.0rc1"]
)
def test_supported_versions(supported: str) -> None:
    """Both ends, with all patch releases of the newest."""
    assert why_unsupported(supported) is None


def test_the_version_that_is_installed() -> None:
    """The one that these tests run with, whichever that is."""
    assert why_unsupported(version("mlflow")) is None


@pytest.mark.parametrize("patch", ["0", "0rc0", "dev0"])
def test_a_newer_version(patch: str) -> None:
    """You are told what to install."""
    newer = f"{FIRST_UNKNOWN}.{patch}"
    reason = str(why_unsupported(newer))
    assert reason.startswith(f"MLflow {newer} is newer than {NEWEST}, the newest version it supports. ")
    assert reason.endswith(f"Upgrade trackside, or install 'mlflow<{FIRST_UNKNOWN}'")


def test_other_versions() -> None:
    """A major version later, one that is older, and one that is no version."""
    assert "newer than" in str(why_unsupported("4.0.0"))
    assert "older than 3.6" in str(why_unsupported("3.5.1"))
    assert "not known (unheard of)" in str(why_unsupported("unheard of"))
