"""What is not a finite number, not in the vocabulary, not as good as it was, or too few rows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.cluster import Cluster
from runner.held_out import split_rows
from runner.stages import train


def test_15_no_label_loses_both_of_its_two_rows() -> None:
    labels = [f"label {number // 2}" for number in range(100)]
    for seed in range(20):
        held_out, kept = split_rows(labels, 0.5, seed)
        assert set(Counter(labels[row] for row in kept)) == set(labels)
        assert len(held_out) == 50


def test_15_the_only_row_of_a_label_is_learned_from() -> None:
    labels = ["common"] * 30 + ["rare"]
    assert all(30 in split_rows(labels, 0.5, seed)[1] for seed in range(50))
    assert split_rows([str(number) for number in range(40)], 0.1, 0) == ([], list(range(40)))


def test_15_of_a_handful_of_rows_none_is_held_out() -> None:
    assert split_rows(["good", "bad"], 0.1, 0) == ([], [0, 1])
    assert split_rows(["good"] * 5 + ["bad"] * 4, 0.5, 0)[0] == []


class Here(Cluster):
    """Runs what Ray would be handed in this process."""

    def train(self, loop: Any, config: dict[str, Any], *where: Any) -> dict[str, Any]:
        found: dict[str, Any] = loop(config, lambda said: None)
        return found

    def call(self, function: Any, wanted: Any, *, fresh: bool = False, **arguments: Any) -> Any:
        return function(**arguments)


def run_train(job: Any, *overrides: str) -> tuple[Any, dict[str, Any]]:
    job.do("vote", *overrides)
    context = replace(job.context("train", job.spec(*overrides)), cluster=Here())
    return context, train.run(context)


def test_15_four_rows_are_all_learned_from_and_it_is_said(job: Any, tiny_model: Path) -> None:
    context, summary = run_train(job, f"student.model={tiny_model}", "student.epochs=2")
    assert summary["rows"] == 4 and summary["held_out"] == 0
    [warning] = summary["warnings"]
    assert warning.startswith("none of the 4 labelled train rows is held out") and warning in job.said.getvalue()
    rows = context.here.read_table("rows.parquet").to_pylist()
    assert len(rows) == 4 and not any(row["held_out"] for row in rows)
    json.dumps(summary, allow_nan=False)
