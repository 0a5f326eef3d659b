"""What is said of a teacher's memory: odd configurations, options that are not counted, contexts and rows."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.models import ModelFacts
from runner.models.architecture import UnknownArchitectureError, active_parameters, parts
from runner.planning.hardware.layouts import IndivisibleError, check_divides, layout_of
from runner.planning.hardware.memory import Steps, fit, reserve
from runner.planning.hardware.meta import meta_model
from runner.planning.hardware.teacher_fit import Asked, Row, Verdict, judge
from runner.planning.hardware.training_memory import emulated
from runner.system.accelerators import MIB, accelerators

from .test_counts import AWQ, FP8, GPTQ, config_of

COMPRESSED = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}},
    },
}


def facts_of(config: dict[str, Any], context: int | None = 4096) -> ModelFacts:
    return ModelFacts(None, None, None, None, None, None, context, None, present=True, config=config)


def judged(config: dict[str, Any], context: int = 2048, gpus: int = 2, gpu: str = "L4", **options: Any) -> Verdict:
    asked = Asked("the-model", accelerators()[gpu], gpus, context, {"block_size": 32} | options)
    return judge(asked, facts_of(config), Row(64, 256))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"quantization_config": GPTQ | {"bits": 0}}, "bits: 0, where a whole number"),
        ({"quantization_config": GPTQ | {"bits": 3}}, "no GPTQ of 3 bits"),
        ({"quantization_config": AWQ | {"bits": 8}}, "no AWQ of 8 bits"),
        ({"quantization_config": GPTQ | {"group_size": 0}}, "group_size: 0"),
        ({"quantization_config": GPTQ | {"sym": False}}, "refuses GPTQ with sym: false"),
        ({"quantization_config": GPTQ | {"dynamic": {"+:.*": {"bits": 8}}}}, "rules for single layers"),
        ({"quantization_config": FP8 | {"weight_block_size": 128}}, "weight_block_size is not two whole numbers: 128"),
        ({"quantization_config": FP8 | {"weight_block_size": [128, 0]}}, "weight_block_size is not two whole numbers"),
        ({"quantization_config": FP8 | {"ignored_layers": 5}}, "ignored_layers: 5, where a list"),
        ({"quantization_config": COMPRESSED}, "do not say whether they are symmetric"),
        ({"quantization_config": COMPRESSED | {"config_groups": [1, 2]}}, "do not have one config_group"),
        ({"quantization_config": COMPRESSED | {"config_groups": {"group_0": 5}}}, "do not have one config_group"),
        ({"quantization_config": "awq"}, "quantization_config is no mapping: 'awq'"),
        ({"quantization_config": []}, r"quantization_config is no mapping: \[\]"),
        ({"num_attention_heads": 0}, "num_attention_heads: 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads: 0"),
        ({"num_attention_heads": 2048}, "hidden size of 1024 among 2048 heads"),
        ({"head_dim": -64}, "head_dim: -64"),
        ({"num_hidden_layers": -3}, "num_hidden_layers: -3"),
        ({"num_hidden_layers": 10**6}, "describes 1000000 layers"),
        ({"hidden_size": "1024"}, "hidden_size: '1024'"),
        ({"layer_types": 5}, "layer_types: 5, where a list"),
        ({"layer_types": "full_attention"}, "layer_types: 'full_attention', where a list"),
    ],
)
def test_an_odd_configuration_is_unknown_with_its_reason(more: dict[str, Any], said: str) -> None:
    config = config_of("llama", **more)
    with pytest.raises(UnknownArchitectureError, match=said):
        fit(config, parts(config), accelerators()["L4"], 2, 2048, {})
    found = judged(config)
    assert found.problems == [] and found.notes == [
        f"teacher.resources: memory is not counted, for {found.arithmetic[9:]}"
    ]


@pytest.mark.parametrize(
    ("more", "said"), [({"decoder_sparse_step": 0}, "decoder_sparse_step: 0"), ({"mlp_only_layers": 5}, "where a list")]
)
def test_an_odd_mixture_of_experts_is_unknown_with_its_reason(more: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=said):
        parts(config_of("qwen3_moe", **more))


ODD: list[Any] = [0, -3, "x", 5.5, None, [], {}, True, [1], {"a": 1}, "full_attention", 10**12]


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "qwen2_moe", "gemma3_text", "phi3", "mixtral"])
def test_whatever_a_field_holds_nothing_else_is_raised(name: str) -> None:
    whole = config_of(name, decoder_sparse_step=1, mlp_only_layers=[], kv_lora_rank=None, num_local_experts=8)
    quantised = [AWQ, GPTQ, FP8 | {"weight_block_size": [128, 128], "ignored_layers": []}, COMPRESSED]
    odd = [{**whole, field: value} for field in whole for value in ODD]
    for layout in quantised:
        odd += [{**whole, "quantization_config": {**layout, field: value}} for field in layout for value in ODD]
    group = COMPRESSED["config_groups"]["group_0"]["weights"]  # type: ignore[index]
    for field in (*group, "symmetric"):
        weights = [{"weights": {**group, "symmetric": True, field: value}} for value in ODD]
        odd += [{**whole, "quantization_config": COMPRESSED | {"config_groups": {"g": one}}} for one in weights]
    begun = time.monotonic()
    for config in odd:
        assert isinstance(judged(config), Verdict)
        try:
            active_parameters(config)
        except UnknownArchitectureError:
            continue
    assert time.monotonic() - begun < 60


def test_what_transformers_cannot_build_is_unknown_whatever_it_raises(tmp_path: Path) -> None:
    config = config_of("llama", model_type="stablelm", architectures=["StableLmForCausalLM"], num_attention_heads=0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownArchitectureError, match="transformers cannot build it"):
        meta_model(tmp_path)


def test_gptq_with_ordered_inputs_is_counted_where_one_group_holds_all() -> None:
    whole = layout_of({"quantization_config": GPTQ | {"desc_act": True, "group_size": -1}})
    assert whole == layout_of({"quantization_config": GPTQ | {"group_size": -1}}) and whole.group == 0


@pytest.mark.parametrize(
    ("config", "gpus", "said"),
    [
        (config_of("llama"), 3, "16 attention heads cannot be divided among 3 GPUs: 1, 2, 4, 8 or 16 can"),
        (config_of("llama", num_attention_heads=18, num_key_value_heads=6), 9, "among 9 GPUs nor repeated: 1 or 2 can"),
        (config_of("llama", intermediate_size=3074), 4, "3074 neurons cannot be divided among 4 GPUs: 1 or 2 can"),
        (config_of("llama", intermediate_size=2816, quantization_config=AWQ), 4, "among 4 GPUs: 1 or 2 can"),
        (config_of("llama", intermediate_size=3000, quantization_config=AWQ), 2, "2 GPUs, nor among any other number"),
    ],
)
def test_what_cannot_be_divided_comes_with_the_numbers_that_can(config: dict[str, Any], gpus: int, said: str) -> None:
    with pytest.raises(IndivisibleError) as caught:
        check_divides(config, parts(config), gpus, layout_of(config))
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ({"num_gpu_blocks_override": 10}, False),
        ({"num_gpu_blocks_override": None}, True),
        ({"enable_prefix_caching": False}, False),
        ({"enable_prefix_caching": True}, True),
        ({"enable_prefix_caching": None}, True),
        ({"cpu_offload_gb": 4}, False),
        ({"cpu_offload_gb": 0}, True),
        ({"offload_group_size": 1}, False),
        ({"kv_offloading_size": 1.0}, False),
        ({"pipeline_parallel_size": 1}, True),
        ({"pipeline_parallel_size": 2}, False),
        ({"kv_cache_dtype": "fp8_per_token_head"}, False),
        ({"kv_cache_dtype": "fp8"}, True),
    ],
)
def test_options_that_are_not_counted_are_said(options: dict[str, Any], counted: bool) -> None:
    found = judged(config_of("llama"), **options)
    assert (found.fit is not None) == counted
    assert counted or "memory is not counted" in found.notes[0]


def test_computing_in_fp32_takes_twice_the_room_for_a_step() -> None:
    config, step = config_of("llama"), Steps(100_000, 1)
    none = reserve(config, 1, Steps(0, 0))
    assert reserve(config, 1, step, size=4) - none == 2 * (reserve(config, 1, step) - none)
    wide, half = judged(config, dtype="float32", gpu="H100").fit, judged(config, gpu="H100").fit
    assert wide is not None and half is not None and wide.reserve > half.reserve


@pytest.mark.parametrize(
    ("options", "option", "rows"),
    [
        ({"max_num_batched_tokens": 32}, "max_num_batched_tokens", 32),
        ({"max_num_seqs": 16}, "max_num_seqs", 16),
        ({"max_num_seqs": 16, "max_num_batched_tokens": 8192}, "max_num_seqs", 16),
    ],
)
def test_where_the_step_limits_the_rows_no_gpus_are_advised(options: dict[str, Any], option: str, rows: int) -> None:
    found = judged(config_of("llama"), **options)
    (note,) = found.notes
    assert found.sequences == rows and note.startswith(f"teacher.engine_options.{option}: a step has {rows} rows at mo")
    assert "larger GPUs" not in note


def share_for(config: dict[str, Any], room: int, **options: Any) -> float:
    """The share of an L4 that leaves ``room`` bytes for the cache."""
    found = judged(config, gpus=1, **options).fit
    assert found is not None
    return (found.weight_bytes + found.reserve + room) / accelerators()["L4"].memory_bytes


def test_where_the_cache_limits_them_they_are() -> None:
    config = config_of("llama")
    (note,) = judged(config, gpus=1, gpu_memory_utilization=share_for(config, 25 * MIB)).notes
    assert "the KV cache holds" in note and "more or larger GPUs" in note


ROPES = [("linear", False), ("dynamic", False), ("yarn", True), ("llama3", True), ("default", True)]


def test_a_context_over_the_models_is_one_problem_and_no_advice_on_memory() -> None:
    found = judged(config_of("llama"), context=4097)
    assert found.problems == [
        "teacher.max_context: 4097 tokens are more than the-model reads (4096): set it to 4096 or less"
    ]
    assert found.notes == [] and found.fit is None
    assert judged(config_of("llama"), context=4096).problems == []


@pytest.mark.parametrize(("kind", "refused"), ROPES)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_positions_that_are_scaled_reach_further(field: str, kind: str, refused: bool) -> None:
    config = config_of("llama", **{field: {"rope_type": kind, "factor": 4.0}})
    assert bool(judged(config, context=8192).problems) == refused
    assert judged(config, context=8192, hf_overrides={"max_position_embeddings": 8192}).problems == []


@pytest.mark.parametrize(
    ("options", "advised"),
    [
        ({}, "{max_num_batched_tokens: 2048, max_num_seqs: 128}"),
        ({"max_num_seqs": 16}, "{max_num_batched_tokens: 2048}"),
        ({"enable_chunked_prefill": False}, "{max_num_batched_tokens: 4096, max_num_seqs: 128}"),
        ({"max_num_seqs": 16, "max_num_batched_tokens": 1024}, None),
    ],
)
def test_a_smaller_step_is_advised_where_it_would_do(options: dict[str, Any], advised: str | None) -> None:
    config = config_of("llama")
    share = share_for(config, -MIB, **options)
    (note,) = judged(config, context=4096, gpus=1, gpu_memory_utilization=share, **options).notes
    assert "may not fit" in note and (f"With engine_options: {advised} it should" in note) == (advised is not None)
    assert advised is not None or "With engine_options" not in note


def test_of_a_model_whose_size_alone_is_known_the_share_of_the_gpu_counts() -> None:
    sized = ModelFacts(None, None, 18 * 1024**3, None, None, None, 4096, None, present=True)
    whole = judge(Asked("the-model", accelerators()["L4"], 1, 2048, {}), sized, None)
    half = judge(Asked("the-model", accelerators()["L4"], 1, 2048, {"gpu_memory_utilization": 0.5}), sized, None)
    assert not whole.problems
    assert "does not fit: weights 18.0 GiB on each of 1 x L4: 10.8 GiB" in half.problems[0]


@pytest.mark.parametrize(
    ("gpu", "precision", "said"),
    [("T4", "bf16", True), ("T4", "auto", False), ("T4", "fp16", False), ("L4", "bf16", False), (None, "bf16", False)],
)
def test_bf16_without_hardware_for_it_is_told(gpu: str | None, precision: str, said: bool) -> None:
    resources = SimpleNamespace(accelerator=gpu, gpus=1 if gpu else 0)
    found = emulated(cast(Any, SimpleNamespace(resources=resources, precision=precision)))
    assert (found is not None) == said
    assert found is None or found.startswith("student.precision: T4 has no hardware for bf16 (compute capability 7.5")
