"""Values of vLLM's options that this program computes with: checked when the spec is, as vLLM's own fields are."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from runner.spec import load_spec
from runner.spec.engine_options import known_options, ours, read_here, refused, wrong_value
from runner.system.errors import SpecError

SHORT = Path(__file__).parents[1] / "specs" / "good" / "shortest.yaml"
ODD: list[Any] = [
    0,
    -1,
    1.5,
    True,
    False,
    "",
    "64",
    "nope",
    [],
    {},
    [64],
    None,
    float("nan"),
    float("inf"),
    2**40,
    10**400,
]


def test_each_is_an_option_of_vllm_that_a_spec_may_set() -> None:
    if not known_options():
        pytest.skip("vLLM is not installed")
    assert set(read_here) <= known_options() - set(ours) - set(refused)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_null_is_taken_where_it_is_vllms_default() -> None:
    found = importlib.util.find_spec("vllm")
    assert found and found.origin
    tree = ast.parse((Path(found.origin).parent / "engine" / "arg_utils.py").read_text(encoding="utf-8"))
    body = next(one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "EngineArgs")
    fields = {one.target.id: one.value for one in body if isinstance(one, ast.AnnAssign)}  # type: ignore[union-attr]
    for name, expected in read_here.items():
        default, source = fields[name], ast.unparse(fields[name])  # type: ignore[arg-type]
        if source in ("CacheConfig.num_gpu_blocks_override", "CacheConfig.kv_cache_memory_bytes"):
            assert expected.none
        else:
            assert expected.none == (isinstance(default, ast.Constant) and default.value is None), name


@pytest.mark.parametrize("name", read_here)
def test_odd_values_are_refused_at_their_place(name: str, tmp_path: Path) -> None:
    expected = read_here[name]
    allowed: list[Any] = [2**40]
    if expected.allows(True):
        allowed = [True, False]
    elif expected.choices or name == "gpu_memory_utilization":
        allowed = []
    elif name == "kv_cache_dtype":
        allowed = ["64", "nope"]
    passed = {repr(value) for value in ODD if wrong_value(name, value) is None}
    assert passed == {repr(value) for value in [*allowed, *([None] if expected.none else [])]}
    path = tmp_path / "spec.yaml"
    path.write_text(SHORT.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path, [f"teacher.engine_options={{{name}: [1]}}"])
    (problem,) = caught.value.problems
    assert problem.path == f"teacher.engine_options.{name}" and problem.message.startswith("expected ")


@pytest.mark.parametrize("engine", ["noop", "vllm"])
def test_whatever_the_engine_no_such_value_gets_further(engine: str) -> None:
    with pytest.raises(SpecError, match=r"expected a whole number, 1 or more, or null, found 'many'"):
        load_spec(SHORT, [f"teacher.engine={engine}", "teacher.engine_options={max_num_seqs: many}"])


def test_values_that_vllm_takes_are_passed_on_untouched() -> None:
    given = {"gpu_memory_utilization": 1, "max_num_seqs": None, "enforce_eager": True, "dtype": "half"}
    text = "{gpu_memory_utilization: 1, max_num_seqs: null, enforce_eager: true, dtype: half}"
    assert load_spec(SHORT, [f"teacher.engine_options={text}"]).teacher.engine_options == given
