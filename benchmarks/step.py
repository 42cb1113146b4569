"""A real training step. It empties the caches, so a log behind it costs what users pay.

The step has two linear layers, forward, backward and optimizer, with torch on one thread. There is no
substitute without torch. A loop that walks memory leaves the instruction caches and the branch predictors
alone, and those are most of what a step takes from a log. Without torch, what needs a step is left out, and
says so.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 25
"""Steps in a turn, where two things are compared in the same loop."""

NO_TORCH = (
    "torch is not installed, and nothing else is comparable to its training step. "
    "To measure in the loop, run `pip install torch`"
)


class Shape(NamedTuple):
    """The two layers are ``width`` by ``width``, and a batch has ``batch`` rows."""

    width: int
    batch: int

    def __str__(self) -> str:
        return f"two linear layers of {self.width}, batch {self.batch}"


SMALL = Shape(256, 64)
"""About 0.45 ms on one core of a server: short, so that a log's share of it is large."""

LARGE = Shape(1024, 160)
"""About 20 ms."""

ON_GPU = Shape(2048, 1024)
"""About 1 ms of a large GPU."""

LARGE_ON_GPU = Shape(4096, 1024)
"""About 4 ms of a large GPU: longer than launching its kernels takes, so that the GPU has a queue."""

SHAPES = {"small": SMALL, "large": LARGE, "gpu": ON_GPU, "large-gpu": LARGE_ON_GPU}
ON_DEVICE = {"cpu": ("small", "large"), "cuda": ("gpu", "large-gpu")}
"""The shapes that are measured there."""


def has_torch() -> bool:
    """Whether there can be a step."""
    return find_spec("torch") is not None


def has_gpu() -> bool:
    """Whether torch can use a GPU."""
    import torch

    return bool(torch.cuda.is_available())


def training_step(shape: Shape, device: str = "cpu") -> Callable[[], Any]:
    """Return a function that trains one step and returns the loss, a tensor. It does not wait for a GPU."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = torch.nn.Linear(shape.width, shape.width), torch.nn.Linear(shape.width, shape.width)
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1]).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, wanted = (torch.randn(shape.batch, shape.width, device=device) for _ in range(2))

    def train() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return train
