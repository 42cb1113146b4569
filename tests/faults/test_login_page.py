"""A gateway answers with a login page and 200, or sends writes elsewhere: nothing counts as delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.delivery import delivery, once_each, runs_in, steps_of
from tests.faults.fake import until
from tests.faults.proxy import Action, FaultProxy, Reply, answer
from trackside.destinations.mlflow.tags import counts_in
from trackside.lifecycle.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.tracking import MlflowClient

PAGE = Reply(200, {"Content-Type": "text/html"}, b"<!doctype html><html><body>Please sign in</body></html>")
PLACES = ["experiments/", "runs/create", "runs/get", "runs/log-batch", "runs/set-tag", "runs/update"]


@pytest.fixture(autouse=True)
def frequent_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new run has its first heartbeat from the start, and the next one comes after seconds."""
    monkeypatch.setattr("trackside.destinations.mlflow.heartbeat.HEARTBEAT_SECONDS", 0.5)


@pytest.fixture
def elsewhere() -> Iterator[FaultProxy]:
    """Another host, which answers everything with 200 and an empty JSON object."""
    proxy = FaultProxy("127.0.0.1:1")
    proxy.add(answer(Reply(200, {"Content-Type": "application/json"}, b"{}")))
    yield proxy
    proxy.close()


def deliver_through(proxy: FaultProxy, journals: Path, fault: Action, place: str) -> tuple[str, str | None]:
    """Deliver a run with ``fault`` at ``place`` from the start, healed later. Its id and experiment."""
    proxy.add(fault, lambda request: request.is_for(place))
    with delivery(journals, proxy.url) as rig:
        rig.configure({"lr": "0.1"})
        rig.emit(30)
        rig.worker.start()
        until(lambda: proxy.count(place) >= 2 or rig.worker.told is not None or place == "runs/update")
        if place == "runs/update":
            rig.evidence = Evidence(finished="FINISHED")
            until(lambda: proxy.count(place) >= 2)
        assert rig.worker.told is None
        proxy.heal()
        rig.finish()
    return rig.run_id, rig.meta.target.experiment_name


@pytest.mark.parametrize("place", PLACES)
def test_a_login_page_is_no_success(
    place: str, proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """Wherever it comes: everything is sent again and arrives once, in one run."""
    run_id, experiment = deliver_through(proxy, journals, answer(PAGE), place)
    check_run(client, run_id, experiment)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_writes_follow_no_redirect(
    status: int, proxy: FaultProxy, elsewhere: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """The other host's 200 proves nothing, and sees neither points nor credentials."""
    reply = Reply(status, {"Location": f"{elsewhere.url}/api/2.0/mlflow/runs/log-batch"}, b"")
    run_id, experiment = deliver_through(proxy, journals, answer(reply), "runs/log-batch")
    check_run(client, run_id, experiment)
    assert elsewhere.seen == []


@pytest.mark.parametrize("place", ["experiments/", "runs/create", "runs/log-batch", "runs/update"])
def test_an_empty_answer_is_no_success(
    place: str, proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """MLflow answers with JSON. A 200 with nothing in it is another server's."""
    run_id, experiment = deliver_through(proxy, journals, answer(Reply(200)), place)
    check_run(client, run_id, experiment)


def test_the_answer_of_another_is_no_proof(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """A proxy says ``{}`` to ``log-batch``, as MLflow does: the run is looked at, and all is sent again."""
    mine = Reply(200, {"Content-Type": "application/json"}, b"{}")
    fault = proxy.add(
        answer(mine), lambda request: request.is_for("log-batch") and b"metrics" in request.body
    )
    with delivery(journals, proxy.url) as rig:
        rig.configure({"lr": "0.1"})
        rig.emit(20)
        rig.worker.start()
        until(lambda: rig.worker.cursor.shipped == 20)
        fault.times = 0
        rig.emit(10, start=20)
        fault.times = None
        rig.evidence = Evidence(finished="FINISHED")
        until(lambda: "the run does not show them: loss" in rig.notices)
        assert rig.worker.told is None
        proxy.heal()
        rig.finish()
    check_run(client, rig.run_id, rig.meta.target.experiment_name)


def check_run(client: MlflowClient, run_id: str, experiment: str | None) -> None:
    """All of it is there, once."""
    (run,) = runs_in(client, experiment)
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1"}
    assert counts_in(run.data.tags) == {"emitted": 30, "shipped": 30}
    assert steps_of(client, run_id) == once_each(30)
