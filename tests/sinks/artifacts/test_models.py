"""Checkpoints and models: what the journal holds of them, and what is left out."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.sinks.kept import Kept
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "step=500.ckpt"
    path.write_bytes(b"weights")
    return path


class Unreadable:
    """Raises whatever is asked of it."""

    def __float__(self) -> float:
        raise RuntimeError("no")


def test_a_checkpoint_is_claimed_with_its_step_and_metrics(kept: Kept, checkpoint: Path) -> None:
    """The file outlives its deletion. It is called by its step, and all without a name are one place."""
    kept.bus.log_checkpoint(checkpoint, 500, {"val/loss": 0.25, "nested": {"n": 3}}, policy="latest")
    checkpoint.unlink()
    record = kept.record()
    assert content_of(kept.journal, record.held).read_bytes() == b"weights"
    assert (record.kind, record.place, record.step, record.policy) == (
        "checkpoint",
        "checkpoint",
        500,
        "latest",
    )
    assert record.details == {
        "name": "checkpoint-500",
        "file": "step=500.ckpt",
        "metrics": {"val/loss": 0.25, "nested/n": 3.0},
    }


def test_a_name_of_its_own_is_the_place(kept: Kept, tmp_path: Path) -> None:
    """So that a newer ``best`` takes the place of an older one. A folder keeps its files' names."""
    folder = tmp_path / "checkpoint-1"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(b"a")
    kept.bus.log_checkpoint(folder, name="best")
    record = kept.record()
    assert (record.place, record.step) == ("best", None)
    assert record.details == {"name": "best", "metrics": {}}
    assert (content_of(kept.journal, record.held) / "sub" / "a.bin").read_bytes() == b"a"


def test_what_cannot_be_read_costs_itself_and_not_the_checkpoint(
    kept: Kept, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, and told once."""
    bad = {"loss": 0.5, "odd": Unreadable(), "text": "x", "nan": math.nan}
    for _ in range(2):
        kept.bus.log_checkpoint(checkpoint, cast("int", "soon"), bad)
    first, _ = kept.records()
    assert first.step is None
    assert first.details["metrics"].keys() == {"loss", "nan"}
    assert kept.dropped == 6
    assert caplog.text.count("metric 'odd' of the checkpoint 'step=500.ckpt' is dropped") == 1
    assert caplog.text.count("the step of the checkpoint 'step=500.ckpt' is dropped") == 1


def test_metrics_that_are_none_are_told(
    kept: Kept, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint is kept without them, and the warning names it."""
    kept.bus.log_checkpoint(checkpoint, 1, cast("Any", [1]), name="best")
    assert kept.record().details["metrics"] == {}
    assert "every metric of the checkpoint 'best' is dropped: metrics must be a mapping" in caplog.text


@pytest.mark.parametrize(
    ("path", "advice"),
    [("missing.ckpt", "there is no file at"), (7, "the path of a file is a text or a Path")],
)
def test_a_checkpoint_that_is_not_there_is_told(
    kept: Kept, caplog: pytest.LogCaptureFixture, path: Any, advice: str
) -> None:
    """Nothing is raised, and nothing is in the journal."""
    kept.bus.log_checkpoint(path, 1, {"loss": 1})
    assert "a checkpoint is not logged" in caplog.text
    assert advice in caplog.text
    assert kept.records() == []


@pytest.mark.parametrize("metrics", [3, "loss", [1.0]])
def test_metrics_that_are_no_mapping_are_left_out(kept: Kept, checkpoint: Path, metrics: Any) -> None:
    """The checkpoint is kept."""
    kept.bus.log_checkpoint(checkpoint, 1, metrics)
    assert kept.record().details["metrics"] == {}
    assert kept.dropped == 1


def test_params_of_a_model_are_flat_and_masked(kept: Kept, checkpoint: Path) -> None:
    """As those of a run."""
    kept.bus.log_model(checkpoint, "net", 3, {"acc": 1}, {"opt": {"lr": 0.1}, "api_key": "abc123secret"})
    record = kept.record()
    assert (record.kind, record.place, record.step) == ("model", "net", 3)
    assert record.details["params"] == {"opt.lr": "0.1", "api_key": "***"}


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_a_model_needs_a_name(
    kept: Kept, checkpoint: Path, name: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A text that is not empty."""
    kept.bus.log_model(checkpoint, name)
    assert "is not a name. Pass log_model() a text" in caplog.text
    assert kept.records() == []


def test_another_object_is_not_a_model(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """The user learns how to log it."""
    kept.bus.log_model({"coefficients": [1, 2]}, "linear")
    assert "not dict. Save the model first" in caplog.text
    assert kept.records() == []


@pytest.mark.torch
def test_the_weights_of_a_torch_module_are_written(kept: Kept) -> None:
    """They are those at the time of the call, in the file that MLflow calls a state dict."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 1)
    before = module.weight.detach().clone()
    kept.bus.log_model(module, "net", step=4)
    with torch.no_grad():
        module.weight.zero_()
    record = kept.record()
    assert record.details["file"] == "state_dict.pth"
    content = content_of(kept.journal, record.held)
    assert content.stat().st_size == record.held.size
    assert content.stat().st_mode & 0o777 == 0o600
    assert torch.equal(torch.load(content, weights_only=True)["weight"], before)


@pytest.mark.torch
def test_the_weights_of_a_wrapped_module_have_its_own_names(kept: Kept) -> None:
    """So that they load into a module that nothing is wrapped around."""
    torch = pytest.importorskip("torch")
    kept.bus.log_model(torch.nn.DataParallel(torch.nn.Linear(2, 1)), "net")
    content = content_of(kept.journal, kept.record().held)
    assert set(torch.load(content, weights_only=True)) == {"weight", "bias"}


@pytest.mark.torch
def test_weights_that_are_spread_over_processes_are_not_gathered(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """All ranks would have to take part, and this one would wait for them forever."""
    torch = pytest.importorskip("torch")

    nn: Any = torch.nn

    class FullyShardedDataParallel(nn.Module):  # type: ignore[misc]
        def state_dict(self, *arguments: Any, **options: Any) -> Any:
            raise AssertionError("it was asked")

    kept.bus.log_model(torch.nn.Sequential(FullyShardedDataParallel()), "net")
    assert "are spread over several processes" in caplog.text
    assert kept.records() == []


@pytest.mark.torch
def test_a_module_that_cannot_be_saved_leaves_nothing_behind(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a record nor half a file."""
    torch = pytest.importorskip("torch")

    nn: Any = torch.nn

    class Odd(nn.Module):  # type: ignore[misc]
        def get_extra_state(self) -> Any:
            return lambda: None

    kept.bus.log_model(Odd(), "net")
    assert "the model 'net' is not logged" in caplog.text
    assert kept.records() == []
    assert list((kept.journal.path / "files").iterdir()) == []


def test_the_warnings_are_of_the_sink(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """One logger, so that one setting silences it."""
    with caplog.at_level(logging.WARNING):
        kept.bus.log_checkpoint("missing")
    assert {record.name for record in caplog.records} == {"trackside.sinks"}
