"""Keep everything in lists, for tests of code that logs, and for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.metrics import to_float_metrics
from trackside.params import to_plain
from trackside.sinks.described import place_of
from trackside.sinks.values import named_values

if TYPE_CHECKING:
    from trackside.events import ArtifactEvent, ConfigEvent, LifecycleEvent, MetricsSample


class MemorySink:
    """What was emitted, in order. Values are read at once, so later changes to a tensor do not show.

    It grows with every event, so do not use it for a long training.
    """

    stays_attached = True

    def __init__(self) -> None:
        self.samples: list[MetricsSample] = []
        """The samples as they were emitted."""
        self.configs: list[dict[str, Any]] = []
        """Each configuration as nested plain dicts."""
        self.lifecycle: list[LifecycleEvent] = []
        """Starts, crashes, signals and ends."""
        self.artifacts: list[ArtifactEvent] = []
        """Files, pictures, tables, checkpoints and models, as they were emitted."""
        self.closed: bool = False
        self._points: dict[str, list[tuple[Any, float]]] = {}

    def __repr__(self) -> str:
        metrics = f"{len(self.samples)} samples of {', '.join(self._points) or 'nothing'}"
        return f"MemorySink({metrics}, {len(self.artifacts)} artifacts)"

    @property
    def last_step(self) -> int | None:
        """The step of the latest sample. None before the first, and after one without a step."""
        step = self.samples[-1].step if self.samples else None
        return step if isinstance(step, int) else None

    @property
    def names(self) -> set[str]:
        """The metrics seen, by delivered name: ``val/loss``."""
        return set(self._points)

    def metrics(self, name: str) -> list[tuple[Any, float]]:
        """Return ``(step, value)`` of each point of a metric in the order logged, or an empty list."""
        return list(self._points.get(name, ()))

    def values(self, name: str) -> list[float]:
        """The values of a metric, in the order logged."""
        return [value for _, value in self.metrics(name)]

    def last(self, name: str) -> float:
        """The latest value of a metric. Raises ``KeyError`` for one never seen."""
        return self._points[name][-1][1]

    def artifact(self, place: str) -> ArtifactEvent:
        """The latest artifact with that key, file name or model name. Raises ``KeyError`` for one never seen.

        A file or folder has the place ``artifact_path/name``.
        """
        for event in reversed(self.artifacts):
            if place_of(event) == place:
                return event
        raise KeyError(place)

    @property
    def config(self) -> dict[str, Any]:
        """All configurations together, the later ones on top, by their outermost keys."""
        return {key: value for config in self.configs for key, value in config.items()}

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.samples, self.configs, self.lifecycle, self.artifacts, self._points):
            kept.clear()

    def on_metrics(self, sample: MetricsSample) -> None:
        """Keep a sample and its points."""
        self.samples.append(sample)
        for name, value in to_float_metrics(named_values(sample)).items():
            self._points.setdefault(name, []).append((sample.step, value))

    def on_config(self, event: ConfigEvent) -> None:
        """Keep a configuration."""
        self.configs.append(to_plain(event.config))

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Keep what happened."""
        self.lifecycle.append(event)

    def on_artifact(self, event: ArtifactEvent) -> None:
        """Keep what was logged as a file."""
        self.artifacts.append(event)

    def close(self) -> None:
        """Remember that the run closed this sink."""
        self.closed = True
