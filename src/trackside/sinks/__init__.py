"""Sinks: what listens to the bus in the training process."""

from trackside.sinks.mlflow import MLflowSink

__all__ = ["MLflowSink"]
