"""mlflow.pytorch.autolog() with Lightning: MLflow starts the run, a thread of its own logs."""

import lightning as L
import mlflow

from lightning_model import Model, loader

mlflow.set_experiment("autolog")
mlflow.pytorch.autolog(log_models=False)
for number in range(2):
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Model(), loader(), loader())
    print(mlflow.active_run(), len(mlflow.search_runs()))
with mlflow.start_run(run_name="mine"):
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(Model(), loader(), loader())
    mlflow.log_metric("mine", 1.0)
