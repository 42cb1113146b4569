"""Which of MLflow's metrics become samples, and which are left to MLflow's own store."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trackside.events import LinkedSample, MetricLink
from trackside.journal_store.points import samples_of


def metric(key: Any, value: Any, step: Any = 1, timestamp: Any = 10, **link: str | None) -> SimpleNamespace:
    """A metric as MLflow's client hands it to a store."""
    links = {"model_id": None, "dataset_name": None, "dataset_digest": None, **link}
    return SimpleNamespace(key=key, value=value, step=step, timestamp=timestamp, **links)


def test_metrics_of_one_step_and_moment_are_one_sample() -> None:
    """``log_metrics`` of ten names is one sample, as ``trackside.log`` of them would be."""
    samples = samples_of([metric("loss", 0.5), metric("val/acc", 1.0), metric("loss", 0.25, 2)])
    assert samples is not None
    assert [(s.step, s.timestamp_ms, dict(s.metrics)) for s in samples] == [
        (1, 10, {"loss": 0.5, "val/acc": 1.0}),
        (2, 10, {"loss": 0.25}),
    ]


def test_a_name_that_comes_twice_keeps_both_values() -> None:
    """MLflow stores both points, although step and time are the same."""
    samples = samples_of([metric("loss", 0.5), metric("loss", 0.25)])
    assert samples is not None
    assert [dict(sample.metrics) for sample in samples] == [{"loss": 0.5}, {"loss": 0.25}]


def test_metrics_of_a_model_or_a_dataset_keep_their_link() -> None:
    """The link is what MLflow shows on the page of a logged model."""
    samples = samples_of(
        [
            metric("loss", 0.5),
            metric("loss", 0.25, model_id="m-1"),
            metric("loss", 0.125, dataset_name="digits", dataset_digest="d1"),
            metric("acc", 1.0),
        ]
    )
    assert samples is not None
    links = [sample.link if isinstance(sample, LinkedSample) else None for sample in samples]
    assert links == [None, MetricLink("m-1"), MetricLink(None, "digits", "d1"), None]


@pytest.mark.parametrize(
    "odd",
    [
        metric("a//b", 0.5),
        metric("../x", 0.5),
        metric("/x", 0.5),
        metric("", 0.5),
        metric("loss?", 0.5),
        metric("n" * 251, 0.5),
        metric(7, 0.5),
        metric("loss", "0.5"),
        metric("loss", True),
        metric("loss", 0.5, 1.5),
        metric("loss", 0.5, 1 << 70),
        metric("loss", 0.5, 1, -1),
        metric("loss", 0.5, 1, 1.5),
    ],
)
def test_what_mlflow_may_refuse_is_left_to_mlflow(odd: SimpleNamespace) -> None:
    """One such metric, and MLflow's own store gets the whole batch, and raises what it raises."""
    assert samples_of([metric("loss", 0.5), odd]) is None
