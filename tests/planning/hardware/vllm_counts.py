"""What vLLM itself counts, as JSON on stdout: its own models on torch's meta device, for one rank of several.

Run by a test in a process of its own: it starts no engine, loads no weights and asks no GPU. The rank's share is what
vLLM's layers make of it, with the group of tensor parallelism told that it has so many members.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
import vllm.distributed.parallel_state as state
import vllm.model_executor.layers.quantization.auto_awq as awq
from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.fused_moe.oracle.int_wna16 import WNA16MoEBackend
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.v1.core.kv_cache_utils import get_kv_cache_groups

# Which kernel multiplies is asked of the platform, and a processor has none for experts in four bits. How weights are
# stored does not hang on it.
KERNELS = mock.patch.object(awq, "select_wna16_moe_backend", lambda *_, **__: (WNA16MoEBackend.MARLIN, None))


def counts(config: dict[str, object], ranks: int, block: int, dtype: str) -> dict[str, object]:
    """Bytes of one rank's weights by dtype, and of its KV cache for each block of ``block`` tokens."""
    with tempfile.TemporaryDirectory() as folder, KERNELS:
        Path(folder, "config.json").write_text(json.dumps(config))
        model = ModelConfig(model=folder, dtype=dtype, skip_tokenizer_init=True, max_model_len=2048)
        vllm = VllmConfig(model_config=model)
        vllm.cache_config.block_size = block
        vllm.cache_config.kv_cache_layout = "LBNHC"  # which an engine settles with its backends; all pages are alike
        vllm.parallel_config.tensor_parallel_size = ranks
        with set_current_vllm_config(vllm):
            if state._WORLD is None:
                state.init_distributed_environment(1, 0, f"file://{tempfile.mktemp()}", 0, "gloo")
                state.initialize_model_parallel(1, 1)
                state._EP = state._EP or state._TP  # made for models with experts alone, and the first may have none
            state._TP.world_size, state._TP.rank_in_group = ranks, 0
            torch.set_default_dtype(model.dtype)
            with torch.device("meta"):
                built = initialize_model(vllm_config=vllm)
            layers = vllm.compilation_config.static_forward_context.items()
            specs = {name: one.get_kv_cache_spec(vllm) for name, one in layers if isinstance(one, Attention)}
            groups = get_kv_cache_groups(vllm, specs)
    weights: Counter[str] = Counter()
    for name, parameter in built.named_parameters():
        if ".attn." not in name:  # scales of attention, which vLLM deletes once weights are loaded
            weights[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * parameter.element_size()
    # Each group takes a block of its own for the same tokens, and all groups' blocks are as large as the largest one.
    size = max(len(group.layer_names) for group in groups)
    page = next(iter(specs.values())).page_size_bytes
    return {"weights": dict(weights), "page": page * size * len(groups), "real": page * len(specs)}


if __name__ == "__main__":
    print(json.dumps([counts(*case) for case in json.load(sys.stdin)]))
