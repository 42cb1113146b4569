"""An environment with one version of MLflow, and the tests that touch MLflow, run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.newer_mlflow.sources import PARTS, missing_parts

if TYPE_CHECKING:
    from packaging.version import Version

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-newer-mlflow"

TESTS = ("tests/bulk_store", "tests/destinations", "tests/test_mlflow_utils.py")


def install(version: Version, environment: Path = ENVIRONMENT) -> None:
    """Make ``environment`` anew: this checkout, its tests' needs as they are pinned, and MLflow ``version``.

    MLflow's wheel has all of MLflow. If the index lacks its parts (they can be published hours later), it is
    put in place of the pinned version, whose needs stay.
    """
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    missing = missing_parts(version)
    lines = (ROOT / ".ci" / "constraints.txt").read_text("utf-8").splitlines()
    pins = lines if missing else [line for line in lines if not line.startswith("mlflow")]
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n", "utf-8")
    wanted = [] if missing else [f"mlflow=={version}"]
    _pip(environment, "install", "--editable", f"{ROOT}[test]", *wanted, constraints=constraints)
    if missing:
        print(
            f"The index lacks {' and '.join(missing)} {version}: mlflow {version} is installed without them."
        )
        _pip(environment, "uninstall", "--yes", "mlflow", *PARTS)
        _pip(environment, "install", "--no-deps", f"mlflow=={version}")


def run_tests(tests: tuple[str, ...] = TESTS, environment: Path = ENVIRONMENT) -> bool:
    """Run ``tests`` one at a time, those of PostgreSQL and servers, too. Whether all passed."""
    command = [str(environment / "bin" / "python"), "-m", "pytest", "-n", "0", "--timeout", "600", *tests]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _pip(environment: Path, *arguments: str, constraints: Path | None = None) -> None:
    # PIP_CONSTRAINT and not --constraint: it also holds for the build backend's own environment.
    pins = {} if constraints is None else {"PIP_CONSTRAINT": str(constraints)}
    command = [str(environment / "bin" / "pip"), "--disable-pip-version-check", *arguments[:1], "--quiet"]
    subprocess.run([*command, *arguments[1:]], env={**os.environ, **pins}, check=True)
