"""A plug-in for pytest: transformers' own tests of callbacks, with ours in every Trainer.

Get transformers' repository at the tag of the installed version, and run from its folder::

    PYTHONPATH=/path/to/trackside/tests/frameworks/their_tests python -m pytest -p transformers_callbacks \
        tests/trainer/test_trainer_callback.py

Our callback is one of those that each Trainer has by default.
"""

from __future__ import annotations

import os
import tempfile

from transformers import trainer

from trackside.integrations.transformers import TracksideCallback


def pytest_configure() -> None:
    """Put our callback in place, and deliver to a store of this session's."""
    folder = tempfile.mkdtemp(prefix="trackside-their-tests-")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.environ["TRACKSIDE_DIR"] = os.path.join(folder, "journals")
    trainer.DEFAULT_CALLBACKS.append(TracksideCallback)


def pytest_report_header() -> str:
    """Say what is being tested, and where the runs are."""
    return f"every Trainer has a TracksideCallback, to {os.environ['MLFLOW_TRACKING_URI']}"
