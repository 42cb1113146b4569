"""Small trainings with Hugging Face's Trainer: a model of two thousand parameters, data in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

if TYPE_CHECKING:
    from pathlib import Path

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TINY = {"vocab_size": 16, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 1}
ENDS = {"bos_token_id": 0, "eos_token_id": 0}


def data(count: int) -> list[dict[str, Any]]:
    """So many samples."""
    tokens = torch.arange(8) % 16
    return [{"input_ids": tokens, "labels": tokens} for _ in range(count)]


def model() -> GPT2LMHeadModel:
    """A random model."""
    return GPT2LMHeadModel(GPT2Config(**TINY, **ENDS))


def arguments(output: str | Path = "out", **options: Any) -> TrainingArguments:
    """Log each step, up to step 4."""
    chosen = {
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "per_device_train_batch_size": 2,
        "disable_tqdm": True,
        "use_cpu": True,
        "report_to": "none",
        **options,
    }
    return TrainingArguments(str(output), **chosen)


def trainer(args: TrainingArguments | None = None, kind: type[Trainer] = Trainer, **options: Any) -> Trainer:
    """A Trainer for the model."""
    chosen: dict[str, Any] = {"train_dataset": data(64), "eval_dataset": data(4), **options}
    if "model_init" not in chosen:
        chosen["model"] = model()
    return kind(args=args or arguments(), **chosen)
