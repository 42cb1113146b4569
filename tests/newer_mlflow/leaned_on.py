"""What of MLflow trackside calls or overrides.

A definition is *followed* where trackside does the same work in its place, or depends on how it does it. A
change anywhere below it matters then: the bulk store writes the rows that ``log_batch`` would write.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

STORE = "mlflow.store.tracking.sqlalchemy_store"


class Leaning(NamedTuple):
    """A definition in MLflow, as ``module:name`` or ``module:class.method``, and our file that needs it."""

    name: str
    user: str
    how: Literal["itself", "followed", "abstract"] = "itself"
    """What is compared: the definition, all that it reaches, too, or which methods a subclass must define."""


BULK = "src/trackside/bulk_store/store.py"
STOCK = "src/trackside/bulk_store/stock.py"
POINTS = "src/trackside/bulk_store/points.py"
PLUGIN = "src/trackside/bulk_store/plugin.py"
CONNECTION = "src/trackside/destinations/mlflow/connection.py"
NULL_STORE = "src/trackside/null_store/tracking.py"
JOURNAL_STORE = "src/trackside/journal_store/store.py"
INNER_STORES = "src/trackside/journal_store/stock.py"

LEANED_ON = (
    Leaning(f"{STORE}:SqlAlchemyStore.log_batch", BULK, how="followed"),
    Leaning(f"{STORE}:SqlAlchemyStore.log_metric", BULK, how="followed"),
    Leaning(f"{STORE}:SqlAlchemyStore.sanitize_metric_value", POINTS),
    Leaning(f"{STORE}:SqlAlchemyStore.__init__", BULK),
    Leaning("mlflow.store.db.utils:_get_managed_session_maker", STOCK, how="followed"),
    Leaning("mlflow.store.tracking.dbmodels.models:SqlMetric", "src/trackside/bulk_store/tables.py"),
    Leaning("mlflow.store.tracking.dbmodels.models:SqlLatestMetric", "src/trackside/bulk_store/tables.py"),
    Leaning("mlflow.store.tracking.dbmodels.models:SqlRun", "src/trackside/bulk_store/tables.py"),
    Leaning("mlflow.utils.validation:_validate_metric", POINTS, how="followed"),
    Leaning("mlflow.utils.validation:_validate_run_id", POINTS, how="followed"),
    Leaning("mlflow.utils.validation:_validate_tag", POINTS, how="followed"),
    Leaning("mlflow.utils.validation:_validate_batch_log_limits", BULK, how="followed"),
    Leaning("mlflow.utils.validation:MAX_ENTITIES_PER_BATCH", BULK),
    Leaning("mlflow.utils.validation:MAX_METRICS_PER_BATCH", BULK),
    Leaning("mlflow.utils.validation:MAX_PARAMS_TAGS_PER_BATCH", BULK),
    Leaning("mlflow.store.tracking:DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH", STOCK),
    Leaning("mlflow.tracking._tracking_service.utils:_get_sqlalchemy_store", PLUGIN),
    Leaning("mlflow.store.model_registry.sqlalchemy_store:SqlAlchemyStore.__init__", PLUGIN),
    Leaning(
        "mlflow.store.tracking.sqlalchemy_workspace_store:WorkspaceAwareSqlAlchemyStore.__init__", PLUGIN
    ),
    Leaning(
        "mlflow.store.model_registry.sqlalchemy_workspace_store:WorkspaceAwareSqlAlchemyStore.__init__",
        PLUGIN,
    ),
    Leaning("mlflow.tracking.fluent:get_active_model_id", CONNECTION),
    Leaning("mlflow.store.tracking.rest_store:RestStore.__init__", CONNECTION),
    Leaning("mlflow.store.tracking.rest_store:RestStore.log_batch", CONNECTION),
    Leaning("mlflow.tracking._tracking_service.client:TrackingServiceClient.store", CONNECTION),
    Leaning("mlflow.tracking._tracking_service.client:TrackingServiceClient.log_batch", CONNECTION),
    Leaning("mlflow.utils.rest_utils:http_request", CONNECTION, how="followed"),
    Leaning("mlflow.utils.rest_utils:verify_rest_response", CONNECTION, how="followed"),
    Leaning("mlflow.utils.rest_utils:call_endpoint", CONNECTION),
    Leaning("mlflow.exceptions:MlflowException", "src/trackside/destinations/mlflow/errors.py"),
    Leaning("mlflow.exceptions:RestException", "src/trackside/destinations/mlflow/errors.py"),
    Leaning("mlflow.server.handlers:_log_batch", CONNECTION, how="followed"),
    Leaning(
        "mlflow.system_metrics.system_metrics_monitor:SystemMetricsMonitor",
        "src/trackside/destinations/mlflow/system_metrics.py",
    ),
    Leaning(
        "mlflow.store.artifact.artifact_repository_registry:get_artifact_repository",
        "src/trackside/destinations/mlflow/upload.py",
    ),
    Leaning("mlflow.store.tracking.abstract_store:AbstractStore", NULL_STORE, how="abstract"),
    Leaning("mlflow.store.model_registry.abstract_store:AbstractStore", NULL_STORE, how="abstract"),
    Leaning("mlflow.store.artifact.artifact_repo:ArtifactRepository", NULL_STORE, how="abstract"),
    Leaning("mlflow.store.entities.paged_list:PagedList", NULL_STORE),
    Leaning("mlflow.utils.async_logging.run_operations:RunOperations", JOURNAL_STORE),
    Leaning("mlflow.utils.mlflow_tags:MLFLOW_PARENT_RUN_ID", JOURNAL_STORE),
    Leaning("mlflow.utils.mlflow_tags:MLFLOW_RUN_NAME", JOURNAL_STORE),
    Leaning("mlflow.utils.mlflow_tags:MLFLOW_SOURCE_NAME", JOURNAL_STORE),
    Leaning("mlflow.protos.databricks_pb2:INVALID_PARAMETER_VALUE", "src/trackside/journal_store/texts.py"),
    Leaning("mlflow.tracking._tracking_service.utils:_tracking_store_registry", INNER_STORES),
    Leaning("mlflow.tracking._model_registry.utils:_get_store_registry", INNER_STORES),
    Leaning("mlflow.store.model_registry.rest_store:RestStore.__init__", INNER_STORES),
    Leaning("mlflow.utils.credentials:get_default_host_creds", INNER_STORES),
    Leaning(
        "mlflow.store.artifact.artifact_repository_registry:get_registered_artifact_repositories",
        "src/trackside/journal_store/artifacts.py",
    ),
)
