"""XGBoost and LightGBM: real trainings, and what is logged of them."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from trackside.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.testing import MemorySink

np: Any = pytest.importorskip("numpy")
pytestmark = [pytest.mark.frameworks, pytest.mark.outside]


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemorySink]:
    """What is logged."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")  # or joblib warns that it cannot count
    with capture() as sink:
        yield sink
        trackside.finish()


def data() -> tuple[Any, Any]:
    """A table that can be learned."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    return x, (x[:, 0] + x[:, 1] > 0).astype(int)


def matrix(xgboost: Any, noise: float = 0.0) -> Any:
    """The same for XGBoost."""
    x, y = data()
    return xgboost.DMatrix(x + noise, y)


def test_xgboost_logs_each_round(sink: MemorySink) -> None:
    """By data set and metric, with the parameters. The values are those that XGBoost returns."""
    xgboost = pytest.importorskip("xgboost")
    from trackside.integrations.xgboost import TracksideCallback

    result: dict[str, Any] = {}
    train = matrix(xgboost)
    xgboost.train(
        {"max_depth": 2, "objective": "binary:logistic", "eval_metric": ["logloss", "error"]},
        train,
        num_boost_round=5,
        evals=[(train, "train"), (matrix(xgboost, 0.3), "valid")],
        evals_result=result,
        callbacks=[TracksideCallback(experiment_name="trees")],
        verbose_eval=False,
    )
    assert sink.names == {"train/logloss", "train/error", "valid/logloss", "valid/error"}
    assert sink.values("valid/logloss") == pytest.approx(result["valid"]["logloss"])
    assert [step for step, _ in sink.metrics("valid/logloss")] == [0, 1, 2, 3, 4]
    assert (sink.config["max_depth"], sink.config["objective"]) == ("2", "binary:logistic")


def test_xgboost_stops_early_and_continues(sink: MemorySink) -> None:
    """The best round is logged, and the last one always. A continued training counts on."""
    xgboost = pytest.importorskip("xgboost")
    from trackside.integrations.xgboost import TracksideCallback

    train = matrix(xgboost)
    options: dict[str, Any] = {"evals": [(matrix(xgboost, 0.5), "valid")], "verbose_eval": False}
    params = {"objective": "binary:logistic", "max_depth": 6, "eta": 1.0}
    model = xgboost.train(
        params, train, 50, early_stopping_rounds=3, callbacks=[TracksideCallback(7)], **options
    )
    assert sink.last("best_iteration") == model.best_iteration
    assert sink.last("best_score") == pytest.approx(model.best_score)
    rounds = model.num_boosted_rounds()
    assert sink.metrics("valid/logloss")[-1][0] == rounds - 1
    xgboost.train(params, train, 2, xgb_model=model, callbacks=[TracksideCallback()], **options)
    assert [step for step, _ in sink.metrics("valid/logloss")][-2:] == [rounds, rounds + 1]


def test_xgboost_cross_validation(sink: MemorySink) -> None:
    """Means and deviations."""
    xgboost = pytest.importorskip("xgboost")
    from trackside.integrations.xgboost import TracksideCallback

    params = {"objective": "binary:logistic"}
    xgboost.cv(params, matrix(xgboost), 3, nfold=3, callbacks=[TracksideCallback()], metrics="error")
    assert {"train/error", "test/error", "test/error_std"} <= sink.names
    assert len(sink.values("test/error")) == 3


def test_estimators_copy_their_callbacks(sink: MemorySink) -> None:
    """scikit-learn clones estimators and pickles them, callbacks included."""
    xgboost = pytest.importorskip("xgboost")
    sklearn = pytest.importorskip("sklearn.model_selection")
    from trackside.integrations.xgboost import TracksideCallback

    x, y = data()
    model = xgboost.XGBClassifier(n_estimators=2, callbacks=[TracksideCallback()])
    model.fit(x, y, eval_set=[(x, y)], verbose=False)
    copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    sklearn.cross_val_score(model, x, y, cv=2, params={"eval_set": [(x, y)], "verbose": False})
    assert len(sink.values("validation_0/logloss")) == 6


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_lightgbm_logs_each_round(sink: MemorySink) -> None:
    """Also those before an early stop, and with scikit-learn's interface."""
    lightgbm = pytest.importorskip("lightgbm")
    from trackside.integrations.lightgbm import TracksideCallback

    x, y = data()
    result: dict[str, Any] = {}
    train = lightgbm.Dataset(x, y)
    lightgbm.train(
        {"objective": "binary", "metric": ["binary_logloss", "auc"], "verbose": -1, "num_leaves": 4},
        train,
        num_boost_round=60,
        valid_sets=[lightgbm.Dataset(x + 0.5, y, reference=train)],
        valid_names=["valid"],
        callbacks=[
            TracksideCallback(),
            lightgbm.early_stopping(2, verbose=False),
            lightgbm.record_evaluation(result),
        ],
    )
    assert sink.values("valid/binary_logloss") == pytest.approx(result["valid"]["binary_logloss"])
    assert sink.metrics("valid/auc")[0][0] == 0
    assert sink.config["num_leaves"] == 4
    sink.clear()
    estimator = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)
    estimator.fit(x, y, eval_set=[(x, y)], callbacks=[TracksideCallback(2)])
    assert [step for step, _ in sink.metrics(f"{next(iter(sink.names)).split('/')[0]}/binary_logloss")] == [
        0,
        2,
    ]


def test_lightgbm_cross_validation(sink: MemorySink) -> None:
    """Means and deviations."""
    lightgbm = pytest.importorskip("lightgbm")
    from trackside.integrations.lightgbm import TracksideCallback

    x, y = data()
    lightgbm.cv(
        {"objective": "binary", "verbose": -1},
        lightgbm.Dataset(x, y),
        num_boost_round=3,
        nfold=2,
        callbacks=[TracksideCallback()],
    )
    assert any(name.endswith("binary_logloss_std") for name in sink.names)
