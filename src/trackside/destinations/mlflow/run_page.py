"""Where to look at a run: the page with its curves in MLflow's UI, and the command that serves a local store.

MLflow 3.17 opens an experiment in its view for GenAI, where a training run shows "No data available". The
address made here opens the run on its metric charts, in the view for model training. Older UIs ignore the
query.

Nothing here asks MLflow. A run on a server and one in a database file get their address in the same way.
Pure, except for :func:`mlflow_command`, which looks for the program.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from trackside.bulk_store.uri import plain_uri
from trackside.destinations.mlflow.address import DATABASES, is_server
from trackside.redaction.forms import MASK

LOCAL_UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves unless told otherwise."""

_PAGE = "/#/experiments/{experiment}/runs/{run}/model-metrics?workflowType=machine_learning"
_INTERPRETERS = ("python", "pypy")


def run_page(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """The page with the run's curves.

    For a local store, the page that ``mlflow ui`` would serve. For a backend with a UI of its own that
    trackside does not know, the tracking address itself.
    """
    front = front_page(tracking_uri)
    if not is_server(front):
        return front
    return front + _PAGE.format(experiment=experiment_id, run=run_id)


def front_page(tracking_uri: str) -> str:
    """The address of MLflow's UI, to show before the run has an id."""
    if is_server(tracking_uri):
        scheme, _, rest = tracking_uri.rstrip("/").partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"  # masked credentials make no link
    return LOCAL_UI if is_local(tracking_uri) else tracking_uri


def is_local(tracking_uri: str) -> bool:
    """Whether ``mlflow ui`` can serve this store: a database or a folder."""
    scheme, separator, _ = plain_uri(tracking_uri).partition(":")
    return not separator or os.path.isabs(tracking_uri) or scheme.partition("+")[0] in {*DATABASES, "file"}


def serve_command(tracking_uri: str) -> str | None:
    """The shell command that serves a local store. None for a server."""
    if not is_local(tracking_uri):
        return None
    store = plain_uri(tracking_uri)
    return f"{mlflow_command()} ui --backend-store-uri {shlex.quote(store)}"


def how_to_look(tracking_uri: str, page: str) -> str:
    """A sentence that says how to open ``page``. For a local store it takes three lines."""
    command = serve_command(tracking_uri)
    if command is None:
        return f"View it at {page}"
    masked = f" (your credentials in place of {MASK})" if MASK in command else ""
    return f"To view it, run this command{masked} and open the address:\n  {command}\n  {page}"


def mlflow_command() -> str:
    """``mlflow`` if that is this interpreter's, else the path of the one in the same environment.

    ``sys.executable`` may be empty, or an application that embeds Python, which is never the command.
    """
    for folder in (os.path.dirname(sys.executable or ""), os.path.join(sys.prefix, "bin")):
        program = os.path.join(folder, "mlflow")
        if folder and os.access(program, os.X_OK):
            return "mlflow" if shutil.which("mlflow") == program else shlex.quote(program)
    is_python = os.path.basename(sys.executable or "").lower().startswith(_INTERPRETERS)
    return f"{shlex.quote(sys.executable) if is_python else 'python'} -m mlflow"
