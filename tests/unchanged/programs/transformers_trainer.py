"""Hugging Face's Trainer with report_to="mlflow"."""

import mlflow
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments

torch.manual_seed(1)
tokens = torch.arange(8) % 16
data = [{"input_ids": tokens, "labels": tokens} for _ in range(16)]
sizes = {"vocab_size": 16, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 1}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
arguments = TrainingArguments(
    "out",
    run_name="by the trainer",
    max_steps=6,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=3,
    save_steps=3,
    per_device_train_batch_size=2,
    report_to="mlflow",
    disable_tqdm=True,
    use_cpu=True,
    seed=1,
)
trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data[:4])
trainer.remove_callback(PrinterCallback)  # it prints times
trainer.train()
print(sorted(trainer.evaluate()))
print(mlflow.active_run() is not None)
