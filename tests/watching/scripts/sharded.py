"""One of two ranks with a model sharded by FSDP2: the norms of the whole, or those of rank 0's shards."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import trackside
from trackside.testing import capture

rank, rendezvous, all_ranks = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "all"
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
model: Any = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
model.load_state_dict(plain.state_dict())
for layer in (model[0], model[2], model):
    fully_shard(layer, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
kept: dict[str, float] = {}
with capture() as sink:
    trackside.watch(model, 2, all_ranks=all_ranks)
    for step in range(4):
        batch = torch.full((4, 7), 1.0 + step)
        plain.zero_grad()
        plain(batch).pow(2).mean().backward()
        optimizer.zero_grad()
        model(batch).pow(2).mean().backward()
        optimizer.step()
        trackside.log({"loss": 1.0}, step=step)
        gradients = [parameter.grad for parameter in plain.parameters() if parameter.grad is not None]
        expected = {
            "grad_norm/0": float(nn.utils.get_total_norm(gradients[:2])),
            "grad_norm/total": float(nn.utils.get_total_norm(gradients)),
            "param_norm/total": float(nn.utils.get_total_norm([p.detach() for p in plain.parameters()])),
        }
        if step == 2:
            kept = expected
    trackside.unwatch()
dist.destroy_process_group()
print(json.dumps({"found": {name: sink.last(name) for name in sink.names}, "expected": kept}))
