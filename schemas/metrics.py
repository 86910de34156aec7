"""Metrics: declared once with type, unit and a sentence; counted per batch; labels bounded.

A stage declares its metrics as module constants with :func:`counter`, :func:`gauge` and :func:`histogram`.
A :class:`Metrics` made from them belongs to one process or one test; nothing is registered globally but the
declarations, from which the documentation's table is generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

if TYPE_CHECKING:
    from collections.abc import Container

Kind = Literal["counter", "gauge", "histogram"]

_CATALOGUE: dict[str, MetricSpec] = {}

# A second series for each counter's own, that nothing here asks for: half of a page's length and cost.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: ``tierflow_<stage>_<thing>_<unit>[_total]``."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _declare(spec: MetricSpec) -> MetricSpec:
    if spec.name in _CATALOGUE:
        msg = f"metric {spec.name} is declared twice"
        raise ValueError(msg)
    if not spec.name.startswith("tierflow_"):
        msg = f"metric {spec.name} must start with tierflow_"
        raise ValueError(msg)
    if (spec.kind == "counter") != spec.name.endswith("_total"):
        msg = f"metric {spec.name}: counters, and only they, end in _total"
        raise ValueError(msg)
    _CATALOGUE[spec.name] = spec
    return spec


def counter(name: str, unit: str, help: str, *labels: str) -> MetricSpec:  # noqa: A002 - Prometheus' own word
    """Declare a counter; ``name`` ends in ``_total``."""
    return _declare(MetricSpec(name, "counter", unit, help, labels))


def gauge(name: str, unit: str, help: str, *labels: str) -> MetricSpec:  # noqa: A002 - Prometheus' own word
    """Declare a gauge."""
    return _declare(MetricSpec(name, "gauge", unit, help, labels))


def histogram(name: str, unit: str, help: str, *labels: str, buckets: tuple[float, ...]) -> MetricSpec:  # noqa: A002 - as above
    """Declare a histogram with explicit bucket bounds in ``unit``."""
    return _declare(MetricSpec(name, "histogram", unit, help, labels, buckets))


def catalogue() -> tuple[MetricSpec, ...]:
    """All metrics declared by the modules imported so far, by name."""
    return tuple(_CATALOGUE[name] for name in sorted(_CATALOGUE))


class Metrics:
    """The live values of declared metrics in one registry; a metric comes to life when it is first used."""

    __slots__ = ("_live", "_moved", "_texts", "registry")

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._live: dict[str, Counter | Gauge | Histogram] = {}
        self._texts: dict[str, bytes] = {}
        self._moved: set[str] = set()

    def add(self, spec: MetricSpec, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` to a counter."""
        metric = self._metric(spec, "counter")
        (metric.labels(**labels) if labels else metric).inc(amount)  # type: ignore[union-attr]  # kind checked above
        self._moved.add(spec.name)

    def set(self, spec: MetricSpec, value: float, **labels: str) -> None:
        """Set a gauge."""
        metric = self._metric(spec, "gauge")
        (metric.labels(**labels) if labels else metric).set(value)  # type: ignore[union-attr]  # kind checked above
        self._moved.add(spec.name)

    def observe(self, spec: MetricSpec, value: float, **labels: str) -> None:
        """Put one value into a histogram."""
        metric = self._metric(spec, "histogram")
        (metric.labels(**labels) if labels else metric).observe(value)  # type: ignore[union-attr]  # kind checked above
        self._moved.add(spec.name)

    def forget(self, spec: MetricSpec, **labels: str) -> None:
        """End one series, as for a policy that went quiet; unknown ones are ignored."""
        metric = self._live.get(spec.name)
        if metric is not None:
            metric.remove_by_labels(labels)
            self._moved.add(spec.name)

    def page(self, names: Container[str] | None = None) -> bytes:
        """Metrics in Prometheus' text format; one that has not moved since it was last asked for isn't written anew.

        With ``names`` only those.
        """
        asked = [each for each in self._live.items() if names is None or each[0] in names]
        for name, metric in asked:
            if name in self._moved:
                # First this: what another thread adds from here on is written now or marked again.
                self._moved.discard(name)
                self._texts[name] = generate_latest(metric)
        return b"".join(self._texts.get(name, b"") for name, _ in asked)

    def value(self, spec: MetricSpec, **labels: str) -> float:
        """The current value of a counter or gauge series; 0 when it never moved."""
        sample = spec.name if spec.kind != "histogram" else f"{spec.name}_count"
        found = self.registry.get_sample_value(sample, labels)
        return 0.0 if found is None else found

    def _metric(self, spec: MetricSpec, kind: Kind) -> Counter | Gauge | Histogram:
        if spec.kind != kind:
            msg = f"metric {spec.name} is a {spec.kind}, not a {kind}"
            raise TypeError(msg)
        metric = self._live.get(spec.name)
        if metric is None:
            if kind == "counter":
                metric = Counter(spec.name, spec.help, spec.labels, registry=self.registry)
            elif kind == "gauge":
                metric = Gauge(spec.name, spec.help, spec.labels, registry=self.registry)
            else:
                metric = Histogram(spec.name, spec.help, spec.labels, registry=self.registry, buckets=spec.buckets)
            self._live[spec.name] = metric
        return metric
