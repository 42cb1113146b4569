"""``trackside.watch``: the norms people compute by hand, and a model that stays as it was."""

from __future__ import annotations

import copy
import gc
import io
import logging
import math
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from trackside.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.testing import MemorySink

torch: Any = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.torch


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """An embedding, two layers and a head."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, **options)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Any) -> Any:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        return self.head(hidden)


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """What is logged. No watch is left behind."""
    torch.manual_seed(0)
    with capture() as sink:
        yield sink
    trackside.unwatch()


def tokens() -> Any:
    """A batch."""
    return torch.randint(0, 11, (4, 5))


def train(model: Any, optimizer: Any, steps: int = 3, first: int = 0, scale: float = 1.0) -> None:
    """Train, and log each step."""
    for step in range(first, first + steps):
        optimizer.zero_grad()
        (model(tokens()).pow(2).mean() * scale).backward()
        optimizer.step()
        trackside.log({"loss": 1.0}, step=step)


def norm(tensors: Any) -> float:
    """The norm of all of them, the long way."""
    return math.sqrt(sum(float(tensor.detach().double().pow(2).sum()) for tensor in tensors))


def sgd(model: Any, **options: Any) -> Any:
    """An optimizer for all of it."""
    return torch.optim.SGD(model.parameters(), lr=0.1, **options)


# What is logged


def test_norms_by_layer_and_in_total(sink: MemorySink) -> None:
    """They are those of the gradients that the optimizer has applied, and of the parameters after it."""
    model = Net()
    trackside.watch(model, 1)
    train(model, sgd(model), steps=2)
    trackside.unwatch(model)
    groups = {
        "embed": model.embed,
        "layers.0": model.layers[0],
        "layers.1": model.layers[1],
        "head": model.head,
    }
    for name, module in {**groups, "total": model}.items():
        grads = [parameter.grad for parameter in module.parameters()]
        assert sink.last(f"grad_norm/{name}") == pytest.approx(norm(grads), rel=1e-5)
        assert sink.last(f"param_norm/{name}") == pytest.approx(norm(module.parameters()), rel=1e-5)
    assert sink.names == {"loss"} | {
        f"{kind}_norm/{name}" for kind in ("grad", "param") for name in [*groups, "total"]
    }


def test_the_first_step_and_every_nth_under_the_users_numbers(sink: MemorySink) -> None:
    """The steps are those that the user logs, from wherever they begin."""
    model = Net()
    trackside.watch(model, 4)
    train(model, sgd(model), steps=10, first=300)
    assert [step for step, _ in sink.metrics("grad_norm/total")] == [300, 304, 308]


def test_a_second_training_with_the_same_model_counts_anew() -> None:
    """Another run begins with step 0 again."""
    model = Net()
    trackside.watch(model, 2)
    for _ in range(2):
        with capture() as sink:
            train(model, sgd(model), steps=4)
        assert [step for step, _ in sink.metrics("grad_norm/total")] == [0, 2]
    trackside.unwatch()


def test_without_any_log_the_steps_are_counted(sink: MemorySink) -> None:
    """From 0, once it is clear that no log says otherwise."""
    model = Net()
    optimizer = sgd(model)
    trackside.watch(model, 10)
    for _ in range(91):
        optimizer.zero_grad()
        model(tokens()).mean().backward()
        optimizer.step()
    assert [step for step, _ in sink.metrics("grad_norm/total")] == list(range(0, 91, 10))


def test_a_function_says_the_step(sink: MemorySink) -> None:
    """As trainers know it that log elsewhere."""
    model = Net()
    trackside.watch(model, 1, step=lambda: 42)
    train(model, sgd(model), steps=1)
    assert sink.metrics("grad_norm/total")[0][0] == 42


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("total", {"total"}),
        ("parameters", {"total", "0.weight", "0.bias", "1.weight"}),
        (lambda name: name.rpartition(".")[2], {"total", "weight", "bias"}),
        (lambda name: "first" if name.startswith("0") else None, {"total", "first"}),
    ],
)
def test_groups(sink: MemorySink, groups: Any, expected: set[str]) -> None:
    """All in one, each parameter, or what a function says. What has no group counts for the total."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1, bias=False))
    trackside.watch(model, 1, groups=groups, parameters=False)
    optimizer = sgd(model)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    trackside.unwatch()
    assert sink.names == {f"grad_norm/{name}" for name in expected}
    assert sink.last("grad_norm/total") == pytest.approx(norm(p.grad for p in model.parameters()), rel=1e-5)


def test_two_models_under_prefixes(sink: MemorySink) -> None:
    """A generator and a discriminator: each has an optimizer, and names of its own."""
    models = {"generator": Net(), "discriminator": Net()}
    optimizers = {name: sgd(model) for name, model in models.items()}
    for name, model in models.items():
        trackside.watch(model, 1, prefix=name)
    for step in range(8):
        for name, model in models.items():
            optimizers[name].zero_grad()
            model(tokens()).mean().backward()
            optimizers[name].step()
        trackside.log({"loss": 1.0}, step=step)
    for name in models:
        steps = [step for step, _ in sink.metrics(f"{name}/grad_norm/total")]
        assert steps == list(range(8))


def test_a_group_called_total_is_not_the_total(sink: MemorySink) -> None:
    """Its name gives way."""
    model = nn.ModuleDict({"total": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    trackside.watch(model, 1)
    optimizer = sgd(model)
    sum(layer(torch.ones(1, 2)).sum() for layer in model.values()).backward()
    optimizer.step()
    trackside.unwatch()
    assert sink.last("grad_norm/total_") < sink.last("grad_norm/total")


# Which gradients


def test_after_clipping_unless_measured_before(sink: MemorySink) -> None:
    """By itself it measures what the optimizer applies. measure() in front of the clipping comes first."""
    model = Net()
    optimizer = sgd(model)
    watching = trackside.watch(model, 2)
    totals = []
    for step in range(6):
        optimizer.zero_grad()
        model(tokens()).pow(2).sum().backward()
        if step >= 3:
            watching.measure()
        totals.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.01)))
        optimizer.step()
        trackside.log({"loss": 1.0}, step=step)
    assert [step for step, _ in sink.metrics("grad_norm/total")] == [0, 2, 4]
    assert sink.values("grad_norm/total") == pytest.approx([0.01, 0.01, totals[4]], rel=1e-3)


def test_accumulated_gradients(sink: MemorySink) -> None:
    """What several backward passes have added up to, once."""
    model = Net()
    optimizer = sgd(model)
    trackside.watch(model, 1)
    expected = 0.0
    for step in range(1, 9):
        model(tokens()).mean().backward()
        if step % 4 == 0:
            expected = norm(parameter.grad for parameter in model.parameters())
            optimizer.step()
            optimizer.zero_grad()
            trackside.log({"loss": 1.0}, step=step)
    trackside.unwatch()
    assert sink.last("grad_norm/total") == pytest.approx(expected, rel=1e-5)
    assert len(sink.metrics("grad_norm/total")) == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_grad_scaler(sink: MemorySink, fused: bool) -> None:
    """The gradients are unscaled. A step that the scaler skips does not count."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trackside.watch(model, 1)
    expected = 0.0
    for step in range(3):
        optimizer.zero_grad()
        batch = tokens()
        scaler.scale(model(batch).pow(2).mean()).backward()
        expected = norm(parameter.grad for parameter in model.parameters()) / scaler.get_scale()
        if step == 1 and not fused:
            model.head.weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        trackside.log({"loss": 1.0}, step=step)
    trackside.unwatch()
    assert sink.last("grad_norm/total") == pytest.approx(expected, rel=1e-4)
    assert len(sink.metrics("grad_norm/total")) == (3 if fused else 2)


def test_a_closure_computes_the_gradients(sink: MemorySink) -> None:
    """L-BFGS, and Lightning's automatic optimization, run backward() inside step()."""
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).pow(2).sum()
        loss.backward()
        return loss

    trackside.watch(model, 1)
    optimizer.step(closure)
    trackside.unwatch()
    assert sink.last("grad_norm/total") == pytest.approx(norm(p.grad for p in model.parameters()), rel=1e-5)


def test_frozen_parameters_and_missing_gradients(sink: MemorySink) -> None:
    """Frozen parameters are left out, until they train. One without a gradient has no gradient norm."""
    model = Net()
    model.embed.requires_grad_(False)
    unused = nn.Linear(2, 2)
    model.unused = unused
    optimizer = sgd(model)
    trackside.watch(model, 1)
    train(model, optimizer, steps=2)
    assert not {"grad_norm/embed", "param_norm/embed", "grad_norm/unused"} & sink.names
    assert "param_norm/unused" in sink.names
    model.embed.requires_grad_(True)
    train(model, optimizer, steps=1, first=2)
    assert "grad_norm/embed" in sink.names


def test_shared_parameters_count_once(sink: MemorySink) -> None:
    """Tied weights are in the group of their first name."""
    model = Net()
    model.head = nn.Linear(8, 11, bias=False)
    model.head.weight = model.embed.weight
    trackside.watch(model, 1)
    train(model, sgd(model), steps=2)
    trackside.unwatch()
    assert "grad_norm/head" not in sink.names
    assert sink.last("param_norm/total") == pytest.approx(norm(model.parameters()), rel=1e-5)


def test_sparse_gradients(sink: MemorySink) -> None:
    """Rows that occur several times are added up first."""
    model = Net(sparse=True)
    trackside.watch(model, 1)
    train(model, sgd(model), steps=2)
    trackside.unwatch()
    assert sink.last("grad_norm/embed") == pytest.approx(norm([model.embed.weight.grad.to_dense()]), rel=1e-5)


def test_several_precisions(sink: MemorySink) -> None:
    """bfloat16 beside float32 and float64, without losing digits or overflowing."""
    model = nn.ModuleDict(
        {
            "bf16": nn.Linear(64, 64, bias=False, dtype=torch.bfloat16),
            "fp16": nn.Linear(64, 64, bias=False, dtype=torch.float16),
            "fp32": nn.Linear(64, 64, bias=False),
            "fp64": nn.Linear(64, 64, bias=False, dtype=torch.float64),
        }
    )
    with torch.no_grad():
        model["fp16"].weight.fill_(2000.0)  # the norm is above float16's 65504
    trackside.watch(model, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for module in model.values():
        module.weight.grad = module.weight.detach().clone()
    optimizer.step()
    trackside.unwatch()
    for name, module in model.items():
        assert sink.last(f"grad_norm/{name}") == pytest.approx(norm([module.weight]), rel=1e-4)
    assert sink.last("param_norm/total") == pytest.approx(norm(model.parameters()), rel=1e-4)


def test_nan_stays_in_its_group(sink: MemorySink) -> None:
    """One bad layer is seen as one bad layer. The total tells of it."""
    model = Net()
    trackside.watch(model, 1)
    optimizer = sgd(model)
    model(tokens()).mean().backward()
    model.layers[1].weight.grad[0, 0] = math.nan
    optimizer.step()
    trackside.unwatch()
    bad = {name for name in sink.names if math.isnan(sink.last(name))}
    assert bad == {f"{kind}_norm/{name}" for kind in ("grad", "param") for name in ("layers.1", "total")}


def test_one_model_with_two_optimizers(sink: MemorySink) -> None:
    """Muon for the matrices and AdamW for the rest are one step together."""
    model = Net()
    matrices = torch.optim.SGD(model.layers.parameters(), lr=0.1)
    rest = torch.optim.AdamW([*model.embed.parameters(), *model.head.parameters()])
    trackside.watch(model, 1)
    for step in range(4):
        model.zero_grad()
        model(tokens()).mean().backward()
        matrices.step()
        rest.step()
        trackside.log({"loss": 1.0}, step=step)
    assert [step for step, _ in sink.metrics("grad_norm/total")] == [0, 1, 2, 3]


def test_a_new_optimizer_for_the_second_phase(sink: MemorySink) -> None:
    """The watch continues with it, and ignores the optimizer of another model."""
    model, other = Net(), Net()
    trackside.watch(model, 1)
    train(model, sgd(model), steps=3)
    train(other, sgd(other), steps=3, first=3)
    assert len(sink.metrics("grad_norm/total")) == 3
    train(model, torch.optim.AdamW(model.parameters()), steps=3, first=6)
    assert len(sink.metrics("grad_norm/total")) == 6


def test_a_replaced_head(sink: MemorySink) -> None:
    """Parameters are found again when some of them are gone."""
    model = Net()
    trackside.watch(model, 1)
    train(model, sgd(model), steps=1)
    model.head = nn.Linear(8, 2)
    gc.collect()
    train(model, sgd(model), steps=1, first=1)
    trackside.unwatch()
    assert sink.last("param_norm/head") == pytest.approx(norm(model.head.parameters()), rel=1e-5)


# The model stays as it was


def test_the_model_can_be_copied_pickled_scripted_and_saved(sink: MemorySink) -> None:
    """Nothing of the watch is on it, nor on its optimizer."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    before = set(vars(model)), set(vars(model[0].weight))
    trackside.watch(model, 1)
    optimizer = sgd(model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert (set(vars(model)), set(vars(model[0].weight))) == before
    twin = copy.deepcopy(model)
    copy.deepcopy(optimizer)
    pickle.loads(pickle.dumps(model))
    torch.save(model, io.BytesIO())
    with pytest.warns(DeprecationWarning, match="script"):
        torch.jit.script(model)
    model.to(torch.float64)
    del sink.samples[:]
    twin_optimizer = sgd(twin)  # the average of the weights, say: it is not watched
    twin(torch.ones(1, 3)).sum().backward()
    twin_optimizer.step()
    assert sink.samples == []


def test_a_watched_model_can_be_freed(sink: MemorySink) -> None:
    """And then the watch is gone with it, and its hook."""
    from torch.optim import optimizer as module

    before = len(module._global_optimizer_post_hooks)
    model = Net()
    optimizer = sgd(model)
    watching = trackside.watch(model, 1)
    train(model, optimizer)
    gone = weakref.ref(model)
    del model, optimizer
    gc.collect()
    assert gone() is None
    assert not watching.is_active
    assert len(module._global_optimizer_post_hooks) == before


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_compiled_model_and_a_compiled_step(sink: MemorySink) -> None:
    """The names are the model's own, and the compiler leaves the hook alone."""
    model = Net()
    compiled = torch.compile(model, backend="eager")
    trackside.watch(compiled, 1)
    optimizer = sgd(model)
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    train(compiled, optimizer, steps=3)
    trackside.unwatch()
    assert [step for step, _ in sink.metrics("grad_norm/layers.0")] == [0, 1, 2]
    assert sink.last("grad_norm/total") == pytest.approx(norm(p.grad for p in model.parameters()), rel=1e-5)


def test_the_norms_keep_no_graph_and_no_gradients_alive(sink: MemorySink) -> None:
    """What is logged are numbers of their own."""
    model = Net()
    trackside.watch(model, 1)
    optimizer = sgd(model)
    train(model, optimizer, steps=2)
    grads = [weakref.ref(parameter.grad) for parameter in model.parameters()]
    optimizer.zero_grad(set_to_none=True)
    gc.collect()
    assert [grad() for grad in grads] == [None] * len(grads)


# Ends, and what goes wrong


def test_watching_again_replaces_the_watch(sink: MemorySink) -> None:
    """A notebook cell that runs twice."""
    model = Net()
    first = trackside.watch(model, 1)
    second = trackside.watch(model, 1)
    assert (first.is_active, second.is_active) == (False, True)
    train(model, sgd(model), steps=2)
    assert len(sink.metrics("grad_norm/total")) == 2


def test_remove_and_unwatch(sink: MemorySink) -> None:
    """Either ends it, and both can be called again."""
    model = Net()
    watching = trackside.watch(model, 1)
    watching.remove()
    watching.remove()
    trackside.unwatch(model)
    trackside.unwatch()
    train(model, sgd(model))
    watching.measure()
    assert sink.names == {"loss"}


def test_without_a_listener() -> None:
    """Without a run, nothing is measured, and nothing is warned of."""
    model = Net()
    watching = trackside.watch(model, 1)
    optimizer = sgd(model)
    model(tokens()).mean().backward()
    model.head.weight.grad = None
    optimizer.step()
    assert watching.is_active
    trackside.unwatch()


def test_a_bus_of_its_own(sink: MemorySink) -> None:
    """The norms go to the run that is meant."""
    bus = trackside.Bus()
    model = Net()
    trackside.watch(model, 1, bus=bus)
    with capture(bus) as own:
        train(model, sgd(model), steps=1)
        trackside.unwatch()
    assert "grad_norm/total" in own.names
    assert sink.names == {"loss"}


def test_other_ranks_measure_nothing(sink: MemorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no run."""
    monkeypatch.setenv("RANK", "1")
    model = Net()
    assert not trackside.watch(model, 1).is_active
    train(model, sgd(model))
    assert sink.names == {"loss"}


def test_a_failure_ends_the_watch_not_the_training(
    sink: MemorySink, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and no more hooks."""

    def broken() -> int:
        raise RuntimeError("no trainer yet")

    model = Net()
    watching = trackside.watch(model, 1, step=broken)
    with caplog.at_level(logging.WARNING, "trackside"):
        train(model, sgd(model), steps=3)
    assert not watching.is_active
    assert [record.message.count("not watched any more") for record in caplog.records] == [1]
    assert len(sink.metrics("loss")) == 3


def test_a_tensor_that_has_no_norm(sink: MemorySink) -> None:
    """Parameters on no device at all are passed over."""
    model = nn.Linear(2, 2, device="meta")
    optimizer = sgd(model)
    trackside.watch(model, 1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert sink.names == set()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"every_n_steps": 0}, trackside.ConfigurationError),
        ({"every_n_steps": True}, trackside.ConfigurationError),
        ({"groups": "blocks"}, trackside.ConfigurationError),
        ({"gradients": False, "parameters": False}, trackside.ConfigurationError),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    """They raise at once, and leave no watch behind."""
    with pytest.raises(error):
        trackside.watch(Net(), **options)


def test_not_a_model() -> None:
    """The message says what is needed."""
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, not dict"):
        trackside.watch({})


# An accelerator


@pytest.mark.gpu
def test_gpu_is_not_waited_for(sink: MemorySink) -> None:
    """A measurement raises nothing where torch forbids all waiting, and the numbers are right."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    model = Net().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
    kept: list[Any] = []
    bus = trackside.Bus()
    bus.attach(kept.append)
    trackside.watch(model, 1, step=lambda: 0, bus=bus)
    batch = tokens().cuda()
    for mode in ("default", "error"):
        optimizer.zero_grad()
        model(batch).pow(2).mean().backward()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(kept) == 2
    grads = [parameter.grad for parameter in model.parameters()]
    assert float(kept[1].metrics["grad_norm/total"]) == pytest.approx(norm(grads), rel=1e-4)
