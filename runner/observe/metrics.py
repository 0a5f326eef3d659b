"""Counts a run's work for Prometheus, and what its workers hold and cost meanwhile.

:mod:`runner.observe.metric_names` lists the metrics; the cluster puts them on Ray's own endpoint. They are counted in
the driver, where results arrive: the workers know nothing of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.system import signals

REASONS = ("too long", "engine", "not finite", "unusable answer", "not asked")
"""Why a row has no answer: what stands before the colon of its reason in ``failures.parquet``."""
OTHER = "other"

TICK_SECONDS, LOOK_SECONDS = 1.0, 10.0


def reason_of(failure: str) -> str:
    """One of a few: what follows in a failure may quote the row."""
    head = failure.partition(":")[0]
    return head if head in REASONS else OTHER


def count_failures(cluster: Cluster, stage: str, failures: Iterable[str]) -> Counter[str]:
    """Count rows without an answer, each given by its reason in words; how many there are by reason."""
    counts = Counter(map(reason_of, failures))
    for reason, count in counts.items():
        cluster.count("tutelage_rows_failed_total", count, stage=stage, reason=reason)
    return counts


class Meter:
    """Counts what a stage's workers do; wrap it around their work, and ``tick`` where their results arrive.

    ``gpus`` and ``usd_per_hour`` are those of all workers together; None: nobody knows the price.
    """

    def __init__(
        self, cluster: Cluster, progress: Progress, stage: str, gpus: int = 0, usd_per_hour: float | None = None
    ) -> None:
        self._cluster, self._progress, self._stage = cluster, progress, stage
        self._gpus, self._usd_per_hour = gpus, usd_per_hour
        self._failed: Counter[str] = Counter()
        self._restarts = cluster.restarts()
        self._begun = self._ticked = self._looked = time.monotonic()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        now = time.monotonic()
        self._advance(now)
        if not signals.stopping():  # of a Ray that is gone nobody can ask
            self._look(now)
        self._cluster.gauge("tutelage_rows_per_second", 0.0, stage=self._stage)
        if self._failed:
            self._progress.tell("rows_failed", self._stage, reasons=dict(self._failed))
        seconds = now - self._begun
        if self._gpus or self._usd_per_hour is not None:
            usd = None if self._usd_per_hour is None else round(self._usd_per_hour / 3600 * seconds, 6)
            self._progress.tell("spent", self._stage, gpu_seconds=round(self._gpus * seconds, 3), usd=usd)

    def tick(self) -> None:
        """Time has passed."""
        now = time.monotonic()
        if now - self._ticked >= TICK_SECONDS:
            self._advance(now)
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)

    def labelled(self, rows: int, prompt_tokens: int, output_tokens: int) -> None:
        """The teacher answered ``rows`` more."""
        self._cluster.count("tutelage_rows_labelled_total", rows)
        self._cluster.count("tutelage_tokens_total", prompt_tokens, direction="prompt")
        self._cluster.count("tutelage_tokens_total", output_tokens, direction="output")

    def applied(self, rows: int) -> None:
        """The student labelled ``rows`` more of the corpus."""
        self._cluster.count("tutelage_rows_applied_total", rows)

    def reused(self, rows: int) -> None:
        """``rows`` more were done already."""
        self._cluster.count("tutelage_rows_reused_total", rows, stage=self._stage)

    def failed(self, failures: Iterable[str]) -> None:
        """These rows have no answer; each with its reason in words."""
        self._failed += count_failures(self._cluster, self._stage, failures)

    def _advance(self, now: float) -> None:
        seconds, self._ticked = now - self._ticked, now
        self._cluster.count("tutelage_gpu_seconds_total", self._gpus * seconds, stage=self._stage)
        self._cluster.count("tutelage_cost_usd_total", (self._usd_per_hour or 0.0) / 3600 * seconds, stage=self._stage)
        self._cluster.gauge("tutelage_rows_per_second", self._progress.rate, stage=self._stage)
        self._cluster.gauge("tutelage_progress_ratio", self._progress.share, stage=self._stage)

    def _look(self, now: float) -> None:
        self._looked, before = now, self._restarts
        self._restarts = max(before, self._cluster.restarts())
        if count := self._restarts - before:
            self._cluster.count("tutelage_worker_restarts_total", count, stage=self._stage)
            words = f"{count} worker{'s' * (count > 1)} died and {'were' if count > 1 else 'was'} started again"
            self._progress.tell("workers_restarted", self._stage, words, count=count)
