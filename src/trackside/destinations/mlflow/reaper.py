"""Closing the runs of machines that vanished, by their heartbeat.

Only runs that trackside made carry a heartbeat. One with a fresh heartbeat is left alone, and so is one whose
journal is here and whose process lives.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.destinations.mlflow.owner import parse_heartbeat
from trackside.names import chunks
from trackside.tag_names import END_HEARTBEAT_AGE_TAG, END_REASON_TAG, HEARTBEAT_TAG
from trackside.text import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PAGE = 500
"""Runs or experiments an answer holds."""

_EXPERIMENTS = 100
"""Experiments that one search covers."""


class StaleRun(msgspec.Struct, frozen=True):
    """A run that shows RUNNING though its heartbeat stopped."""

    run_id: str
    run_name: str
    experiment_id: str
    host: str
    silent_seconds: float
    heartbeat: str
    """The tag, as it was."""


def stale_runs(client: Any, *, older_than: float, alive: Collection[str] = ()) -> list[StaleRun]:
    """Runs whose heartbeat is older than ``older_than`` seconds, without those in ``alive``.

    ``client`` is an ``MlflowClient``. Raises what it raises.
    """
    now = time.time()
    found = []
    for run in _running(client):
        tag = run.data.tags.get(HEARTBEAT_TAG, "")
        beat = parse_heartbeat(tag)
        if beat is None or run.info.run_id in alive or now - beat[0] <= older_than:
            continue
        found.append(
            StaleRun(
                run_id=run.info.run_id,
                run_name=run.info.run_name or "",
                experiment_id=run.info.experiment_id,
                host=beat[1],
                silent_seconds=now - beat[0],
                heartbeat=tag,
            )
        )
    return found


def close_run(client: Any, stale: StaleRun) -> bool:
    """End the run as KILLED, as of its last heartbeat, and say why.

    False if it has ended since it was found, or has given a heartbeat.
    """
    run = client.get_run(stale.run_id)
    if run.info.status != "RUNNING" or run.data.tags.get(HEARTBEAT_TAG) != stale.heartbeat:
        return False
    silence = format_duration(stale.silent_seconds)
    reason = f"machine {stale.host} vanished: no heartbeat for {silence} (reaped)"
    client.set_tag(stale.run_id, END_REASON_TAG, reason)
    client.set_tag(stale.run_id, END_HEARTBEAT_AGE_TAG, f"{stale.silent_seconds:.0f}")
    last_sign_ms = int((time.time() - stale.silent_seconds) * 1000)
    client.set_terminated(stale.run_id, status="KILLED", end_time=last_sign_ms)
    client.delete_tag(stale.run_id, HEARTBEAT_TAG)
    return True


def _running(client: Any) -> Iterator[Any]:
    experiments = [experiment.experiment_id for experiment in _pages(client.search_experiments)]
    condition = "attributes.status = 'RUNNING'"
    for chunk in chunks(experiments, _EXPERIMENTS):
        yield from _pages(client.search_runs, chunk, condition)


def _pages(search: Any, *arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
