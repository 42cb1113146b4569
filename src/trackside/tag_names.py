"""The tags of a run that trackside reads or writes. Pure.

Names that begin with ``mlflow.`` are MLflow's own (``mlflow/utils/mlflow_tags.py``).
"""

from __future__ import annotations

DESCRIPTION_TAG = "mlflow.note.content"
"""What MLflow shows as the run's description, as Markdown."""

PARENT_RUN_TAG = "mlflow.parentRunId"
SOURCE_NAME_TAG = "mlflow.source.name"
SOURCE_TYPE_TAG = "mlflow.source.type"
SOURCE_COMMIT_TAG = "mlflow.source.git.commit"
USER_TAG = "mlflow.user"

JOURNAL_TAG = "trackside.journal"
"""The journal of the attempt that owns the run."""

OWNER_TAG = "trackside.owner"
"""The process that owns the run, while it lives."""

HEARTBEAT_TAG = "trackside.heartbeat"
"""The time of the owner's last sign of life, and its machine."""

ARTIFACT_TAG = "trackside.artifact"
"""On a logged model: the journal and the record that it was made for."""

ATTEMPT_TAG = "trackside.attempt"
SUMMARY_TAG = "trackside.summary"
CHANGED_PARAMS_TAG = "trackside.params.changed"

COUNT_PREFIX = "trackside."
"""Before the name of a count."""

END_PREFIX = "trackside.end."
"""Before what tells how an attempt ended."""

END_REASON_TAG = f"{END_PREFIX}reason"
END_EXCEPTION_TAG = f"{END_PREFIX}exception"
END_MESSAGE_TAG = f"{END_PREFIX}message"
END_SIGNAL_TAG = f"{END_PREFIX}signal"
END_EXIT_CODE_TAG = f"{END_PREFIX}exit_code"
END_OOM_TAG = f"{END_PREFIX}oom"
END_NOT_KEPT_TAG = f"{END_PREFIX}files_not_kept"
END_HEARTBEAT_AGE_TAG = f"{END_PREFIX}heartbeat_age_s"
