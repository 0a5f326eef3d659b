"""Weights and KV cache are exact: against transformers' models on the meta device, and against vLLM's own, per rank."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from runner import models
from runner.models import catalog
from runner.models.architecture import UnknownArchitectureError, active_parameters, kv_heads, parts
from runner.models.gguf import INT8_CONFIG
from runner.planning.hardware.layouts import IndivisibleError, check_divides, layout_of, weight_bytes
from runner.planning.hardware.memory import NO_FP16, UTILISATION, cache_of
from runner.planning.hardware.meta import meta_bytes, meta_parts
from runner.planning.hardware.weights import parts_of

BASE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 3,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32003,  # padded by vLLM
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
QWEN_MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512, "decoder_sparse_step": 1}
GEMMA1 = {"head_dim": 128, "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"}
GEMMA = GEMMA1 | {"sliding_window": 1024, "query_pre_attn_scalar": 128}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-biased": ("LlamaForCausalLM", {"model_type": "llama", "attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralForCausalLM", {"head_dim": 96}),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 128}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", QWEN_MOE | {"shared_expert_intermediate_size": 2048}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", QWEN_MOE | {"head_dim": 128, "mlp_only_layers": [1]}),
    "gemma": ("GemmaForCausalLM", GEMMA1),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"num_hidden_layers": 4}),
    "gemma3_text": ("Gemma3ForCausalLM", GEMMA | {"num_hidden_layers": 8, "sliding_window_pattern": 6}),
    "phi3": ("Phi3ForCausalLM", {"pad_token_id": 0}),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "granite": ("GraniteForCausalLM", {}),
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
ROUTERS = {"modules_to_not_convert": ["gate"]}
QUANTISED = [("llama", AWQ), ("llama", GPTQ), ("llama", FP8), ("llama", INT8_CONFIG), ("qwen2", INT8_CONFIG)]
QUANTISED += [("mixtral", AWQ | ROUTERS), ("mixtral", FP8)]


def config_of(name: str, **more: Any) -> dict[str, Any]:
    """A config.json of that architecture."""
    class_name, own = ARCHITECTURES[name]
    kinds = {}
    if name in ("gemma2", "gemma3_text"):  # as transformers writes them out
        every, layers = (2, 4) if name == "gemma2" else (6, 8)
        kinds = {"layer_types": ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)]}
    return {"model_type": name, "architectures": [class_name]} | BASE | kinds | own | more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a config.json, and no more."""
    return tmp_path


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_arithmetic_and_the_meta_device_say_the_same(folder: Path, name: str) -> None:
    config = config_of(name)
    found = parts(config)
    assert found == meta_parts(written(folder, config), config)
    size = sum(part.out * part.inner * count for part, count in found.items())
    assert meta_bytes(folder) == {"bfloat16": 2 * size}


def test_a_published_model_is_counted_exactly(folder: Path) -> None:
    mixtral = catalog.load().known["mistralai/Mixtral-8x7B-Instruct-v0.1"]
    config = dict(mixtral.config or {}) | {"architectures": ["MixtralForCausalLM"]}
    assert meta_bytes(written(folder, config)) == {"bfloat16": 93_405_585_408}
    assert weight_bytes(parts(config), 1, 8, layout_of(config), "bfloat16") == {"bfloat16": 93_405_585_408}
    assert active_parameters(config) == mixtral.active_parameters


@pytest.mark.parametrize("name", [*catalog.load().known, *catalog.load().models])
def test_the_catalogs_sizes_are_those_of_its_configurations(name: str) -> None:
    shape = catalog.load().known.get(name) or catalog.load().models[name].shape
    config = shape.config or {}
    if "model_type" not in config:
        pytest.skip("an encoder")
    size = sum(weight_bytes(parts(config), 1, kv_heads(config), layout_of(config), "float16").values())
    assert size == pytest.approx(shape.weight_bytes, rel=1e-3 if "int8" in name else 0)  # scales: fp32 in vLLM
    assert (shape.layers, shape.hidden) == (config["num_hidden_layers"], config["hidden_size"])


def test_an_architecture_that_is_not_known_is_asked_of_transformers_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(folder / "cache"))
    config = config_of("llama", model_type="stablelm", architectures=["StableLmForCausalLM"])
    with pytest.raises(UnknownArchitectureError, match="model_type 'stablelm' is not known here"):
        parts(config)
    found = parts_of(config, written(folder, config))
    assert sum(part.out * part.inner * count for part, count in found.items()) * 2 == sum(meta_bytes(folder).values())
    (folder / "config.json").unlink()
    assert parts_of(config, folder) == found, "kept from the first time"


def test_where_there_is_no_torch_what_it_would_count_is_unknown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is on the head of a cluster, which has seen no config.json of that kind."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(folder / "cache"))
    monkeypatch.setitem(sys.modules, "torch", None)
    config = config_of("llama", model_type="stablelm", architectures=["StableLmForCausalLM"])
    with pytest.raises(UnknownArchitectureError, match="'stablelm' is not known here, where there is no torch"):
        parts_of(config, written(folder, config))


def test_packed_weights_in_a_folder_are_counted_by_what_they_hold(folder: Path) -> None:
    config = config_of("llama", vocab_size=64, num_hidden_layers=1, quantization_config=AWQ)
    (written(folder, config) / "tokenizer_config.json").write_text("{}")
    attention = {"q_proj": (1024, 1024), "k_proj": (1024, 256), "v_proj": (1024, 256), "o_proj": (1024, 1024)}
    linear = attention | {"gate_proj": (1024, 3072), "up_proj": (1024, 3072), "down_proj": (3072, 1024)}
    half = {"embed": (64, 1024), "head": (64, 1024), "n1": (1024,), "n2": (1024,), "n3": (1024,)}
    weights: dict[str, Any] = {name: numpy.zeros(shape, "float16") for name, shape in half.items()}
    for name, (inner, out) in linear.items():
        weights[f"{name}.qweight"] = numpy.zeros((inner, out // 8), "int32")
        weights[f"{name}.qzeros"] = numpy.zeros((inner // 128, out // 8), "int32")
        weights[f"{name}.scales"] = numpy.zeros((inner // 128, out), "float16")
    save_file(weights, folder / "model.safetensors")
    facts = models.describe(str(folder))
    expected = weight_bytes(parts(config), 1, 4, layout_of(config), "float16")
    assert facts.weight_bytes == sum(expected.values())
    assert facts.parameters == sum(part.out * part.inner * count for part, count in parts(config).items())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (config_of("llama", quantization_config={"quant_method": "bitsandbytes"}), "'bitsandbytes' are not counted"),
        (config_of("llama", quantization_config=AWQ | {"modules_to_not_convert": ["o_proj"]}), "leaves 'o_proj' alone"),
        (config_of("llama", quantization_config=AWQ | ROUTERS), "leaves 'gate' alone"),
        (config_of("llama", quantization_config=GPTQ | {"desc_act": True}), "refuses GPTQ with desc_act"),
    ],
)
def test_layouts_that_are_not_counted_are_said(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=said):
        layout_of(config)


@pytest.mark.parametrize(
    "more",
    [{"layer_types": ["linear_attention"] * 3}, {"mamba_d_state": 128}, {"layers_block_type": ["mamba"] * 3}],
)
def test_other_states_than_keys_and_values_are_not_counted_as_such(more: dict[str, Any]) -> None:
    with pytest.raises(UnknownArchitectureError, match="other states than keys and values"):
        cache_of(config_of("llama", **more), 1, 2, 32)


@pytest.mark.parametrize(
    ("config", "gpus", "said"),
    [
        (config_of("llama"), 3, "16 attention heads cannot be divided among 3 GPUs: 1, 2, 4, 8 or 16 can"),
        (config_of("llama", num_attention_heads=18, num_key_value_heads=6), 9, "6 key-value heads can neither"),
        (config_of("llama", intermediate_size=3074), 4, "layers of 3074 neurons"),
        (config_of("llama", intermediate_size=2816, quantization_config=AWQ), 4, "quantisation groups of 128"),
    ],
)
def test_what_cannot_be_divided_is_said(config: dict[str, Any], gpus: int, said: str) -> None:
    with pytest.raises(IndivisibleError, match=said):
        check_divides(config, parts(config), gpus, layout_of(config))


CASES = [(name, None, ranks) for name in ARCHITECTURES for ranks in (1, 2, 8)]
CASES += [(name, layout, ranks) for name, layout in QUANTISED for ranks in (1, 2, 4)]
IDS = [f"{name}-{(layout or {}).get('quant_method')}-{ranks}" for name, layout, ranks in CASES]


@pytest.fixture(scope="module")
def vllms() -> list[dict[str, Any]]:
    """What vLLM counts of each case; in one process, for loading it takes long."""
    asked = []
    for name, layout, ranks in CASES:
        config = config_of(name) | ({"quantization_config": layout} if layout else {})
        asked.append((config, ranks, 32, "bfloat16"))
    script = Path(__file__).with_name("vllm_counts.py")
    done = subprocess.run(
        [sys.executable, script], input=json.dumps(asked), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow("vllm")
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_each_rank_has_the_weights_and_the_cache_that_vllm_gives_it(number: int, vllms: list[dict[str, Any]]) -> None:
    name, layout, ranks = CASES[number]
    config = config_of(name) | ({"quantization_config": layout} if layout else {})
    mine = weight_bytes(parts(config), ranks, kv_heads(config), layout_of(config), "bfloat16")
    assert mine == vllms[number]["weights"]
    cache = cache_of(config, ranks, 2, 32)
    assert cache.bytes_per_token * cache.block == vllms[number]["page"]


@pytest.mark.slow("long")
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_latent_attention_and_what_else_is_vllms() -> None:
    import torch
    from vllm.config.cache import CacheConfig
    from vllm.config.model import _FLOAT16_NOT_SUPPORTED_MODELS
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec

    latent = config_of("llama", kv_lora_rank=512, qk_rope_head_dim=64)
    spec = MLAAttentionSpec(block_size=64, num_kv_heads=1, head_size=576, dtype=torch.bfloat16)
    for ranks in (1, 8):  # every rank has all of it
        assert cache_of(latent, ranks, 2, 64).bytes_per_token * 64 == 3 * spec.page_size_bytes
    spec = FullAttentionSpec(block_size=16, num_kv_heads=2, head_size=64, dtype=torch.float8_e4m3fn)
    assert cache_of(config_of("llama"), 2, 1, 16).bytes_per_token * 16 == 3 * spec.real_page_size_bytes
    assert CacheConfig().gpu_memory_utilization == UTILISATION
    assert set(_FLOAT16_NOT_SUPPORTED_MODELS) == NO_FP16
