"""Numbers and foreign text, made fit to show.

Texts, labels and model names come from data: what is returned here holds no control character and no broken
code point, so that it can neither spoil a page nor speak to a terminal. Escaping is the page's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from runner.system.sanitize import clean, one_way
from runner.tasks.shared.shown import Figure

LONGEST = 300
"""Characters of a data text that are shown."""

NOTHING = "–"  # noqa: RUF001 (an en dash: what stands where there is no figure)


def flat(text: str) -> str:
    """The text on one line, without marks that turn the direction of writing: for terminals and plots."""
    return " ".join(one_way(clean(text)).split())


def cut(text: str, longest: int = LONGEST) -> str:
    """The beginning of a long text, with a mark where it was cut."""
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def plain(value: Any) -> Any:
    """A JSON value that any reader takes: no NaN or infinity, no half of a surrogate pair."""
    if isinstance(value, dict):
        return {plain(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8") if value.isascii() is False else value
    return value


def sources_of(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where figures come from that were not measured here, each place once."""
    return list(dict.fromkeys(line["source"] for line in lines if line.get("source")))


def percent(share: float | None, digits: int = 1) -> str:
    """0.914 -> ``91.4 %``"""
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def interval(low: float, high: float) -> str:
    """0.861, 0.95 -> ``86.1 to 95.0 %``"""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with ``digits`` significant digits, thousands set apart: 1234.5 -> ``1,234``."""
    if value is None:
        return NOTHING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 9)}f}"


def money(value: float | None) -> str:
    """US dollars: cents below a hundred, whole dollars above."""
    if value is None:
        return NOTHING
    if 0 < value < 0.01:
        return number(value, 2)
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration: 0.42 -> ``0.42 s``, 75 -> ``1 min 15 s``, 7380 -> ``2 h 3 min``."""
    if value is None:
        return NOTHING
    if value < 10:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{round(whole / 60) // 60} h {round(whole / 60) % 60} min"


def probability(p: float) -> str:
    """How a p-value is said: ``p = 0.42``, ``p < 0.001``."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2g}" if p < 0.995 else "p = 1"


def moment(iso: str | None) -> str:
    """An ISO time to the minute: ``2025-03-01 14:05 UTC``; anything else as it stands."""
    if not iso:
        return NOTHING
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".strip()


WRITERS: dict[str, Callable[[Any], str]] = {
    "percent": percent,
    "interval": lambda ends: interval(*ends),
    "decimal": "{:.3f}".format,
    "count": lambda count: f"{count or 0:,}",
}
"""How a figure of a task is written, by its format."""


def said(figure: Figure, value: float) -> str:
    """A system's figure behind its name: ``85.0 % right``, ``0.712 micro F1``."""
    return f"{WRITERS[figure.format](value)} {figure.adjective or figure.words}"


def written(figure: Figure, scores: Mapping[str, Any]) -> str:
    """A figure of a system's scores, as it is shown."""
    value: Any = scores
    for step in figure.name.split("."):
        value = (value or {}).get(step)
    return WRITERS[figure.format](value)
