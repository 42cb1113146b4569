"""What ``start()`` takes as ``sinks=`` and ``destinations=``, spelled out for type checkers and editors.

Each built-in kind has a ``TypedDict`` with its options. ``start()`` checks what it is given at run time,
whatever the annotation says, so a mapping read from a file is as welcome as one of these. A test compares the
keys with the options that the classes really take.

Only annotations use this module. ``start()`` does not load it, so it costs a start nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from rich.console import Console
    from typing_extensions import Required

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.expected import ExpectedExceptions
    from trackside.protocols import AnySink
    from trackside.session.run import Run
    from trackside.transform import Transform, TransformOptions

    _Path: TypeAlias = str | os.PathLike[str]


class _AnyKind(TypedDict, total=False):
    transform: TransformOptions | Transform | Mapping[str, Any] | None
    """Which metrics it receives, under which names, how often, on which ranks."""


class ConsoleOptions(_AnyKind, total=False):
    """A line in the terminal. See :class:`trackside.sinks.ConsoleSink`."""

    type: Required[Literal["console"]]
    every_seconds: float
    per_second: float
    console: Console | None


class MemoryOptions(_AnyKind, total=False):
    """Everything in lists. See :class:`trackside.sinks.MemorySink`."""

    type: Required[Literal["memory"]]


class PrometheusOptions(_AnyKind, total=False):
    """Gauges to scrape. See :class:`trackside.sinks.PrometheusSink`."""

    type: Required[Literal["prometheus"]]
    port: int | None
    address: str
    registry: CollectorRegistry | None
    namespace: str
    labels: Mapping[str, str] | None


SinkName: TypeAlias = Literal["console", "memory", "prometheus"]
"""The built-in sinks that a configuration can name."""

SinkOptions: TypeAlias = ConsoleOptions | MemoryOptions | PrometheusOptions
"""The built-in sinks with their options."""

SinkOption: TypeAlias = "SinkName | str | SinkOptions | Mapping[str, Any] | AnySink"
"""One entry of ``sinks=``: a built-in kind, your own by ``"package.module:Class"``, or a sink already made.

A kind is given as its name or as a mapping with its ``type`` and options.
"""


class _AnyDestination(_AnyKind, total=False):
    name: str
    """Names the cursor. By default it is the type, numbered if there are several."""


class JSONLinesOptions(_AnyDestination, total=False):
    """A file with one JSON document a line."""

    type: Required[Literal["jsonl"]]
    path: _Path
    mode: Literal["append", "truncate"]
    strict: bool


class ParquetOptions(_AnyDestination, total=False):
    """A folder of Parquet files."""

    type: Required[Literal["parquet"]]
    path: _Path
    part_points: int
    part_seconds: float
    compact: bool


class TensorBoardOptions(_AnyDestination, total=False):
    """A folder of TensorBoard event files."""

    type: Required[Literal["tensorboard"]]
    log_dir: _Path


class WandbOptions(_AnyDestination, total=False):
    """A run of Weights & Biases. The options are those of ``wandb.init``."""

    type: Required[Literal["wandb"]]
    project: str | None
    entity: str | None
    run_name: str | None
    mode: Literal["online", "offline"] | None
    dir: _Path
    id: str | None
    tags: Sequence[str]
    notes: str | None
    group: str | None
    job_type: str | None


class MLflowOptions(_AnyDestination, total=False):
    """A second MLflow server. Without ``tracking_uri``: the transform of the run itself, and nothing else."""

    type: Required[Literal["mlflow"]]
    tracking_uri: str
    experiment_name: str | None
    run_name: str | None
    run_id: str | None
    artifact_location: str | None


DestinationName: TypeAlias = Literal["jsonl", "parquet", "tensorboard", "wandb"]
"""The built-in destinations that work without options."""

DestinationOptions: TypeAlias = (
    JSONLinesOptions | ParquetOptions | TensorBoardOptions | WandbOptions | MLflowOptions
)
"""The built-in destinations with their options."""

DestinationOption: TypeAlias = "DestinationName | str | DestinationOptions | Mapping[str, Any]"
"""One entry of ``destinations=``: a built-in kind, or your own by ``"package.module:Class"``.

A kind is given as its name or as a mapping with its ``type`` and options.
"""


class StartOptions(TypedDict, total=False):
    """The arguments of ``start()`` by name, as :func:`trackside.start_from_config` takes them."""

    experiment_name: str | None
    run_name: str | None
    tracking_uri: _Path | None
    artifact_location: _Path | None
    config: Any
    tags: Mapping[str, Any] | None
    description: str | None
    resume: bool | Literal["always"]
    checkpoint_dir: _Path | None
    flatten_depth: int | None
    sinks: Iterable[SinkOption]
    parent_run_id: str | None
    bus: Bus | None
    terminate_signals: int | str | Iterable[int | str]
    journal_cap: int
    destinations: Iterable[DestinationOption]
    system_metrics: bool | float | None
    expected: ExpectedExceptions
    parent: Run | None
    wait: bool | None
    run_id: str | None
