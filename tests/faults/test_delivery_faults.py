"""One fault of the server a test, against the real destination: every point once, or accounted for."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import ViewType

from tests.faults.delivery import delivery, new_meta, once_each, runs_in, steps_of
from tests.faults.fake import until
from tests.faults.proxy import (
    FaultProxy,
    Forward,
    Reply,
    Request,
    answer,
    cut,
    cut_behind_commit,
    slow,
)
from trackside.destinations.mlflow.tags import counts_in
from trackside.lifecycle.evidence import Evidence
from trackside.shipper.retry import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.tracking import MlflowClient


def of_metrics(request: Request) -> bool:
    """Whether points of ``loss`` are in the request."""
    return request.is_for("log-batch") and b'"loss"' in request.body


PASSING = {
    "500": answer(Reply.error(500, "INTERNAL_ERROR", "oops")),
    "502 of a gateway": answer(Reply(502, {}, b"<html>bad gateway</html>")),
    "503": answer(Reply.error(503, "TEMPORARILY_UNAVAILABLE", "database is locked")),
    "404 of an ingress": answer(Reply(404, {}, b"default backend - 404")),
    "pool exhausted": answer(
        Reply.error(400, "BAD_REQUEST", "QueuePool limit (https://sqlalche.me/e/20/3o7r)")
    ),
    "login page": answer(Reply(200, {}, b"<html>log in</html>")),
    "reset": cut,
    "cut behind the commit": cut_behind_commit,
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault(proxy: FaultProxy, client: MlflowClient, journals: Path, fault: str) -> None:
    """However it shows: tried again until it works, nothing doubled, nothing rejected."""
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(PASSING[fault], times=5)
        rig.emit(300)
        rig.finish()
    assert steps_of(client, rig.run_id) == once_each(300)
    assert not rig.journal.rejected.exists()
    tags = client.get_run(rig.run_id).data.tags
    assert counts_in(tags) == {"emitted": 300, "shipped": 300}


@pytest.mark.parametrize("fault", ["reset", "cut behind the commit"])
def test_faults_while_the_run_is_made(
    proxy: FaultProxy, client: MlflowClient, journals: Path, fault: str
) -> None:
    """The first tries to create experiment and run are cut: one experiment, one run all the same."""
    for path in ("experiments/create", "runs/create"):
        proxy.add(PASSING[fault], lambda r, path=path: r.is_for(path), times=2)  # type: ignore[misc]
    with delivery(journals, proxy.url) as rig:
        rig.emit(5)
        rig.deliver()
    (run,) = runs_in(client, rig.meta.target.experiment_name, ViewType.ALL)
    assert run.info.run_id == rig.run_id
    assert steps_of(client, rig.run_id) == once_each(5)
    assert not rig.progress.state.run.resumed if rig.progress.state.run else False


def test_a_server_that_names_its_time(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """429 with Retry-After: nothing is sent before, whoever nudges."""
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(answer(Reply(429, {"Retry-After": "2"})), of_metrics, times=2)
        rig.emit(10)
        until(lambda: proxy.count("log-batch", status=429) == 1)
        for _ in range(20):
            rig.worker.calls.wake.set()
            time.sleep(0.02)
        rig.finish()
    times = [seen.at for seen in proxy.seen if of_metrics(seen.request)]
    assert len(times) == 3
    assert all(later - earlier >= 2 for earlier, later in pairwise(times))
    assert steps_of(client, rig.run_id) == once_each(10)


def test_one_poisonous_metric_among_a_thousand(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """That point alone is rejected, with the server's words, and counted in the run's tags."""
    refusal = Reply.error(400, "INVALID_PARAMETER_VALUE", "we don't like this one")
    proxy.add(answer(refusal), lambda r: r.is_for("log-batch") and b'"poison"' in r.body)
    with delivery(journals, proxy.url) as rig:
        rig.emit(500)
        rig.emit(1, start=500, poison=3.0)
        rig.emit(499, start=501)
        rig.deliver()
    assert steps_of(client, rig.run_id) == once_each(1000)
    (line,) = rig.journal.rejected.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["metrics"], entry["step"]) == ({"poison": 3.0}, 500)
    assert "we don't like this one" in entry["error"]
    tags = client.get_run(rig.run_id).data.tags
    assert counts_in(tags) == {"emitted": 1001, "shipped": 1000, "rejected": 1}
    assert tags["trackside.rejected"] == "1"


def test_a_gateway_with_a_smaller_limit(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """413: the batch is halved until it fits. Nothing is rejected."""
    proxy.add(answer(Reply(413, {}, b"too large")), lambda r: len(r.body) > 20_000)
    with delivery(journals, proxy.url) as rig:
        rig.emit(1000)
        rig.deliver()
    assert steps_of(client, rig.run_id) == once_each(1000)
    assert not rig.journal.rejected.exists()


def test_credentials_mended_meanwhile(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """Refused in the middle of the run: tried slowly, told once, and all arrives when it is mended."""
    with delivery(journals, proxy.url) as rig:
        rig.worker = rig.new_worker(Policy(base=0.002, cap=0.01, unauthorised_floor=0.5))
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(answer(Reply(401, {}, b"who are you?")), times=3)
        rig.emit(100)
        rig.finish()
    times = [seen.at for seen in proxy.seen if seen.status == 401]
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))
    assert steps_of(client, rig.run_id) == once_each(100)
    assert rig.notices.count("MLflow refuses the credentials") == 1


def test_bad_credentials_long_after_the_start_are_waited_for(
    proxy: FaultProxy, client: MlflowClient, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``start()`` has given up waiting and training runs: no refusal may end the shipper now."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "0")
    proxy.add(answer(Reply(403, {}, b"not you")), times=3)
    with delivery(journals, proxy.url) as rig:
        rig.emit(10)
        rig.deliver()
    assert steps_of(client, rig.run_id) == once_each(10)


def test_a_slow_server_gets_large_batches(proxy: FaultProxy, client: MlflowClient, journals: Path) -> None:
    """A second a request: what is emitted meanwhile travels together."""
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(slow(1.0), of_metrics)
        for start in range(0, 3000, 100):
            rig.emit(100, start=start)
            time.sleep(0.05)
        until(lambda: rig.worker.cursor.shipped == 3000, 60)
        proxy.heal()
        rig.finish()
    assert steps_of(client, rig.run_id) == once_each(3000)
    assert sum(of_metrics(seen.request) for seen in proxy.seen) <= 6


def test_a_hanging_server_is_given_up_soon(
    proxy: FaultProxy, client: MlflowClient, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the request's timeout, not after minutes. What it took behind our back is not doubled."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(proxy.hang_behind_commit, of_metrics, times=2)
        rig.emit(100)
        until(lambda: rig.worker.cursor.shipped == 100, 30)
        rig.finish()
    assert sum(of_metrics(seen.request) for seen in proxy.seen) >= 3
    assert steps_of(client, rig.run_id) == once_each(100)


@pytest.mark.parametrize("fault", ["500", "hang"])
def test_artifacts_that_cannot_be_uploaded_hold_nothing_up(
    proxy: FaultProxy, client: MlflowClient, journals: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics and status arrive at once. The worker says what waits, and tries until it is told to go."""
    monkeypatch.setattr("trackside.destinations.mlflow.destination.LAST_UPLOAD_SECONDS", 2.0)
    action = proxy.hang if fault == "hang" else PASSING["500"]
    proxy.add(action, lambda r: r.is_for("mlflow-artifacts"))
    with delivery(journals, proxy.url) as rig:
        rig.configure({"lr": "0.1"})
        rig.emit(100)
        rig.worker.start()
        until(lambda: rig.worker.cursor.shipped == 100, 10)
        rig.evidence = Evidence(finished="FINISHED")
        until(lambda: rig.worker.finished, 10)
        until(lambda: "config.yaml" in (rig.worker.failing or ""), 10)
        rig.worker.calls.stop()
        rig.join(10)
    run = client.get_run(rig.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
    assert steps_of(client, rig.run_id) == once_each(100)
    assert (rig.journal.path / "artifacts" / "config.yaml").read_text() == "lr: '0.1'\n"


def test_artifacts_are_uploaded_when_the_store_is_back(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """A few failures are not worth a word."""
    proxy.add(PASSING["500"], lambda r: r.is_for("mlflow-artifacts"), times=1)
    with delivery(journals, proxy.url) as rig:
        rig.configure({"lr": "0.1"})
        rig.worker.start()
        until(lambda: [a.path for a in client.list_artifacts(rig.run_id)] == ["config.yaml"]
              if rig.progress.state.run else False, 60)  # fmt: skip
        rig.finish()
    assert rig.notices == ""


def test_two_jobs_make_the_same_experiment_at_once(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """Both see none and create it. The one that comes second continues with the first one's."""
    both = threading.Barrier(2)

    def together(_request: Request, forward: Forward) -> Reply:
        both.wait(30)
        return forward()

    proxy.add(together, lambda r: r.is_for("experiments/create"))
    first = new_meta(proxy.url)
    with (
        delivery(journals, proxy.url, meta=first) as one,
        delivery(journals, proxy.url, experiment_name=first.target.experiment_name) as other,
    ):
        one.worker.start()
        other.worker.start()
        for rig in (one, other):
            rig.emit(3)
            rig.finish()
    runs = {run.info.run_id for run in runs_in(client, first.target.experiment_name)}
    assert runs == {one.run_id, other.run_id}
    assert proxy.count("experiments/create", status=400) == 1


def test_a_tag_the_server_refuses_is_named_at_the_start(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """The user's mistake, told at ``start()`` (MLflow checks the tags of a run that there is)."""
    run_id = client.create_run("0").info.run_id
    with delivery(journals, proxy.url, run_id=run_id, required_run=True, tags={"bad@tag": "x"}) as rig:
        rig.worker.start()
        rig.join(60)
    assert "bad@tag" in (rig.worker.refused or "")


def test_end_tags_that_are_refused_do_not_keep_the_run_running(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """The status matters more than the reason."""
    refusal = Reply.error(400, "INVALID_PARAMETER_VALUE", "no such tags")
    proxy.add(answer(refusal), lambda r: r.is_for("log-batch") and b"trackside.end" in r.body)
    with delivery(journals, proxy.url) as rig:
        rig.deliver()
    assert client.get_run(rig.run_id).info.status == "FINISHED"
    assert "no such tags" in rig.notices


def test_a_crash_is_told_though_the_server_was_away(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """The trainer dies during an outage: FAILED, with the time of its death."""
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(cut)
        rig.emit(50)
        died = time.time_ns() // 1_000_000
        rig.evidence = Evidence(dead=True, died_ms=died)
        rig.worker.reader.writer_dead = True
        until(lambda: rig.worker.failing is not None)
        time.sleep(0.5)
        proxy.heal()
        rig.join(60)
    info = client.get_run(rig.run_id).info
    assert (info.status, info.end_time) == ("FAILED", died)
    assert steps_of(client, rig.run_id) == once_each(50)


def test_a_run_that_finished_during_an_outage_ended_then(
    proxy: FaultProxy, client: MlflowClient, journals: Path
) -> None:
    """A notebook lives on after ``finish()``. The server hears of it when it is back."""
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(cut)
        ended = time.time_ns() // 1_000_000 - 60_000
        rig.evidence = Evidence(finished="FINISHED", ended_ms=ended)
        until(lambda: rig.worker.failing is not None)
        proxy.heal()
        rig.join(60)
    assert client.get_run(rig.run_id).info.end_time == ended
