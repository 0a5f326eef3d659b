"""What is spent, and on whom: prices, budgets, servers, and what a run folder may do."""

from __future__ import annotations

from typing import Any

import pytest

from runner.economics import OneOff, work_out
from runner.plan import make_plan
from runner.spec.prices import SHIPPED, load_prices
from runner.stages import benchmark


def test_02_no_price_gives_no_money(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live = ("teacher.engine=vllm", "teacher.model=org/teacher", "teacher.columns=[]")
    job.do("load", *live)
    context = job.context("benchmark", job.spec(*live))
    for name, seconds in (("label", 1800.0), ("train", 7200.0)):
        summary = {"rows": 7, "seconds": 900.0, "prompt_tokens": None, "rows_per_second": 2.0}
        context.inputs[name].finish({"stage": name, "seconds": seconds, "summary": summary})
    monkeypatch.setattr(context.cluster, "call", lambda *_, **__: {"hardware": {"cores": 1}, "texts_per_second": 100.0})
    assert benchmark.run(context) == {"texts_per_second": 100.0, "usd_per_million": None}
    found = context.here.read_json("benchmark.json")
    for who in ("student", "teacher"):
        assert (found[who]["price_per_hour"], found[who]["usd_per_million"], found[f"{who}_usd"]) == (None, None, None)
    assert found["economics"]["one_off"] == {
        "labelling_usd": None,
        "training_usd": None,
        "review_usd": 0.0,
        "usd": None,
        "complete": False,
    }
    assert {(row["outcome"], row["break_even_texts"]) for row in found["economics"]["rows"]} == {("unknown", None)}
    assert (make_plan(job.spec(), job.run).student)["usd"] is None


def test_02_what_is_known_without_the_students_price_pays_nowhere() -> None:
    found = work_out(OneOff(12.5, None, 0.0), None, 4.0, [], load_prices(SHIPPED).apis)
    assert (found["one_off"]["usd"], found["one_off"]["complete"]) == (12.5, False)
    assert {row["outcome"] for row in found["rows"]} == {"unknown"}
