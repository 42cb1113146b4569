"""A plug-in for pytest: Lightning's own tests of its loggers try ours, unchanged.

Get Lightning's repository at the tag of the installed version, and run from its folder::

    PYTHONPATH=tests:/path/to/trackside python -m pytest -p tests.frameworks.their_tests.lightning_loggers \
        tests/tests_pytorch/loggers/test_all.py

Our class takes the place of ``CSVLogger``, the only logger there that needs no mock of a library. What their
tests say of its files is in another file (``test_csv.py``).
"""

from __future__ import annotations

import os
import tempfile

import lightning.pytorch.loggers

from trackside.integrations.lightning import TracksideLogger


def pytest_configure() -> None:
    """Put our logger in place, and deliver to a store of this session's."""
    folder = tempfile.mkdtemp(prefix="trackside-their-tests-")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ["TRACKSIDE_DIR"] = os.path.join(folder, "journals")
    lightning.pytorch.loggers.CSVLogger = TracksideLogger


def pytest_report_header() -> str:
    """Say who is being tested, and where the runs are."""
    return (
        f"CSVLogger is {TracksideLogger.__module__}.TracksideLogger, to {os.environ['MLFLOW_TRACKING_URI']}"
    )
