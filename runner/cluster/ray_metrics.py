"""A run's counters and gauges on the Prometheus endpoint of the driver's node, which Ray serves."""

from __future__ import annotations

from typing import Any

from runner.observe.metric_names import METRICS


class RayMetrics:
    """Those of one run. What is recorded before :meth:`open` waits for it.

    On a Ray without its agent (``ray[default]`` brings it) they stay where they are.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._is_open = False
        self._metrics: dict[str, Any] = {}
        self.waiting: list[tuple[str, float, dict[str, str]]] = []

    def open(self) -> None:
        """There is a Ray now."""
        self._is_open = True
        waiting, self.waiting = self.waiting, []
        for name, value, labels in waiting:
            self.record(name, value, labels)

    def close(self) -> None:
        """Ray is gone."""
        self._is_open = False
        self._metrics.clear()

    def record(self, name: str, value: float, labels: dict[str, str]) -> None:
        """Add to a counter of :data:`METRICS`, or set a gauge."""
        if not self._is_open:
            self.waiting.append((name, value, labels))
            return
        from ray.util import metrics

        known = METRICS[name]
        if name not in self._metrics:
            kind = metrics.Counter if known.kind == "counter" else metrics.Gauge
            self._metrics[name] = kind(name, known.meaning, ("run", *known.labels))
        metric, labels = self._metrics[name], {"run": self._run, **labels}
        if known.kind == "counter":
            metric.inc(value, labels)
        else:
            metric.set(value, labels)
