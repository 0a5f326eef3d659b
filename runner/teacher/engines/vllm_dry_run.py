"""Build vLLM's configuration on GPUs that are not there: the process that ``vllm_config`` starts.

vLLM asks its platform object everything that it wants to know of a GPU before it starts. That object is given another
class: vLLM's own for CUDA, with the declared GPU's name, capability and memory. The engine is then started as ever, by
``vllm.py``, up to the point where its configuration is made; nothing is computed and no weights are read.

Cases come as JSON on standard input, answers go as JSON to standard output. Source: vllm/platforms/cuda.py,
vllm/engine/arg_utils.py and vllm/v1/worker/gpu_worker.py of vLLM 0.32.
"""

from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any

import runner.student.device  # noqa: F401  # torch, before vLLM's compiled parts
from runner.system.accelerators import Accelerator, known
from runner.teacher.engines import vllm
from runner.teacher.engines.vllm_arguments import EngineSettings
from runner.teacher.engines.vllm_config import MARK, Answer

MOST = 400
"""Characters of a refusal."""


_REFUSALS = (ValueError, AssertionError, NotImplementedError)
"""As vLLM's checks of its configuration raise them; pydantic's ``ValidationError`` is a ValueError."""


class _Built(BaseException):
    """The configuration is there: what comes next would start the engine."""

    def __init__(self, arguments: dict[str, Any], config: Any) -> None:
        self.arguments, self.config = arguments, config


def main() -> None:
    """Answer the cases on standard input."""
    cases = json.load(sys.stdin)
    declared = _declared_platform()
    before = dict(os.environ)
    answers = []
    for case in cases:
        settings = EngineSettings(**case["settings"])
        declared.gpu, declared.count = known(case["gpu"]), settings.gpus
        os.environ.clear()
        # As Ray gives them to a worker; its own numbers do not matter here.
        os.environ.update(before | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(settings.gpus)))})
        answers.append(vars(_answer(Path(case["folder"]), settings, declared)))
    print(MARK + json.dumps(answers))


def _answer(folder: Path, settings: EngineSettings, platform: Any) -> Answer:
    before = dict(os.environ)
    built: _Built | None = None
    try:
        vllm._start(folder, settings)
    except _Built as configuration:
        built = configuration
    except _REFUSALS as error:
        return Answer(refused=last_sentence(error))
    except Exception as error:  # not of the configuration: of compiled parts, say, that this build does not have
        return Answer(not_asked=f"this build of vLLM cannot tell without the GPU ({last_sentence(error)})")
    if built is None:
        return Answer(not_asked="its engine started without a configuration that could be looked at")
    # Importing Ray sets a variable of its own.
    after = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    try:
        platform.check_if_supports_dtype(built.config.model_config.dtype)  # gpu_worker.py asks this in init_device
    except ValueError as error:
        return Answer(refused=last_sentence(error))
    return Answer(chosen=_chosen(built.config), options=built.arguments, environment=changed)


def _chosen(config: Any) -> dict[str, Any]:
    """What vLLM made of its arguments, as far as it is the same on a machine without the GPU.

    Attention backends, the model runner and kernels depend on what is compiled here, and are left out.
    """
    model, scheduler, cache, parallel = (
        getattr(config, name) for name in ("model_config", "scheduler_config", "cache_config", "parallel_config")
    )
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "max_model_len": model.max_model_len,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "chunked_prefill": scheduler.enable_chunked_prefill,
        "block_size": cache.block_size,
        "prefix_caching": cache.enable_prefix_caching,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "executor": str(parallel.distributed_executor_backend),
        "cuda_graphs": config.compilation_config.cudagraph_mode.name,
    }


def last_sentence(error: BaseException) -> str:
    """The last line with words of vLLM's error, without the frame that pydantic puts around it, in whole sentences."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("For further information visit")]
    found = (told[-1] if told else type(error).__name__).partition(" [type=")[0]
    found = found.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    # Pydantic names the field on a line of its own, before what is wrong with it.
    if len(told) > 1 and "[type=" in told[-1] and told[-2].isidentifier():
        found = f"{told[-2]}: {found}"
    whole = found[:MOST].rpartition(". ")[0] if len(found) > MOST else ""
    return f"{whole}." if whole else found[:MOST]


def _declared_platform() -> Any:
    """vLLM's platform object, as one that has the GPUs of its ``gpu`` and ``count``; arguments stop at their config."""
    _stand_in_for_kernels()
    # Imported while the platform is this machine's: they look for compiled kernels of a GPU's where it is one.
    import vllm.model_executor.model_loader.weight_utils  # noqa: F401
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.quantization import get_quantization_config
    from vllm.platforms import current_platform
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    class Declared(CudaPlatformBase):  # type: ignore[misc]  # vLLM has no types
        gpu: Accelerator
        count: int

        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> Any:
            return DeviceCapability(*cls.gpu.capability)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return cls.gpu.products[0]

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:
            return cls.gpu.nvml_bytes

        @classmethod
        def is_fully_connected(cls, device_ids: list[int]) -> bool:
            return True

        @classmethod
        def device_count(cls) -> int:
            return cls.count

        @classmethod
        def device_control_id_to_physical_device_id(cls, device_id: str) -> int:
            return int(device_id)

    get_quantization_config("fp8")  # imports them all
    current_platform.__class__ = Declared
    _stop_at_the_config(EngineArgs)
    return Declared


def _stand_in_for_kernels() -> None:
    """vLLM's platform for CUDA imports its kernels, and calls them only where something is computed; builds for other
    machines have none, and without a driver they cannot be loaded."""
    try:
        import vllm._C_stable_libtorch  # noqa: F401
    except (ImportError, OSError):
        sys.modules["vllm._C_stable_libtorch"] = types.ModuleType("vllm._C_stable_libtorch")


def _stop_at_the_config(arguments: Any) -> None:
    """Have ``arguments``, vLLM's ``EngineArgs``, raise :class:`_Built` when they have made their configuration."""
    make = arguments.create_engine_config

    def create(self: Any, *given: Any, **more: Any) -> Any:
        plain = arguments(model=self.model)
        both = {field.name: (getattr(self, field.name), getattr(plain, field.name)) for field in fields(self)}
        ours = {name: value for name, (value, default) in both.items() if value != default}
        raise _Built(json.loads(json.dumps(ours, default=str)), make(self, *given, **more))

    arguments.create_engine_config = create


if __name__ == "__main__":
    main()
