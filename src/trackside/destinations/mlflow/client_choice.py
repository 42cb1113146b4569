"""Which client a tracking store gets: REST without MLflow, or MLflow.

The rule, in one place. A server at ``http://`` or ``https://`` is talked to by REST, unless something in
this environment changes MLflow's requests in a way that only MLflow can follow. Then, and for everything that
is not such a server, MLflow is imported. Both ways deliver the same.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.settings import is_on
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = {
    "MLFLOW_TRACKING_AUTH": "names a plug-in that authenticates requests",
    "MLFLOW_TRACKING_AWS_SIGV4": "has requests signed for AWS",
    "MLFLOW_WORKSPACE": "names a workspace",
    "MLFLOW_ACTIVE_MODEL_ID": "links metrics to a model",
    "_MLFLOW_ACTIVE_MODEL_ID": "links metrics to a model",
    "DATABRICKS_RUNTIME_VERSION": "means that this is Databricks",
    "_MLFLOW_DATABRICKS_TRAFFIC_ID": "means that this is Databricks",
}
"""Variables with which MLflow makes other requests, and why."""

_PROXIED = "mlflow-artifacts"

_CHANGE_REQUESTS: dict[str, set[str] | None] = {
    "mlflow.request_header_provider": None,
    "mlflow.tracking_store": {"http", "https"},
}
"""Groups of entry points whose plug-ins change requests, with the names that count. None: all of them."""

_ARTIFACTS = "mlflow.artifact_repository"


def why_mlflow(uri: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Why the store at ``uri`` is reached through MLflow. None: it is talked to by REST."""
    if not is_server(uri):
        return "it is not a server at http:// or https://"
    if not read_environment(environment).rest_client:
        return "TRACKSIDE_REST_CLIENT is off"
    for name, reason in _VARIABLES.items():
        if is_on(name, environment):
            return f"{name} {reason}"
    return _plugin()


def is_proxied(artifact_uri: str) -> bool:
    """Whether the tracking server itself takes a run's artifacts. Any other store needs MLflow's clients."""
    scheme, _, place = artifact_uri.partition(":")
    if scheme != _PROXIED or place.startswith("//"):  # that of another server
        return False
    return (_ARTIFACTS, _PROXIED) not in _plugins()


def _plugin() -> str | None:
    for group, name in _plugins():
        wanted = _CHANGE_REQUESTS.get(group, set())
        if wanted is None or name in wanted:
            return f"the plug-in {name!r} ({group}) is installed"
    return None


@cache
def _plugins() -> tuple[tuple[str, str], ...]:
    """The installed plug-ins that matter here: group and name. Asked all the time, and reads 160 files."""
    installed = entry_points()
    groups = (*_CHANGE_REQUESTS, _ARTIFACTS)
    return tuple((group, found.name) for group in groups for found in installed.select(group=group))
