"""When the student pays: the arithmetic of docs/economics.md, on plain numbers. Knows no files and no stages.

Money is in USD, for a million texts where it is a rate. None is a figure that nobody knows: it never counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from runner.spec.prices import Price

MILLION = 1_000_000
DIRECT_OUTPUT = 3
"""Output tokens of an answer that is one label, as the published table counts them (Laurer 2024)."""

Outcome = Literal["pays", "never", "unknown"]


@dataclass(frozen=True)
class OneOff:
    """What is spent once, before the first text of the corpus; ``review`` is 0 where nobody reviews."""

    labelling: float | None
    training: float | None
    review: float | None

    @property
    def usd(self) -> float | None:
        """The whole cost, or a bound below it; None where nothing is known of it."""
        return self.known if self.known or self.complete else None

    @property
    def known(self) -> float:
        """The sum of the parts that are known."""
        return math.fsum(part for part in (self.labelling, self.training, self.review) if part is not None)

    @property
    def complete(self) -> bool:
        """Whether all parts are known, so that ``known`` is the whole cost and no bound below it."""
        return None not in (self.labelling, self.training, self.review)


@dataclass(frozen=True)
class Asked:
    """How an API would be asked about one text: ``calls`` of ``input`` tokens each, answered by ``output`` tokens.

    ``cot-3`` is ``cot`` as published tables count it: without the reasons that the API would write, and bill.
    """

    mode: Literal["direct", "cot", "cot-3"]
    calls: float
    input: float
    output: float
    counted: str


def usd_per_million(price_per_hour: float | None, texts_per_second: float | None) -> float | None:
    """USD for a million texts on a machine at that price, at that rate, with nothing else to do; None without both."""
    if price_per_hour is None or not texts_per_second:
        return None
    return price_per_hour / 3600 / texts_per_second * MILLION


def api_usd_per_million(price: Price, asked: Asked) -> float:
    """USD for a million texts: with prices for a million tokens, the tokens of one text times the price."""
    return asked.calls * (asked.input * price.input_usd + asked.output * price.output_usd)


def labelling_usd(price_per_hour: float | None, busy: float | None, elapsed: float, replicas: int) -> float | None:
    """What the labels cost, from the seconds that all replicas together were ``busy`` with them and those that went by.

    Neither holds all of it: more replicas than the least number may have been at work, and the start of the engine is
    no work. The larger is taken, so that the true cost is no less. None without a price, or where nothing was asked
    (recorded answers).
    """
    if price_per_hour is None or busy is None:
        return None
    return price_per_hour / 3600 * max(busy, elapsed * replicas)


def break_even(one_off: OneOff, student: float | None, other: float | None) -> tuple[Outcome, int | None]:
    """From how many texts on the student costs no more than ``other`` (both USD for a million texts).

    ``("never", None)`` where the student is not the cheaper of the two, whatever the one-off cost;
    ``("unknown", None)`` where one of the two is not known, or nothing of what the student cost to make.
    """
    if student is None or other is None:
        return "unknown", None
    saved = Fraction(other) - Fraction(student)
    if saved <= 0:
        return "never", None
    return "pays", math.ceil(Fraction(one_off.known) * MILLION / saved)


def work_out(
    one_off: OneOff, student: float | None, teacher: float | None, asked: Sequence[Asked], prices: Sequence[Price]
) -> dict[str, Any]:
    """All of it as JSON-able values: ``one_off``, ``tokens``, and a row for the teacher and for each API and mode."""
    rows: list[dict[str, Any]] = [
        {"name": "teacher", "mode": None, "date": None, "source": None, "usd_per_million": teacher}
    ]
    asked = [*asked, *(replace(one, mode="cot-3", output=DIRECT_OUTPUT) for one in asked if one.mode == "cot")]
    modes = ["direct", "cot", *(one.mode for one in asked if one.mode == "cot-3")]
    for price in prices:
        for mode in modes:
            how = next((one for one in asked if one.mode == mode), None)
            rows.append(
                {
                    "name": price.name,
                    "mode": mode,
                    "date": price.date,
                    "source": price.source,
                    "usd_per_million": api_usd_per_million(price, how) if how else None,
                }
            )
    for row in rows:
        outcome, texts = break_even(one_off, student, row["usd_per_million"])
        row |= {"outcome": outcome, "break_even_texts": texts}
    return {
        "one_off": {
            "labelling_usd": one_off.labelling,
            "training_usd": one_off.training,
            "review_usd": one_off.review,
            "usd": one_off.usd,
            "complete": one_off.complete,
        },
        "tokens": {one.mode: asdict(one) for one in asked},
        "rows": rows,
    }
