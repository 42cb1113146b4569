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

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.expected import ExpectedExceptions
    from trackside.protocols import AnySink
    from trackside.session.run import Run
    from trackside.transform import Transform, TransformOptions

    _Path: TypeAlias = str | os.PathLike[str]

# A required `type` beside optional keys takes two classes a kind until Python 3.11 has `Required`.


class _AnyKind(TypedDict, total=False):
    transform: TransformOptions | Transform | Mapping[str, Any] | None
    """Which metrics it receives, under which names, how often, on which ranks."""


class _Console(TypedDict):
    type: Literal["console"]


class ConsoleOptions(_Console, _AnyKind, total=False):
    """A line in the terminal; see :class:`trackside.sinks.ConsoleSink`."""

    every_seconds: float
    per_second: float
    console: Console | None


class _Memory(TypedDict):
    type: Literal["memory"]


class MemoryOptions(_Memory, _AnyKind, total=False):
    """Everything in lists; see :class:`trackside.sinks.MemorySink`."""


class _Prometheus(TypedDict):
    type: Literal["prometheus"]


class PrometheusOptions(_Prometheus, _AnyKind, total=False):
    """Gauges to scrape; see :class:`trackside.sinks.PrometheusSink`."""

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


class _JSONLines(TypedDict):
    type: Literal["jsonl"]


class JSONLinesOptions(_JSONLines, _AnyDestination, total=False):
    """A file with one JSON document a line."""

    path: _Path
    mode: Literal["append", "truncate"]
    strict: bool


class _Parquet(TypedDict):
    type: Literal["parquet"]


class ParquetOptions(_Parquet, _AnyDestination, total=False):
    """A folder of Parquet files."""

    path: _Path
    part_points: int
    part_seconds: float
    compact: bool


class _TensorBoard(TypedDict):
    type: Literal["tensorboard"]


class TensorBoardOptions(_TensorBoard, _AnyDestination, total=False):
    """A folder of TensorBoard event files."""

    log_dir: _Path


class _Wandb(TypedDict):
    type: Literal["wandb"]


class WandbOptions(_Wandb, _AnyDestination, total=False):
    """A run of Weights & Biases. The options are those of ``wandb.init``."""

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


class _MLflow(TypedDict):
    type: Literal["mlflow"]


class MLflowOptions(_MLflow, _AnyDestination, total=False):
    """A second MLflow server. Without ``tracking_uri``: the transform of the run itself, and nothing else."""

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
