"""When the student pays: properties of the arithmetic, and the published case's own figures."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.economics.arithmetic import (
    DIRECT_OUTPUT,
    Asked,
    OneOff,
    api_usd_per_million,
    break_even,
    labelling_usd,
    usd_per_million,
    work_out,
)
from runner.spec.prices import SHIPPED, Price, load_prices

usd = st.floats(0, 1e6, allow_nan=False)
rate = st.floats(0, 1e5, allow_nan=False)
maybe = st.none() | usd
MILLION = 1_000_000


@given(usd, rate, rate)
def test_the_break_even_is_the_first_number_of_texts_at_which_the_student_is_no_dearer(
    once: float, student: float, other: float
) -> None:
    outcome, texts = break_even(OneOff(once, 0.0, 0.0), student, other)
    if outcome == "never":
        assert student >= other and texts is None
        return
    assert outcome == "pays" and texts is not None and other > student

    def saved(number: int) -> Fraction:
        return number * (Fraction(other) - Fraction(student)) / MILLION - Fraction(once)

    assert saved(texts) >= 0
    assert texts == 0 or saved(texts - 1) < 0


@given(usd, usd, rate, rate, rate)
def test_a_dearer_start_or_a_cheaper_rival_puts_it_off(
    once: float, more: float, student: float, first: float, second: float
) -> None:
    def texts(start: float, other: float) -> float:
        found = break_even(OneOff(start, 0.0, 0.0), student, other)[1]
        return float("inf") if found is None else found

    assert texts(min(once, more), first) <= texts(max(once, more), first)
    assert texts(once, max(first, second)) <= texts(once, min(first, second))


@given(maybe, maybe, maybe, rate)
def test_what_is_not_known_is_neither_zero_nor_a_break_even(
    labelling: float | None, training: float | None, review: float | None, student: float
) -> None:
    one_off = OneOff(labelling, training, review)
    assert one_off.complete == (None not in (labelling, training, review))
    assert one_off.known == pytest.approx(sum(part for part in (labelling, training, review) if part is not None))
    assert break_even(one_off, student, None) == ("unknown", None)


@given(st.none() | rate, st.none() | st.floats(0, 1e7), st.floats(0, 1e7), st.integers(1, 100))
def test_labels_cost_no_less_than_either_clock_says(
    price: float | None, busy: float | None, stage: float, replicas: int
) -> None:
    cost = labelling_usd(price, busy, stage, replicas)
    if price is None or busy is None:
        assert cost is None
        return
    assert cost is not None
    assert cost * 3600 == pytest.approx(max(price * busy, price * stage * replicas))


@given(rate, rate, st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 25))
def test_an_api_costs_its_tokens(in_usd: float, out_usd: float, tokens_in: float, out: float, calls: float) -> None:
    price = Price(name="x", input_usd=in_usd, output_usd=out_usd, date="", source="")
    cost = api_usd_per_million(price, Asked("cot", calls, tokens_in, out, ""))
    tokens = calls * MILLION * tokens_in, calls * MILLION * out  # of a million texts
    assert cost == pytest.approx(tokens[0] / MILLION * in_usd + tokens[1] / MILLION * out_usd)


def test_the_published_costs_come_out_of_the_shipped_prices() -> None:
    gpt35, gpt4, *_ = load_prices(SHIPPED).apis
    asked = Asked("direct", 1, 297.16, DIRECT_OUTPUT, "published")
    assert api_usd_per_million(gpt35, asked) == pytest.approx(153.08, abs=0.005)
    assert api_usd_per_million(gpt4, asked) == pytest.approx(3061.6, abs=0.05)
    assert usd_per_million(0.60, 61.49) == pytest.approx(2.71, abs=0.005)


def test_each_api_stands_there_twice_and_a_mode_without_answers_is_not_known() -> None:
    price = Price(name="A", input_usd=1.0, output_usd=10.0, date="2026-01-01", source="s")
    direct = Asked("direct", 1, 100, DIRECT_OUTPUT, "c")
    found = work_out(OneOff(1.0, 0.5, 0.0), 1.0, None, [direct], [price])
    assert [(row["name"], row["mode"], row["usd_per_million"], row["outcome"]) for row in found["rows"]] == [
        ("teacher", None, None, "unknown"),
        ("A", "direct", 130.0, "pays"),
        ("A", "cot", None, "unknown"),
    ]
    assert found["rows"][1]["break_even_texts"] == 11_628  # 1.5 USD over 129 USD a million
    assert found["one_off"]["usd"] == 1.5 and found["one_off"]["complete"]
    both = work_out(OneOff(1.0, 0.5, 0.0), 1.0, 0.5, [direct, Asked("cot", 2.0, 100, 50, "c")], [price])
    assert both["rows"][2]["usd_per_million"] == 2 * (100 + 500)
    assert both["rows"][0]["outcome"] == "never"
