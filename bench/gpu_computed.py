"""What can be said of teachers on GPUs without one: memory by `plan`, and what vLLM chooses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_models import TEACHERS, teacher
from gpu_teacher import spec_for

CASES = (("mixtral-8x7b", 1), ("mixtral-8x7b", 2), ("mixtral-8x7b", 4), ("qwen2.5-7b", 1), ("qwen2.5-1.5b", 1))


def lines() -> Iterator[str]:
    """A line for each kind of GPU and teacher."""
    from runner import models
    from runner.planning.memory import teacher_memory
    from runner.system.accelerators import accelerators
    from runner.teacher.engines import vllm_config
    from runner.teacher.request import settings_of

    known = {one.name: one for one in TEACHERS}
    cases: list[tuple[str, dict[str, Any], list[str]]] = []
    asked = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in accelerators():
            for name, gpus in CASES:
                model, _ = teacher(known[name], Path(scratch))
                # As with real weights: without them the spec would name another way to load.
                spec = spec_for({"model": model, "real": True, "gpus": gpus, "kind": kind, "max_tokens": 128}, "cot")
                cases.append((f"{gpus} x {kind:<9} {name:<13}", *teacher_memory(spec, models.describe(model))))
                asked.append(vllm_config.Case(str(models.ensure(model)), settings_of(spec.teacher), kind))
        answers = vllm_config.ask(asked)
    for (who, memory, problems), answer in zip(cases, answers, strict=True):
        have = memory.get("have_gib")
        fits = f"{memory['need_gib']:6.1f} of {have:6.1f} GiB" if have else f"{memory['need_gib']:6.1f} GiB needed"
        said = answer.refused or answer.not_asked
        names = {"dtype": "", "max_num_seqs": " sequences", "max_num_batched_tokens": " tokens a step"}
        words = said or ", ".join(f"{answer.chosen[name]}{unit}" for name, unit in names.items())
        verdict = "does not fit" if problems else "fits" if have else "?"  # plan does not know that kind's memory
        yield f"{who} {verdict:<12} {fits}; vLLM: {words}"
