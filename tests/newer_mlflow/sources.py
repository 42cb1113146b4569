"""MLflow's versions and their sources, from the package index, through pip."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("mlflow-skinny", "mlflow-tracing")
"""Distributions that each version of ``mlflow`` needs in the same version."""


class PackageIndexError(Exception):
    """The package index did not answer, or does not have it."""


def published(distribution: str = "mlflow") -> list[Version]:
    """The versions that the index has, newest first."""
    done = _pip("index", "versions", distribution)
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise PackageIndexError(f"pip finds no versions of {distribution}: {done.stderr.strip()}")
    return sorted(map(Version, found[1].split(", ")), reverse=True)


def missing_parts(version: Version) -> list[str]:
    """Which of :data:`PARTS` the index does not have in ``version``."""
    return [part for part in PARTS if version not in published(part)]


def fetch(version: Version, folder: Path) -> Path:
    """Download MLflow's wheel, which has all of its sources, and unpack it into a folder of its own."""
    target = folder / f"mlflow-{version}"
    done = _pip("download", "--quiet", "--no-deps", "--dest", str(folder), f"mlflow=={version}")
    wheels = list(folder.glob(f"mlflow-{version}-*.whl"))
    if done.returncode or not wheels:
        raise PackageIndexError(f"pip cannot download mlflow {version}: {done.stderr.strip()}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(target)
    return target


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
