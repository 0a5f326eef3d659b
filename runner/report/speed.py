"""What was measured of speed, in words: where, and whether the machine had other work meanwhile."""

from __future__ import annotations

from typing import Any

from runner.report.text import flat, number

BUSY = 5.0
"""From this ratio of p95 to the median on, one text's latency says that the machine had other work."""

BUSY_AGAIN = 3.0
"""The same where the same text was timed twice: its length explains nothing of that."""


def busy(speed: dict[str, Any]) -> str:
    """A warning where latency scatters as it does on a machine with other work; nothing where it does not."""
    latency = speed.get("latency_ms") or {}
    p50, p95, again = latency.get("p50"), latency.get("p95"), speed.get("latency_repeat_p95")
    if again is not None and again >= BUSY_AGAIN:
        reason = f"the same text took up to {number(again, 2)} times as long when it was timed again"
    elif again is None and p50 and p95 and p95 >= BUSY * p50:
        reason = f"one text in twenty took {number(p95 / p50, 2)} times as long as the median, or longer"
    else:
        return ""
    return (
        f"The machine was busy while speed was measured: {reason}. Latency, throughput and all that is derived from "
        "them are those of a shared machine; measure again on an idle one."
    )


def device(name: object) -> str:
    """What something ran on: ``cpu`` is written as people write it."""
    return "CPU" if name in (None, "cpu") else flat(str(name))
