"""The same run on a second MLflow server, beside the run's own.

It has a cursor and an outbox of its own, so that the two runs share nothing but the records.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.destinations.mlflow.address import checked_address
from trackside.destinations.mlflow.destination import MLflowDestination
from trackside.errors import ConfigurationError
from trackside.journal.outbox import Outbox
from trackside.redaction.forms import mask_address
from trackside.redaction.redact import redact, with_credentials
from trackside.settings import absolute_tracking_uri, environment_address

if TYPE_CHECKING:
    from trackside.destinations.context import DestinationContext
    from trackside.journal.meta import Target


class MLflowMirror(MLflowDestination):
    """A run like the training's own, at ``tracking_uri``. An option that is not given is as for the own run.

    ``run_id`` resumes a run there. With a checkpoint directory the run's id is kept in
    ``<checkpoint_dir>/.<name>/mlflow_run_id``, so that a resumed training resumes this run, too. Give the
    credentials in ``tracking_uri`` (``http://user:password@host``). Those in the environment are sent to the
    first server only. Yours are not kept on disk. A later ``trackside sync`` takes them from
    ``MLFLOW_TRACKING_URI`` if that is the same address. Metrics of a logged model are plain metrics here,
    because the model is on the first server.
    """

    keeps_links = False

    def __init__(
        self,
        context: DestinationContext,
        *,
        tracking_uri: str,
        experiment_name: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        artifact_location: str | None = None,
    ) -> None:
        uri = with_credentials(tracking_uri, environment_address())
        # A relative path is relative to the folder the training was started in, which the shipper is in, too.
        uri = absolute_tracking_uri(uri)
        own = context.meta.target
        target = msgspec.structs.replace(
            own,
            tracking_uri=mask_address(uri),
            experiment_name=experiment_name or own.experiment_name,
            # An id is the other server's own.
            experiment_id=None if experiment_name or own.experiment_name else own.experiment_id,
            run_name=redact(run_name or own.run_name or "") or None,
            run_id=run_id,
            adopted="",
            required_run=run_id is not None,
            artifact_location=artifact_location,
            parent_run_id=None,
            parent_journal=None,
            checkpoint_dir=_checkpoint_dir(own, context.name),
        )
        super().__init__(
            replace(
                context,
                meta=msgspec.structs.replace(context.meta, target=target, after=()),
                notice=lambda text: context.notice(f"{context.name}: {text}"),
            ),
            uri,
            outbox=Outbox(context.journal, context.name),
        )

    @staticmethod
    def check_options(tracking_uri: Any, **_: Any) -> None:
        """Raise :class:`ConfigurationError` for a bad address."""
        if not isinstance(tracking_uri, str) or not tracking_uri.strip():
            raise ConfigurationError(
                f"destination 'mlflow': tracking_uri must be an address such as http://host:5000, "
                f"not {tracking_uri!r}"
            )
        checked_address(tracking_uri, "destination 'mlflow': tracking_uri")


def _checkpoint_dir(own: Target, name: str) -> str | None:
    return None if own.checkpoint_dir is None else str(Path(own.checkpoint_dir) / f".{name}")
