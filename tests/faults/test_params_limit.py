"""A server that limits params gets few requests, the user one warning, and the metrics come first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.delivery import delivery, new_meta, once_each, steps_of
from tests.faults.proxy import FaultProxy, Forward, Reply, Request
from trackside.destinations.mlflow.changed_params import ChangedParams
from trackside.destinations.mlflow.claim import RunClaim
from trackside.destinations.mlflow.connection import Connection
from trackside.destinations.mlflow.params import MOST_IN_A_ROW, MOST_REFUSALS, ConfigWriter
from trackside.destinations.mlflow.record import RunRecord
from trackside.errors import RejectedError
from trackside.journal.format import ConfigRecord
from trackside.journal.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow.tracking import MlflowClient

LIMIT = 200


class Limited:
    """Lets ``LIMIT`` params through the proxy, as a server with a quota would."""

    def __init__(self) -> None:
        self.taken = self.asked = 0

    def __call__(self, request: Request, forward: Forward) -> Reply:
        count = len(_params(request))
        self.asked += 1
        if self.taken + count > LIMIT:
            return Reply.error(400, "INVALID_PARAMETER_VALUE", f"a run has at most {LIMIT} params")
        self.taken += count
        return forward()


def _params(request: Request) -> list[Any]:
    if not request.is_for("log-batch"):
        return []
    return list(json.loads(request.body).get("params") or [])


def test_a_limit_on_the_number_of_params(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """450 against 200: the first 200 arrive in about as many requests as without a limit, metrics before."""
    limit = Limited()
    proxy.add(limit, lambda request: bool(_params(request)))
    with delivery(journals, proxy.url) as rig:
        rig.configure({f"p{i:03}": str(i) for i in range(450)})
        rig.emit(20)
        rig.deliver()
    run = client.get_run(rig.run_id)
    assert len(run.data.params) == LIMIT
    assert run.info.status == "FINISHED"
    assert steps_of(client, rig.run_id) == once_each(20)
    assert limit.asked <= MOST_IN_A_ROW + 3
    (notice,) = (text for text in rig.progress.state.notices if "params" in text)
    assert "refused 250 of 450 params (p200, p201" in notice
    assert "and 240 more" in notice
    bodies = [seen.request.body for seen in proxy.seen if seen.request.is_for("log-batch")]
    first_metrics = next(i for i, body in enumerate(bodies) if b'"loss"' in body)
    first_params = next(i for i, body in enumerate(bodies) if b'"p000"' in body)
    assert first_metrics < first_params


class Limits(Connection):
    """Keeps params, and refuses requests with a key in ``bad``."""

    def __init__(self, *bad: str) -> None:  # no super(): it connects to nothing
        self.bad = set(bad)
        self.params: dict[str, str] = {}
        self.requests = 0

    def known_params(self) -> dict[str, str]:
        return self.params

    def log_params(self, params: Mapping[str, str]) -> None:
        self.requests += 1
        if self.bad & set(params):
            raise RejectedError(f"{min(self.bad & set(params))} is bad")
        self.params.update(params)


def new_writer(store: Limits, place: Path, notices: list[str]) -> ConfigWriter:
    """Of a run that this attempt does not own."""
    outbox = Outbox(place)
    record = RunRecord("j", save=lambda: None, publish=dict, notice=notices.append)
    claim = RunClaim(new_meta("sqlite://"), store, record=record, outbox=outbox)
    changed = ChangedParams(store, claim, notice=notices.append)
    return ConfigWriter(store, changed, outbox, name="config.yaml", notice=notices.append)


@pytest.mark.parametrize("bad", [["p42"], ["p42", "p43", "p44"], [f"p{i:02}" for i in range(0, 100, 9)]])
def test_bad_params_take_no_good_one_with_them(tmp_path: Path, bad: list[str]) -> None:
    """One, three in a row, a dozen here and there: all others are set, in a bounded number of requests."""
    store, notices = Limits(*bad), list[str]()
    writer = new_writer(store, tmp_path, notices)
    params = {f"p{i:02}": str(i) for i in range(100)}
    writer.write(ConfigRecord(0, 1, params, dict(params)))
    assert set(params) - set(store.params) == set(bad)
    assert store.requests < 2 * MOST_REFUSALS
    (notice,) = notices
    assert f"{len(bad)} of 100 params" in notice


def test_a_server_that_refuses_every_param(tmp_path: Path) -> None:
    """Thousands of them cost no more requests than it takes to see that."""
    params = {f"p{i:04}": str(i) for i in range(5000)}
    store, notices = Limits(*params), list[str]()
    writer = new_writer(store, tmp_path, notices)
    writer.write(ConfigRecord(0, 1, params, dict(params)))
    assert store.requests <= MOST_IN_A_ROW
    assert len(notices) == 1
