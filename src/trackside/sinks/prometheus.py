"""Gauges of the latest values, for Prometheus to scrape."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import to_float
from trackside.errors import CoercionError, ConfigurationError
from trackside.lifecycle.fork import abandon_in_children, keep_in_children
from trackside.plugins import missing_extra
from trackside.sinks.values import LatestValues
from trackside.text import encodable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

    from trackside.events import MetricsSample
    from trackside.sinks.scrape_server import ScrapeServer

# https://prometheus.io/docs/concepts/data_model/ (the colon is for recording rules)
_BAD_CHARACTER = re.compile(r"[^a-zA-Z0-9_]")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = ("step", "timestamp_seconds")


class PrometheusSink:
    """One gauge for each metric: ``val/loss`` is ``trackside_val_loss{name="val/loss"}``.

    The label ``name`` separates metrics whose sanitised names are equal. ``trackside_step`` and
    ``trackside_timestamp_seconds`` are those of the last sample. A metric of such a name gets the suffix
    ``_metric``. Values are read when they are scraped, in the scraping thread.

    * ``port``: also serve them over HTTP there. 0 means any free port (see the attribute ``port``).
    * ``address``: the interface, by default this machine's own. ``"0.0.0.0"`` means all.
    * ``registry``: the ``CollectorRegistry`` to register in, a new one by default.
    * ``namespace``: goes before every name.
    * ``labels``: more labels for every gauge, such as ``{"job": "digits"}``.

    Raises :class:`~trackside.errors.ConfigurationError` if ``prometheus_client`` is not installed, the port
    is taken, or Prometheus does not allow a name.
    """

    stays_attached = True

    def __init__(
        self,
        *,
        port: int | None = None,
        address: str = "127.0.0.1",
        registry: CollectorRegistry | None = None,
        namespace: str = "trackside",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry as Registry
        except ImportError as error:
            raise missing_extra("PrometheusSink", "prometheus", error) from error
        self._labels = _checked_labels(labels)
        self._namespace = _checked_namespace(namespace)
        self._latest = LatestValues()
        self.registry: CollectorRegistry = Registry() if registry is None else registry
        """Where the gauges are registered."""
        self.registry.register(self)
        self.port: int | None = None
        """Where they are served."""
        self._server: ScrapeServer | None = None
        if port is not None:
            self._serve(address, port)
            abandon_in_children(self)

    def __repr__(self) -> str:
        return "PrometheusSink()" if self.port is None else f"PrometheusSink(port={self.port})"

    def on_metrics(self, sample: MetricsSample) -> None:
        """Keep the values for the next scrape."""
        self._latest.update(sample)

    def close(self) -> None:
        """Stop serving, and leave the registry."""
        keep_in_children(self)
        if self._server is not None:
            self._server.close()
            self._server = None
        try:
            self.registry.unregister(self)
        except KeyError:
            return  # closed before

    def abandon(self) -> None:
        """Close the port in a forked child, which would otherwise hold it as long as it lives."""
        if self._server is not None:
            self._server.abandon()
            self._server = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges as they are now. The registry calls this, in any thread."""
        from prometheus_client.core import GaugeMetricFamily

        sample = self._latest.sample
        if sample is None:
            return
        own = zip(_OWN, (sample.step, sample.timestamp_ms), (1, 1000), strict=True)
        families: dict[str, GaugeMetricFamily] = {}
        for name, number, unit in own:
            with contextlib.suppress(CoercionError):  # an unreadable step: the metrics matter more
                family = GaugeMetricFamily(
                    self._namespace + name, f"{name} of the last sample", labels=list(self._labels)
                )
                family.add_metric(list(self._labels.values()), to_float(number) / unit)
                yield family
        for name, value in self._latest.floats().items():
            gauge = self._gauge(name)
            if gauge not in families:
                families[gauge] = GaugeMetricFamily(gauge, "latest value", labels=["name", *self._labels])
            families[gauge].add_metric([encodable(name), *self._labels.values()], value)
        yield from families.values()

    def describe(self) -> list[Any]:
        """Return nothing, because names are known only once samples arrive."""
        return []

    def _gauge(self, name: str) -> str:
        sanitised = _BAD_CHARACTER.sub("_", name)
        return f"{self._namespace}{sanitised}_metric" if sanitised in _OWN else self._namespace + sanitised

    def _serve(self, address: str, port: int) -> None:
        from prometheus_client import make_wsgi_app

        from trackside.sinks.scrape_server import ScrapeServer

        try:
            self._server = ScrapeServer(address, port, make_wsgi_app(self.registry))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"PrometheusSink can't serve on {address}:{port}: {error}") from error
        self.port = self._server.port


def _checked_namespace(namespace: str) -> str:
    if not _LABEL.fullmatch(namespace):
        raise ConfigurationError(f"namespace must be letters, digits and underscores, not {namespace!r}")
    return f"{namespace}_"


def _checked_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    checked = {str(name): str(value) for name, value in (labels or {}).items()}
    for name in checked:
        if not _LABEL.fullmatch(name) or name.startswith("__") or name == "name":
            raise ConfigurationError(
                f"labels: {name!r} cannot be the name of a label, or is taken. Choose another"
            )
    return checked
