"""The truth table of what fits where, made by hand (``truth.yaml``), against what plan and run say, and in the docs.

``python tests/planning/hardware/test_truth.py`` prints the tables for ``docs/gpus.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from runner import models
from runner.models import ModelFacts
from runner.planning.hardware.memory import FEW_SEQUENCES
from runner.planning.hardware.teacher_fit import Asked, Row, judge, would_do
from runner.planning.hardware.training_memory import too_large
from runner.planning.hardware.weights import parts_of
from runner.system.accelerators import GIB, accelerators
from runner.teacher.engines.vllm_arguments import BLOCK_TOKENS

TRUTH: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("truth.yaml").read_text(encoding="utf-8"))
DOCS = Path(__file__).parents[3] / "docs" / "gpus.md"
CONTEXT, ROW = 2048, Row(0, 512)
OPTIONS = {"block_size": BLOCK_TOKENS}
CELLS = [
    (teacher, gpu, number + 1, verdict)
    for teacher, body in TRUTH["teachers"].items()
    for gpu, verdicts in body["verdicts"].items()
    for number, verdict in enumerate(verdicts)
]


def facts_of(teacher: str) -> ModelFacts:
    """What is known of the model before it is here."""
    body = TRUTH["teachers"][teacher]
    facts = models.describe(body["name"])
    assert facts.config is not None
    quantised = {"quantization_config": body["quantised"]} if "quantised" in body else {}
    return replace(facts, config={**facts.config, **quantised}, folder=None)


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model of this machine plays a part."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_the_table_is_whole() -> None:
    assert len(CELLS) == 5 * 9 * 8
    assert {gpu for _, gpu, _, _ in CELLS} == set(TRUTH["gpus"]) <= set(accelerators())


@pytest.mark.parametrize(("teacher", "gpu", "gpus", "verdict"), CELLS)
def test_a_teacher_fits_or_not_as_the_table_says(teacher: str, gpu: str, gpus: int, verdict: str) -> None:
    found = judge(Asked(teacher, accelerators()[gpu], gpus, CONTEXT, OPTIONS), facts_of(teacher), ROW)
    if verdict == "uneven":
        (problem,) = found.problems
        assert problem.startswith("teacher.resources.gpus: ") and problem.count("divided among") == 1
        return
    assert found.fit is not None
    weights, takes = TRUTH["teachers"][teacher]["weights_gib"], TRUTH["gpus"][gpu]["takes_gib"]
    assert found.fit.budget / GIB == pytest.approx(takes, abs=0.05)
    if gpus in weights:
        assert found.fit.weight_bytes / GIB == pytest.approx(weights[gpus], abs=0.051)
    if verdict == "fits":
        assert found.problems == [] == found.notes
        assert found.sequences is not None and found.sequences >= FEW_SEQUENCES
    elif verdict == "tight":
        (note,) = found.notes
        assert found.problems == [] and found.sequences is None
        assert "may not fit" in note and f"weights {weights[gpus]} GiB" in note and f"{takes} GiB" in note
    else:
        (problem,) = found.problems
        assert verdict == "not" and f"weights {weights[gpus]} GiB" in problem and f"{takes} GiB" in problem
        for kind, number in TRUTH["teachers"][teacher]["enough"].items():
            assert f"{number} x {kind}" in problem, "what would do is advised"


@pytest.mark.parametrize("teacher", TRUTH["teachers"])
def test_what_is_advised_is_the_fewest_that_fit(teacher: str) -> None:
    facts, body = facts_of(teacher), TRUTH["teachers"][teacher]
    assert facts.config is not None
    found = would_do(facts, parts_of(facts.config, None), CONTEXT, OPTIONS)
    assert {gpu: number for gpu, number in found.items() if gpu in TRUTH["gpus"]} == body["enough"]
    rows = body["verdicts"].items()
    assert body["enough"] == {gpu: row.index("fits") + 1 for gpu, row in rows if "fits" in row}


@pytest.mark.parametrize("gpu", TRUTH["gpus"])
def test_each_gpu_computes_as_the_table_says(gpu: str) -> None:
    body, one = TRUTH["gpus"][gpu], accelerators()[gpu]
    found = judge(Asked("any", one, 4, CONTEXT, OPTIONS), facts_of("Mixtral 8x7B, AWQ"), ROW).fit
    other = judge(Asked("any", one, 4, CONTEXT, OPTIONS), facts_of("Qwen2.5 7B, bf16"), ROW).fit
    assert found is not None and other is not None and found.dtype == "float16"
    assert other.dtype == {"fp16": "float16", "bf16": "bfloat16"}[body["computes"]]
    assert one.fp8 == (body["fp8"] == "in hardware")


@pytest.mark.parametrize("student", TRUTH["students"])
@pytest.mark.parametrize("tokens", [256, 512])
@pytest.mark.parametrize("gpu", TRUTH["gpus"])
def test_a_student_learns_in_as_many_parts_as_the_table_says(student: str, tokens: int, gpu: str) -> None:
    body = TRUTH["students"][student]
    parts = body["parts"][tokens].get(gpu, body["parts"][tokens]["others"])
    resources = SimpleNamespace(accelerator=gpu, gpus=1, workers=1)
    asked: Any = SimpleNamespace(resources=resources, precision="auto", batch_size=16, accumulate=1, max_length=tokens)
    said = too_large(asked, models.describe(body["name"]))
    assert (said is None) == (parts == 1)
    assert said is None or f"set student.accumulate: {parts}," in said
    asked.accumulate = parts
    assert too_large(asked, models.describe(body["name"])) is None


def tables() -> Iterator[str]:
    """The tables of ``docs/gpus.md``."""
    words = {"fits": "fits", "tight": "tight", "not": "no", "uneven": "-"}
    yield "| | " + " | ".join(TRUTH["gpus"]) + " |"
    yield "|---|" + "---|" * len(TRUTH["gpus"])
    for name, key in (
        ("vLLM takes, GiB", "takes_gib"),
        ("computes bf16 models in", "computes"),
        ("FP8 weights", "fp8"),
    ):
        yield f"| {name} | " + " | ".join(str(body[key]) for body in TRUTH["gpus"].values()) + " |"
    for teacher, body in TRUTH["teachers"].items():
        for number in (1, 2, 4, 8):
            cells = [words[row[number - 1]] for row in body["verdicts"].values()]
            weights = body["weights_gib"].get(number)
            if weights:
                yield f"| {teacher}, {number} GPU{'s' * (number > 1)}: {weights} GiB each | " + " | ".join(cells) + " |"
    for student, body in TRUTH["students"].items():
        for tokens, parts in body["parts"].items():
            cells = [str(parts.get(gpu, parts["others"])) for gpu in TRUTH["gpus"]]
            yield f"| {student}, 16 x {tokens} tokens: parts | " + " | ".join(cells) + " |"


def test_the_docs_show_the_table() -> None:
    assert "\n".join(tables()) in DOCS.read_text(encoding="utf-8")


if __name__ == "__main__":
    print("\n".join(tables()))
