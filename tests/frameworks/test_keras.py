"""Keras with the callback, on the torch backend: which run it gets, and what is in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")

import keras
import numpy as np

import trackside
from tests.frameworks.offline import params, place, steps, values  # noqa: F401 - a fixture
from trackside.integrations.keras import TracksideCallback

if TYPE_CHECKING:
    from trackside.session.run import Run

pytestmark = [pytest.mark.frameworks, pytest.mark.outside, pytest.mark.filterwarnings("default")]

X, Y = np.ones((32, 2), "float32"), np.ones((32, 1), "float32")


def model(**options: Any) -> keras.Model:
    """A layer of three parameters."""
    made = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    made.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse", metrics=["mae"], **options)
    return made


def fit(callback: TracksideCallback, made: keras.Model | None = None, **options: Any) -> keras.Model:
    """Two epochs of eight batches."""
    made = made or model()
    made.fit(X, Y, **{"epochs": 2, "batch_size": 4, "verbose": 0, "callbacks": [callback], **options})
    return made


def run_of(callback: TracksideCallback) -> Run:
    """The run of the latest training."""
    assert callback.run is not None
    return callback.run


def test_epochs() -> None:
    """Training and validation apart, the learning rate, and the configuration."""
    callback = TracksideCallback(experiment_name="tiny")
    made = fit(callback, validation_data=(X, Y))
    run = run_of(callback)
    for name in ("train/loss", "train/mae", "val/loss", "val/mae", "train/learning_rate"):
        assert steps(run, name) == [0, 1], name
    assert values(run, "train/learning_rate") == pytest.approx([0.01, 0.01])
    assert steps(run, "test/loss") == []
    found = params(run)
    assert (found["fit.epochs"], found["model.num_parameters"]) == ("2", "3")
    assert float(found["optimizer.learning_rate"]) == pytest.approx(0.01)
    made.evaluate(X, Y, verbose=0, callbacks=[callback])
    assert steps(run, "test/loss") == [1]
    assert run is trackside.current_run()


def test_batches() -> None:
    """Every so many, counted over the epochs, with the epoch as a metric."""
    callback = TracksideCallback(every_n_batches=4)
    fit(callback)
    run = run_of(callback)
    assert steps(run, "batch/loss") == [4, 8, 12, 16]
    assert steps(run, "train/loss") == steps(run, "epoch") == [8, 16]


def test_several_batches_at_once() -> None:
    """Other backends call once for so many (``steps_per_execution``), with the number of the last one.

    The last call of an epoch may be one of fewer batches, so it may be logged without need.
    """
    callback = TracksideCallback(every_n_batches=4)
    callback.set_model(model(steps_per_execution=3))
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in (2, 5, 8, 9):
            callback.on_train_batch_end(batch, {"loss": 1.0})
        callback.on_epoch_end(epoch, {"loss": 1.0})
    callback.on_train_end()
    assert steps(run_of(callback), "batch/loss") == [6, 9, 10, 13, 16, 20]
    assert steps(run_of(callback), "train/loss") == [10, 20]


def test_keras_does_not_wait_for_the_callback() -> None:
    """It calls callbacks on its threads, if none of them minds."""
    for callback in (TracksideCallback(), TracksideCallback(every_n_batches=1)):
        assert keras.callbacks.CallbackList([callback])._async_train


def test_each_fit_has_a_run_and_a_continued_one_shares_it() -> None:
    """Two phases of one training, by ``initial_epoch``."""
    callback = TracksideCallback(every_n_batches=8)
    made = fit(callback)
    first = run_of(callback)
    fit(callback, made, initial_epoch=2, epochs=3)
    assert run_of(callback) is first
    assert steps(first, "batch/loss") == [8, 16, 24]
    fit(callback)
    assert run_of(callback) is not first
    assert first.status == "FINISHED"
    assert steps(run_of(callback), "batch/loss") == [8, 16]


def test_a_run_of_the_program_is_used_and_not_ended() -> None:
    """It has what both log."""
    with trackside.start("mine", config={"seed": 7}) as run:
        fit(TracksideCallback())
        assert run.is_recording
        assert steps(run, "train/loss") == [0, 1]
        assert params(run)["seed"] == "7"


def test_a_training_that_raises_has_failed() -> None:
    """Whatever the program does then. One that stops early has not."""

    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise ValueError("a bad batch")

    callback = TracksideCallback()
    with pytest.raises(ValueError, match="a bad batch"):
        fit(callback, callbacks=[callback, Failing()])
    failed = run_of(callback)
    early = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    fit(callback, callbacks=[callback, early], epochs=5)
    stopped = run_of(callback)
    fit(callback)
    assert (failed.status, stopped.status) == ("FAILED", "FINISHED")


def test_an_evaluation_alone_has_a_run() -> None:
    """A program that only evaluates."""
    callback = TracksideCallback()
    model().evaluate(X, Y, verbose=0, callbacks=[callback])
    assert steps(run_of(callback), "test/mae") == [0]


def test_a_wrong_option() -> None:
    """Is told at once."""
    with pytest.raises(ValueError, match="every_n_batches must be 1 or more"):
        TracksideCallback(every_n_batches=0)
