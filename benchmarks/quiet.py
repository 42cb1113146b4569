"""The environment of every measured process: nothing goes to the network, and bytecode is kept."""

from __future__ import annotations

QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NEPTUNE_API_TOKEN": "none",
    "NEPTUNE_LOGGER_LEVEL": "error",
    "NEPTUNE_MODE": "offline",
    "NEPTUNE_PROJECT": "bench/bench",
    "TRACKIO_DIR": ".",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    # Without it, whoever sets this variable would measure how long it takes to compile a library.
    "PYTHONDONTWRITEBYTECODE": "",
}
