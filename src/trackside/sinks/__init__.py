"""Sinks: subscribers on the bus, in the training process. Each is imported when you first name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackside.sinks.callback import CallbackSink
    from trackside.sinks.console import ConsoleSink
    from trackside.sinks.early_stopping import EarlyStopping
    from trackside.sinks.memory import MemorySink
    from trackside.sinks.mlflow import MLflowSink
    from trackside.sinks.prometheus import PrometheusSink
    from trackside.sinks.registry import make_sink
    from trackside.sinks.transformed import TransformedSink

__all__ = [
    "CallbackSink",
    "ConsoleSink",
    "EarlyStopping",
    "MLflowSink",
    "MemorySink",
    "PrometheusSink",
    "TransformedSink",
    "make_sink",
]

_LAZY = {
    "CallbackSink": "callback",
    "ConsoleSink": "console",
    "EarlyStopping": "early_stopping",
    "MLflowSink": "mlflow",
    "MemorySink": "memory",
    "PrometheusSink": "prometheus",
    "TransformedSink": "transformed",
    "make_sink": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
