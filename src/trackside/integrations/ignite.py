"""PyTorch-Ignite.

Make a logger, and attach its handlers to your engines::

    logger = TracksideLogger(experiment_name="digits")
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="train", output_transform=loss_of)
    logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED, optimizer=optimizer)

Invariants:

* Names are those of Ignite's other loggers: ``tag/metric``, and ``tag/lr/group_0`` for an optimizer.
* A tensor is handed to trackside as it is. Nothing waits for the accelerator.
* ``close()``, or the end of ``with TracksideLogger() as logger:``, ends the run. An exception that leaves the
  block is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trackside.events import ConfigEvent
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun

with needs_extra("ignite"):
    from ignite.handlers.base_logger import BaseLogger, BaseOptimizerParamsHandler, BaseOutputHandler

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from trackside.session.options import StartOptions
    from trackside.session.run import Run

__all__ = ["OptimizerParamsHandler", "OutputHandler", "TracksideLogger"]


class TracksideLogger(BaseLogger):
    """Logs into a trackside run, which begins here. ``options``: those of ``start()``."""

    def __init__(self, **options: Unpack[StartOptions]) -> None:
        self._options = options
        self._training = TrainingRun(options.get("bus"))
        self.run: Run = self._training.begin(**options)
        """The run."""
        self._training.complete()  # an engine does not say how it ended: the program's end decides

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log ``params`` as the run's configuration."""
        self.run.emit(ConfigEvent(dict(params), self._options.get("flatten_depth", 1)))

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the metrics of one step."""
        self.run.log(metrics, step=step)

    def close(self) -> None:
        """End the run, if it was started here."""
        self._training.finish()

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._training.finish(error=error)

    def _create_output_handler(self, *args: Any, **options: Any) -> OutputHandler:
        return OutputHandler(*args, **options)

    def _create_opt_params_handler(self, *args: Any, **options: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **options)


class OutputHandler(BaseOutputHandler):
    """Logs an engine's metrics, output and attributes. Ignite documents the arguments."""

    def __call__(self, engine: Any, logger: TracksideLogger, event_name: Any) -> None:
        """Log what the engine has now."""
        found = {}
        if self.metric_names == "all":
            found.update(engine.state.metrics)
        elif self.metric_names is not None:
            known = engine.state.metrics
            found.update({name: known[name] for name in self.metric_names if name in known})
        if self.output_transform is not None:
            output = self.output_transform(engine.state.output)
            found.update(output if isinstance(output, Mapping) else {"output": output})
        for name in self.state_attributes or ():
            found[name] = getattr(engine.state, name, None)
        metrics = dict(_named(found, self.tag))
        logger.log_metrics(metrics, self.global_step_transform(engine, event_name))


class OptimizerParamsHandler(BaseOptimizerParamsHandler):
    """Logs a parameter of each group of an optimizer, the learning rate by default."""

    def __call__(self, engine: Any, logger: TracksideLogger, event_name: Any) -> None:
        """Log what the optimizer has now."""
        prefix = f"{self.tag}/" if self.tag else ""
        groups = enumerate(self.optimizer.param_groups)
        metrics = {f"{prefix}{self.param_name}/group_{n}": group[self.param_name] for n, group in groups}
        logger.log_metrics(metrics, engine.state.get_event_attrib_value(event_name))


def _named(values: Mapping[Any, Any], prefix: str | None) -> list[tuple[str, Any]]:
    """Each number with its path, as Ignite names it. Lists, and tensors of one dimension, count from 0."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            found += _named(value, name)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found += _named({str(n): one for n, one in enumerate(value)}, name)
        elif getattr(value, "ndim", 0) == 1:
            found += _named({str(n): value[n] for n in range(len(value))}, name)
        elif value is not None:
            found.append((name, value))
    return found
