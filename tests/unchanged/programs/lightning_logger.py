"""Lightning with its MLFlowLogger: checkpoints as artifacts, validation and test, a point after the end."""

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger

from lightning_model import Model, loader

logger = MLFlowLogger(experiment_name="lightning", run_name="by the logger", log_model="all", tags={"a": "b"})
trainer = L.Trainer(
    max_epochs=2,
    logger=logger,
    log_every_n_steps=1,
    accelerator="cpu",
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[LearningRateMonitor("step"), ModelCheckpoint(monitor="val_loss", save_top_k=1)],
)
model = Model()
trainer.fit(model, loader(), loader())
trainer.test(model, loader(), verbose=False)
logger.log_metrics({"after": 1.0}, step=9)
print(logger.experiment.get_run(logger.run_id).info.status)
