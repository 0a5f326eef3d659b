"""The rows that were left out: dropped, failed, abstained on."""

from __future__ import annotations

from typing import Any


def removed(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(where, why, how many) of every row that was left out."""
    rows = [
        (f"{split} rows dropped", reason, count)
        for split, reasons in report["rows"]["dropped_by_reason"].items()
        for reason, count in reasons.items()
    ]
    label = report["label"]
    rows += [("teacher failed", reason, count) for reason, count in label["failures_by_reason"].items()]
    rows += [("teacher abstained", reason, count) for reason, count in label["abstained_by_reason"].items()]
    return [row for row in rows if row[2]]
