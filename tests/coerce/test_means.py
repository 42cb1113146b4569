"""A value of several elements is logged as its mean, which is logged once per name."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from trackside.coerce import means
from trackside.coerce.metrics import to_float_metrics
from trackside.system.once import Once


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said from here on, with no name met before."""
    monkeypatch.setattr(means, "_explained", Once())
    caplog.set_level(logging.INFO, "trackside.coerce")
    return caplog


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.ones((8, 8, 3)), "of 192 elements of shape (8, 8, 3). It looks like an image"),
        (torch.ones(2, 3, 32, 32), "It looks like an image"),
        (np.zeros((28, 28), dtype=np.uint8), "It looks like an image"),
        (torch.zeros(28, 28, dtype=torch.uint8), "mlflow.log_image()"),
        (torch.zeros(3, 8, 8), "mlflow.log_image() with one image of shape (height, width, channels)"),
        (torch.zeros(4, 8, 8, 3), "mlflow.log_image() with one image of shape (height, width, channels)"),
        (torch.zeros(1000), "It looks like a distribution"),
        (np.ones((64, 64)), "mlflow.log_figure() with a histogram"),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "It looks like a table"),
        (
            torch.arange(4.0),
            "To keep each as x/0, x/1, ..., log {'x': dict(enumerate(values))}",
        ),
        (np.ones((3, 3, 3)), "To keep each as x/0"),
        ([1.0, 2.0], "of 2 elements. To keep each as x/0"),
        ((1, 2), "of 2 elements"),
        (deque([1, 2, 3]), "of 3 elements"),
        (pd.Series([1.0, 2.0]), "of 2 elements"),
    ],
)
def test_a_mean_is_said_with_what_keeps_the_elements(
    said: pytest.LogCaptureFixture, value: Any, says: str
) -> None:
    """Once a name. An image, a table and a distribution are told what they look like."""
    for _ in range(3):
        assert to_float_metrics({"x": value}).keys() == {"x"}
    (message,) = said.messages
    assert message.startswith("metric 'x' is the mean ")
    assert says in message


@pytest.mark.parametrize(
    "value", [0.5, 3, True, np.float32(1), np.ones(1), torch.tensor(2), torch.tensor([[3.0]]), [4.0], (5,)]
)
def test_a_single_number_is_nothing_to_speak_of(said: pytest.LogCaptureFixture, value: Any) -> None:
    """However it is wrapped."""
    to_float_metrics({"x": value})
    assert said.messages == []


def test_names_made_on_the_fly_do_not_pile_up(said: pytest.LogCaptureFixture) -> None:
    """After a thousand there is silence."""
    for number in range(1005):
        to_float_metrics({f"x{number}": np.ones(2)})
    assert len(said.messages) == len(means._explained) == 1000
