"""Runs as users start them."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import trackside
from trackside import Bus, MetricsSample, Run
from trackside.session.options import ConsoleOptions, DestinationOption, JSONLinesOptions, SinkOption
from trackside.sinks import ConsoleSink, MemorySink


class Losses:
    def on_metrics(self, sample: MetricsSample) -> None:
        print(sample)


@dataclass
class Config:
    lr: float = 0.1


# The short way, and all kinds of configuration.
with trackside.start("digits", config={"lr": 0.1}) as run:
    assert_type(run, Run)
    trackside.log({"loss": 0.5, "nested": {"acc": 1}}, step=0)
    trackside.log({"loss": 0.5}, step=1, epoch=0.5, prefix="val")
    trackside.emit(MetricsSample(step=1, metrics={"loss": 0.1}))
    assert_type(run.run_id, str | None)
    assert_type(run.flush(timeout=3), bool)

trackside.start(config=Config()).finish()
trackside.start(config=argparse.Namespace(lr=1), checkpoint_dir=Path("checkpoints"), resume="always").finish()

# Sinks: names, options, objects, functions, a path to your own.
trackside.start(sinks=["console", Losses(), print, MemorySink(), ConsoleSink(every_seconds=1)])
trackside.start(sinks=[{"type": "console", "every_seconds": 5.0}, {"type": "memory"}])
trackside.start(
    sinks=({"type": "prometheus", "port": 0, "transform": {"include": ["val/*"], "reduce": "last"}},)
)
trackside.start(sinks=["my_package.sinks:Mine", {"type": "my_package.sinks:Mine", "colour": "red"}])
trackside.start(sinks="console")

# Destinations.
trackside.start(destinations=["tensorboard", "jsonl"])
trackside.start(
    destinations=[
        "parquet",
        {"type": "jsonl", "path": Path("metrics.jsonl"), "mode": "truncate", "name": "lines"},
        {"type": "tensorboard", "log_dir": "runs", "transform": {"every_n_steps": 10, "ranks": [0, 1]}},
        {"type": "wandb", "project": "digits", "mode": "offline", "tags": ["a"]},
        {"type": "mlflow", "tracking_uri": "http://second:5000"},
        {"type": "mlflow", "transform": {"exclude": "debug/*"}},
        {"type": "my_package.sending:Mine", "url": "x"},
    ]
)


# What comes from a file has no types, and is as welcome.
def from_file(loaded: dict[str, Any], sections: list[Mapping[str, Any]], names: list[str]) -> Run:
    trackside.start_from_config(loaded)
    trackside.start_from_config(loaded, run_name="again", sinks=["console"], bus=Bus("other"))
    trackside.start(destinations=sections, sinks=names)
    return trackside.start(destinations=names, sinks=sections)


# Lists made piece by piece have a type to declare.
sinks: list[SinkOption] = ["console"]
sinks.append(Losses())
destinations: list[DestinationOption] = ["jsonl"]
trackside.start(sinks=sinks, destinations=destinations)

# A mapping of a declared kind is checked key by key.
lines: JSONLinesOptions = {"type": "jsonl", "strict": True}
console: ConsoleOptions = {"type": "console", "per_second": 1.0, "transform": None}
trackside.start(sinks=[console], destinations=[lines])
typo: ConsoleOptions = {"type": "console", "every_secs": 1.0}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
mode: JSONLinesOptions = {"type": "jsonl", "mode": "overwrite"}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]

# Mistakes that a type checker sees.
trackside.start(experiment=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
trackside.start(resume="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
trackside.start(sinks=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
trackside.start(destinations=[Losses()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
trackside.start_from_config({}, run_nam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
trackside.log(0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
trackside.emit({"loss": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
