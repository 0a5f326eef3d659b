"""vLLM's own configuration on GPUs that are declared: what it refuses, what it chooses, and where it is not asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.commands.cli import main
from runner.spec import load_spec
from runner.teacher.engines import vllm_config
from runner.teacher.engines.vllm_arguments import EngineSettings, engine_options
from runner.teacher.engines.vllm_config import Answer, Case, ask
from runner.teacher.engines.vllm_dry_run import last_sentence

pytest.importorskip("vllm")

SMALL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "vocab_size": 512,
    "torch_dtype": "bfloat16",
}


def _case(root: Path, kind: str, gpus: int = 1, config: dict[str, Any] | None = None, **options: Any) -> Case:
    folder = root / f"{kind}-{len(list(root.iterdir()))}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL | (config or {})))
    return Case(str(folder), EngineSettings(2048, gpus, 7, options=options), kind)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers to all cases, of one process."""
    root = tmp_path_factory.mktemp("configs")
    cases = {
        "bf16 on a T4": _case(root, "T4", dtype="bfloat16"),
        "a T4": _case(root, "T4"),
        "a T4, as the user wants": _case(root, "T4", attention_backend="FLEX_ATTENTION"),
        "an L4": _case(root, "L4"),
        "an A100 of 80 GB": _case(root, "A100-80G"),
        "an H100": _case(root, "H100"),
        "three GPUs": _case(root, "H100", 3),
        "two GPUs": _case(root, "H100", 2),
        "too long": _case(root, "H100", config={"max_position_embeddings": 1024}),
        "unknown option value": _case(root, "H100", kv_cache_dtype="fp9"),
        "unknown architecture": _case(root, "H100", config={"architectures": ["NobodysForCausalLM"]}),
        "broken": replace(_case(root, "H100"), folder=str(root / "nowhere")),
    }
    (Path(cases["broken"].folder)).mkdir()
    return dict(zip(cases, ask(list(cases.values())), strict=True))


@pytest.mark.slow("vllm")
def test_a_t4_computes_bf16_models_in_fp16_and_nothing_in_bf16(said: dict[str, Answer]) -> None:
    assert said["a T4"].refused is None and said["a T4"].chosen["dtype"] == "float16"
    assert (said["bf16 on a T4"].refused or "").startswith(
        "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute "
        "capability 7.5."
    )
    assert said["an L4"].chosen["dtype"] == "bfloat16"


@pytest.mark.slow("vllm")
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("three GPUs", "Total number of attention heads (4) must be divisible by tensor parallel size (3)."),
        ("too long", "User-specified max_model_len (2048) is greater than the derived max_model_len"),
        ("unknown option value", "Input should be 'auto'"),
        ("unknown architecture", "NobodysForCausalLM"),
    ],
)
def test_what_vllm_refuses_comes_with_its_own_words(said: dict[str, Answer], case: str, words: str) -> None:
    answer = said[case]
    assert words in (answer.refused or ""), answer
    assert "\n" not in (answer.refused or "") and "errors.pydantic.dev" not in (answer.refused or "")
    assert answer.not_asked is None and not answer.chosen


@pytest.mark.slow("vllm")
def test_what_it_chooses_follows_the_gpu(said: dict[str, Answer]) -> None:
    assert [said[name].chosen["max_num_seqs"] for name in ("an L4", "an A100 of 80 GB", "an H100")] == [256, 256, 1024]
    assert (said["an H100"].chosen["executor"], said["two GPUs"].chosen["executor"]) == ("uni", "mp")
    assert said["two GPUs"].options["tensor_parallel_size"] == 2
    assert said["an H100"].options["seed"] == 7
    for name in ("an H100", "two GPUs"):
        assert said[name].environment["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
        assert said[name].environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1", "beside the actor, and not in it"


@pytest.mark.slow("vllm")
def test_on_a_t4_attention_needs_no_compiler(said: dict[str, Answer]) -> None:
    assert said["a T4"].options["attention_backend"] == "TRITON_ATTN"
    assert "attention_backend" not in said["an L4"].options
    assert said["a T4, as the user wants"].options["attention_backend"] == "FLEX_ATTENTION"


COMPILES = """\
import sys
import runner.student.predict  # which has torch read its variables
import torch
from runner.student import device

if sys.argv[1:]:
    device.compile_nothing()
seen = []
torch.compile(lambda x: x + 1, backend=lambda graph, inputs: seen.append(graph) or graph.forward)(torch.ones(1))
print(len(seen))
"""


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(("words", "compiled"), [([], 1), (["nothing"], 0)])
def test_on_processors_nothing_is_compiled_though_torch_was_imported_before(words: list[str], compiled: int) -> None:
    """The image for processors has no compiler: a teacher there would fail at its first answer."""
    done = subprocess.run([sys.executable, "-c", COMPILES, *words], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(compiled)], done.stderr


def test_sparse_attention_has_blocks_of_64(tmp_path: Path) -> None:
    folder = Path(_case(tmp_path, "H100", config={"index_topk": 2048}).folder)
    assert engine_options(EngineSettings(2048, 1, 7), folder)["block_size"] == 64
    assert engine_options(EngineSettings(2048, 1, 7), Path(_case(tmp_path, "H100").folder))["block_size"] == 32


@pytest.mark.slow("vllm")
def test_a_folder_without_a_model_is_told_by_vllm(said: dict[str, Answer]) -> None:
    answer = said["broken"]
    assert answer.refused or answer.not_asked
    assert not answer.chosen


@pytest.mark.slow("vllm")
def test_a_process_that_gives_no_answer_is_not_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = _case(tmp_path, "H100")
    [late] = ask([case], seconds=0.05)
    assert late == Answer(not_asked="it gave no answer within 0.05 seconds")
    monkeypatch.setattr(vllm_config.sys, "executable", "/bin/false")
    [dead] = ask([case])
    assert (dead.not_asked or "").startswith("its process ended with status 1") and dead.refused is None
    monkeypatch.setattr(vllm_config.importlib.util, "find_spec", lambda name: None)
    assert ask([case]) == [Answer(not_asked="vLLM is not installed here")]


def test_the_last_sentence_is_found_in_what_pydantic_wraps() -> None:
    wrapped = (
        "1 validation error for ModelConfig\n  Value error, No such thing. [type=value_error, input_value=X]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"
    )
    assert last_sentence(ValueError(wrapped)) == "No such thing."
    assert last_sentence(ValueError()) == "ValueError"
    assert last_sentence(ValueError("One. " + "Two " * 200 + ".")) == "One."


@pytest.fixture
def model(job: Any) -> str:
    """A whole model in a folder: two layers of random weights, and a tokenizer that knows three labels."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = job.root / "small-llm"
    torch.manual_seed(0)
    sizes = {name: value for name, value in SMALL.items() if isinstance(value, int)}
    LlamaForCausalLM(LlamaConfig(**sizes)).to(torch.bfloat16).save_pretrained(folder)
    words = ["<unk>", "negative", "neutral", "positive", "</s>"]
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def spec_on(job: Any, model: str) -> Callable[..., Path]:
    """Writes the job's spec with this teacher on GPUs."""

    def write(kind: str, more: str = "") -> Path:
        teacher = f"{{engine: vllm, model: {model}, resources: {{accelerator: {kind}, gpus: 1}}{more}}}"
        kept = [line for line in job.path.read_text().splitlines() if not line.startswith("teacher:")]
        job.path.write_text("\n".join([*kept, f"teacher: {teacher}"]) + "\n")
        return Path(job.path)

    return write


@pytest.mark.slow("vllm")
def test_plan_and_validate_tell_what_vllm_refuses(
    spec_on: Callable[..., Path], job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec_on("T4", ", engine_options: {kv_cache_dtype: fp9}")
    assert main(["plan", str(path), "--runs-dir", str(job.runs_dir)]) == 1
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if line.startswith("problem")]
    assert "teacher.model: vLLM refuses" in line and "on 1 x T4: cache_dtype: Input should be 'auto'" in line
    assert "Change teacher.model, teacher.resources or teacher.engine_options" in line
    assert main(["validate", "--deep", str(path)]) == 2
    said = capsys.readouterr().err
    place = len(path.read_text().splitlines())
    assert said.startswith(f"{path}:{place}:") and "teacher.model: vLLM refuses" in said
    assert main(["validate", str(path)]) == 0, "without --deep vLLM is not asked"


@pytest.mark.slow("vllm")
def test_a_fault_that_this_program_has_found_is_not_told_twice(
    spec_on: Callable[..., Path], job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["plan", str(spec_on("T4", ", engine_options: {dtype: bfloat16}")), "--runs-dir", str(job.runs_dir)]) == 1
    )
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]
    assert "does not compute in bfloat16" in line


@pytest.mark.slow("vllm")
def test_the_plan_tells_what_vllm_accepts(
    spec_on: Callable[..., Path], job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec_on("T4")
    assert main(["plan", str(path), "--runs-dir", str(job.runs_dir), "--json"]) == 0
    [facts] = json.loads(capsys.readouterr().out)["vllm"]
    assert facts["chosen"]["dtype"] == "float16" and facts["problem"] is None
    [line] = vllm_config.lines([facts])
    assert "accepts" in line and "dtype=float16" in line


def test_where_it_cannot_be_asked_the_reason_is_told(spec_on: Callable[..., Path], job: Any) -> None:
    path = spec_on("H100")
    for override, reason in (
        ("teacher.resources.accelerator=null", "teacher.resources names no accelerator"),
        ("teacher.resources.accelerator=V100", "V100 is not among the GPUs that are known here"),
        ("teacher.model=nobody/has-this", "the model's config.json is not on this machine"),
    ):
        [facts] = vllm_config.report(load_spec(path, [override]))
        assert reason in facts["not_asked"] and facts["problem"] is None
        assert reason in vllm_config.lines([facts])[0]
    assert vllm_config.report(load_spec(path, ["teacher.resources.gpus=0", "teacher.resources.accelerator=null"])) == []
