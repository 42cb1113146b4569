"""Accelerate with log_with="mlflow"."""

import torch
from accelerate import Accelerator

torch.manual_seed(1)
accelerator = Accelerator(log_with="mlflow", project_dir=".", cpu=True)
accelerator.init_trackers(
    "accelerate",
    config={"lr": 0.1, "layers": 2},
    init_kwargs={"mlflow": {"run_name": "by accelerate", "tags": {"a": "b"}}},
)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model, optimizer = accelerator.prepare(model, optimizer)
for step in range(10):
    loss = model(torch.ones(4, 2)).pow(2).mean()
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    accelerator.log({"loss": loss.item(), "text": "left out"}, step=step)
tracker = accelerator.get_tracker("mlflow")
accelerator.end_training()
