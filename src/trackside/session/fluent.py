"""Make a run MLflow's fluent active run in this process, and undo that in time.

If there is no run to make active, MLflow's API is pointed at a store that keeps nothing, so that the same
code runs everywhere. What was active before, such as the user's own run, is put back at the end.

MLflow ends a fluent run as FINISHED when the interpreter exits, even after a crash. So we end ours first,
with the status it really has. The shipper sets the status after that, and has the last word.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside import mlflow_utils
from trackside.null_store import NULL_URI
from trackside.settings import absolute_tracking_uri
from trackside.system.journal_address import inner_address, is_journal_address
from trackside.tag_names import JOURNAL_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("trackside.session")

_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")
"""What MLflow sets in the environment when its API is told where to log."""


class ActiveRun(NamedTuple):
    """A run that MLflow's own API has made active."""

    run_id: str
    experiment_id: str
    tracking_uri: str


def address_for(uri: str) -> str:
    """The address by which MLflow's own API finds ``uri`` here: through the journal store, if in use."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    same = is_journal_address(given) and absolute_tracking_uri(inner_address(given)) == uri
    return given if same else uri


_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""MLflow's own settings would delay the end of a process by minutes while the server is down."""


def active() -> ActiveRun | None:
    """The active run of this thread. None without one, and while MLflow is not imported."""
    mlflow = sys.modules.get("mlflow")
    with contextlib.suppress(Exception):  # half imported, or an MLflow that we do not know
        run = None if mlflow is None else mlflow.active_run()
        if mlflow is not None and run is not None:
            address = inner_address(str(mlflow.get_tracking_uri()))
            return ActiveRun(run.info.run_id, run.info.experiment_id, address)
    return None


class _Before(NamedTuple):
    """What was active before, to be put back."""

    outer_run_id: str | None
    tracking_uri: str | None
    environment: dict[str, str | None]


_stack: list[_Before] = []


def _make_active(tracking_uri: str, **run: Any) -> _Before:
    """Start a fluent run in this thread. Raises what MLflow raises, and then changes nothing."""
    mlflow = mlflow_utils.import_mlflow()
    before = _look(mlflow)
    try:
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.start_run(nested=True, **run)
    except BaseException:
        _restore(mlflow, before)
        raise
    _stack.append(before)
    return before


def _step_aside(run_id: str) -> None:
    """Let go of a run that another process owns, and leave it its status. A second call does nothing.

    Never raises. MLflow ends a fluent run when it stops being active, so it is ended with the status it has.
    """
    with contextlib.suppress(Exception):
        mlflow, run = mlflow_utils.import_mlflow(), active()
        if run is not None and run.run_id == run_id:
            with _impatient():
                status = mlflow.MlflowClient().get_run(run_id).info.status
            _deactivate(status)


def _end_own(journal_id: str, status: str) -> None:
    """End the active run as ``status``, or with the status it has if a newer attempt has taken it over."""
    with contextlib.suppress(Exception), _impatient():
        mlflow, run = mlflow_utils.import_mlflow(), active()
        found = mlflow.MlflowClient().get_run(None if run is None else run.run_id)
        if found.data.tags.get(JOURNAL_TAG, journal_id) != journal_id:
            status = found.info.status
    _deactivate(status)


class Activation:
    """Whether one run of ours is MLflow's active run here, and how it stops being so."""

    def __init__(self) -> None:
        self._leave: Callable[[str], None] | None = None

    def __bool__(self) -> bool:
        return self._leave is not None

    def begin(self, tracking_uri: str, run_id: str, *, journal_id: str | None) -> None:
        """Make ``run_id`` active. Raises what MLflow raises.

        We set its status for as long as it is the run of the journal ``journal_id``.
        """
        with _impatient():
            _make_active(tracking_uri, run_id=run_id)
        if journal_id is not None:
            self._leave = partial(_end_own, journal_id)
        else:
            atexit.register(_step_aside, run_id)  # behind MLflow's own hook, so it runs before that one
            self._leave = lambda _: _step_aside(run_id)

    def swallow(self) -> None:
        """Make MLflow's own API keep nothing, if possible."""
        if self._leave is not None:
            return
        try:
            before = _make_active(NULL_URI)
        except Exception as error:  # no MLflow, or one that does not find our stores
            logger.warning("run.activate() does nothing here: %s: %s", type(error).__name__, error)
            return
        _put_back(before.environment)  # for processes that are started from here: they log for themselves
        self._leave = _deactivate

    def end(self, status: str) -> None:
        """Put back what was active before. ``status`` is what the run ends with, if we own it."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(status)


def _deactivate(status: str) -> None:
    """End the run that was made active last as ``status``, and put back what was active before.

    Errors are logged.
    """
    before = _stack.pop() if _stack else None
    with _impatient():
        mlflow_utils.end_active_runs(status, down_to=None if before is None else before.outer_run_id)
    mlflow = sys.modules.get("mlflow")
    if before is not None and mlflow is not None:
        with contextlib.suppress(Exception):
            _restore(mlflow, before)


def _look(mlflow: Any) -> _Before:
    run = active()
    environment = {name: os.environ.get(name) for name in _VARIABLES}
    known = str(mlflow.get_tracking_uri()) if mlflow.is_tracking_uri_set() else None
    explicit = known if known != environment["MLFLOW_TRACKING_URI"] else None
    return _Before(None if run is None else run.run_id, explicit, environment)


def _restore(mlflow: Any, before: _Before) -> None:
    mlflow.set_tracking_uri(before.tracking_uri)  # None: what the environment says
    _put_back(before.environment)


def _put_back(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _PATIENCE}
    os.environ.update(_PATIENCE)
    try:
        yield
    finally:
        _put_back(before)
