"""The same batches to MLflow's store and to ours: the same answers and the same tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tests.bulk_store.batches import INF, NAN, OLD, batches
from tests.bulk_store.pair import Batch, Pair
from tests.ends.harness import new_database

if TYPE_CHECKING:
    from pathlib import Path

RELAXED = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def sqlite_pair(directory: Path) -> Pair:
    """Two copies of a fresh database."""
    folders = directory / "stock", directory / "ours"
    for folder in folders:
        folder.mkdir()
    stock, ours = (new_database(folder) for folder in folders)
    return Pair(stock, f"trackside+{ours}")


POSTGRES = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=POSTGRES)])
def shared_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Databases for the whole module; each test takes runs of its own."""
    if request.param == "postgresql":
        pair: Pair = request.getfixturevalue("postgres_pair")
        return pair
    return sqlite_pair(tmp_path_factory.mktemp("pair"))


@RELAXED
@given(st.lists(batches, min_size=1, max_size=5))
def test_random_batches(shared_pair: Pair, given_batches: list[Batch]) -> None:
    """Whatever comes, in whatever order."""
    shared_pair.renew()
    for batch in given_batches:
        shared_pair.log(batch)
    shared_pair.compare()


def test_plain_metrics_do_not_take_mlflows_way(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here is not MLflow with itself."""

    def refuse(*arguments):
        raise AssertionError

    _, (ours, run_id) = pair.runs
    monkeypatch.setattr(SqlAlchemyStore, "log_batch", refuse)
    ours.log_batch(run_id, [Metric("loss", NAN, 1, 1), Metric("loss", INF, 1, 2)], [], [])
    ours.log_points(run_id, [("loss", float(step), 1, step) for step in range(5000)])
    with pytest.raises(AssertionError):
        ours.log_batch(run_id, [Metric("loss", 1.0, 1, 1)], [Param("lr", "1")], [])


@pytest.mark.skipif(OLD, reason="earlier MLflow refuses a NaN that is there already")
def test_nan_and_infinities_are_stored_as_mlflow_stores_them(pair: Pair) -> None:
    """NaN as 0 with a mark, infinities as the largest double; each once."""
    points = [Metric("loss", value, 1, 1) for value in (NAN, float("nan"), 0.0, INF, 1.7976931348623157e308)]
    assert pair.log(Batch([*points, Metric("loss", -INF, 1, 2)])) is None
    assert len(pair.compare()["metrics"]) == 4


def test_minus_zero(pair: Pair) -> None:
    """It has no sign in the table, on MLflow's way as on ours."""
    pair.log(Batch([Metric("loss", 0.0, 0, 0), Metric("loss", -0.0, 0, 1), Metric("loss", 0.0, 0, 1)]))
    assert len(pair.compare()["metrics"]) == 2


def test_sent_again_nothing_changes(pair: Pair) -> None:
    """A batch that was stored but not acknowledged comes once more, with new points among the old."""
    points = [Metric("loss", step / 3, step, step) for step in range(400)]
    pair.log(Batch(points))
    pair.log(Batch(points[100:300]))
    pair.log(Batch([*points[390:], Metric("loss", 5.0, 400, 400), Metric("acc", 1.0, 1, 1)]))
    assert len(pair.compare()["metrics"]) == 402


@pytest.mark.parametrize("order", [1, -1])
def test_the_latest_is_the_one_with_the_highest_step_then_time_then_value(pair: Pair, order: int) -> None:
    """Whichever came last, in one batch or in several."""
    points = [
        Metric("loss", value, timestamp, step)
        for step in (0, 1)
        for timestamp in (5, 6)
        for value in (-1.0, 0.0, NAN, 2.0)
    ][::order]
    for point in points:
        pair.log(Batch([point]))
    pair.log(Batch([Metric("all", point.value, point.timestamp, point.step) for point in points]))
    assert len(pair.compare()["latest_metrics"]) == 2


def test_limits_are_mlflows(pair: Pair) -> None:
    """1000 metrics, 100 params, 100 tags, 1000 in all; refused as a whole, in MLflow's words."""
    points = [Metric("loss", 1.0, 1, step) for step in range(1001)]
    params = [Param(f"p{i}", "v") for i in range(101)]
    tags = [RunTag(f"t{i}", "v") for i in range(101)]
    for batch in (
        Batch(points),
        Batch(points[:10], params),
        Batch(points[:10], (), tags),
        Batch(points[:950], params[:30], tags[:30]),
    ):
        assert pair.log(batch)[0] == "INVALID_PARAMETER_VALUE"
    assert pair.compare()["metrics"] == []
    assert pair.log(Batch(points[:800], params[:100], tags[:100])) is None
    assert len(pair.compare()["params"]) == 100


def test_a_changed_param_loses_the_metrics_of_its_batch(pair: Pair) -> None:
    """Params come first, and are committed by themselves."""
    pair.log(Batch([], [Param("lr", "1")]))
    code, message = pair.log(Batch([Metric("loss", 1.0, 1, 1)], [Param("lr", "2")], [RunTag("a", "b")]))
    assert (code, "Changing param values" in message) == ("INVALID_PARAMETER_VALUE", True)
    assert pair.compare()["metrics"] == []


@pytest.mark.parametrize("params", [[], [Param("lr", "1")]])
def test_deleted_and_unknown_runs(pair: Pair, params: list[Param]) -> None:
    """Refused with MLflow's code and words; nothing is stored."""
    batch = [Metric("loss", 1.0, 1, 1)]
    for wrong in ("0" * 32, "no run", "a" * 300, "", "bad\n", "nul\0"):
        wrong_runs = [(store, wrong) for store, _ in pair.runs]
        code, _ = pair.log(Batch(batch, params), runs=wrong_runs)
        assert code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
    pair.call(lambda store, run_id: store.delete_run(run_id))
    _, message = pair.log(Batch(batch, params))
    assert "must be in the 'active' state. Current state is deleted" in message
    assert pair.call(lambda store, run_id: store.log_metric(run_id, batch[0]))[1] == message
    assert pair.compare()["metrics"] == []
    pair.call(lambda store, run_id: store.restore_run(run_id))
    assert pair.log(Batch(batch, params)) is None
    assert len(pair.compare()["metrics"]) == 1


def test_metrics_of_models_and_datasets(pair: Pair) -> None:
    """They get their row in the models' table too, as MLflow writes it."""
    models = {}

    def log(store, run_id):
        model = models[run_id] = store.create_logged_model("0", "model", run_id).model_id
        linked = Metric("acc", 1.0, 1, 1, model_id=model, dataset_name="digits", dataset_digest="abc")
        unlinked = Metric("acc", 2.0, 1, 2, dataset_name="digits", dataset_digest="abc")
        for _ in range(2):
            store.log_batch(run_id, [linked, unlinked, Metric("loss", 1.0, 1, 1)], [], [])

    assert pair.call(log) is None
    found = pair.compare()
    assert len(found["metrics"]) == 3
    assert found["gains"]["logged_model_metrics"] == 1


def test_points_beyond_the_limit_of_a_batch(pair: Pair) -> None:
    """``log_points`` stores in one go what ``log_batch`` takes in several, and refuses in the same words."""
    points = [(f"m{i % 7}", i / 3, i, i // 7) for i in range(3500)]
    (stock, theirs), (ours, mine) = pair.runs
    for start in range(0, len(points), 1000):
        stock.log_batch(theirs, [Metric(*point) for point in points[start : start + 1000]], [], [])
    ours.log_points(mine, points)
    ours.log_points(mine, [])
    pair.compare()
    bad = [("loss", 1.0, 1, 1), ("bad#name", 1.0, 1, 1)]
    answers = []
    for log in (
        lambda: stock.log_batch(theirs, [Metric(*point) for point in bad], [], []),
        lambda: ours.log_points(mine, bad),
    ):
        with pytest.raises(Exception, match="Invalid value") as caught:
            log()
        answers.append((type(caught.value), str(caught.value)))
    assert answers[0] == answers[1]
    pair.compare()
