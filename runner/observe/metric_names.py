"""The metrics of a run, as data. docs/observability.md says how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One metric; each has the label ``run`` besides its own, and none a label that grows with the data."""

    kind: Literal["counter", "gauge"]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS = {
    "tutelage_rows_labelled_total": Metric("counter", "Rows that the teacher has answered"),
    "tutelage_tokens_total": Metric("counter", "Tokens of the teacher, by direction: prompt or output", ("direction",)),
    "tutelage_rows_applied_total": Metric("counter", "Rows of the corpus that the student has labelled"),
    "tutelage_rows_reused_total": Metric("counter", "Rows that an earlier run had done already", ("stage",)),
    "tutelage_rows_failed_total": Metric("counter", "Rows without an answer, by reason", ("stage", "reason")),
    "tutelage_worker_restarts_total": Metric("counter", "Workers that died and were started again", ("stage",)),
    "tutelage_gpu_seconds_total": Metric("counter", "Seconds, for each GPU that workers hold", ("stage",)),
    "tutelage_cost_usd_total": Metric("counter", "USD so far, by the prices in the spec", ("stage",)),
    "tutelage_rows_per_second": Metric("gauge", "Rows a second, since the stage's first", ("stage",)),
    "tutelage_progress_ratio": Metric("gauge", "Of the stage's rows that are done, from 0 to 1", ("stage",)),
}
"""Ray adds its own ``ray_`` in front. It forgets a gauge that was not set for two of its reports (20 seconds)."""
