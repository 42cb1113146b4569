"""Settings of the whole suite: no fixtures."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# A shell starts background jobs with SIGINT ignored, and an ignored signal stays ignored in every child:
# the trainings under test are to be started as a terminal would.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests choose their own servers: never write to the one that the developer happens to use.
for _name in list(os.environ):
    if _name.startswith(("MLFLOW_", "TRACKSIDE_")):
        del os.environ[_name]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # no stray threads, nothing sent
os.environ["TRACKSIDE_QUIET"] = (
    "on"  # tests read stderr for what went wrong; tests/test_announce.py unsets it
)

# No deadline: two workers and their child processes share two cores.
# In CI the examples are fixed, so that a red run is about the change; elsewhere they explore.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
