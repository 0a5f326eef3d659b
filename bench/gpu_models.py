"""Models for `bench/gpu.py`: real ones where they are on this machine, else the same sizes without weights.

A stand-in has the published architecture, a tokenizer that is trained here on the texts that ship, and a safetensors
file with a true header and no bytes behind it (a sparse file): `plan` counts it as it counts the real one, and vLLM's
`load_format: dummy` fills it with small random numbers. Its speed is that of the real one; its answers say nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "specs" / "data" / "company-news-train.csv"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN = {"num_hidden_layers": 28, "max_position_embeddings": 32768, "rope_theta": 1e6}


@dataclass(frozen=True)
class Teacher:
    """A size of teacher: where a real one may be found, and the configuration of the stand-in."""

    name: str
    real: tuple[str, ...]
    kind: str
    sizes: dict[str, Any]


# Sizes: config.json of the models named, as their publishers have them on the Hub.
TEACHERS = (
    Teacher(
        "mixtral-8x7b",
        ("mistralai/Mixtral-8x7B-Instruct-v0.1",),
        "MixtralForCausalLM",
        {"num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "rope_theta": 1e6},
    ),
    Teacher(
        "qwen2.5-7b",
        ("Qwen/Qwen2.5-7B-Instruct",),
        "Qwen2ForCausalLM",
        QWEN
        | {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
        | {"vocab_size": 152064},
    ),
    Teacher(
        "qwen2.5-1.5b",
        ("catalog:qwen2.5-coder-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct"),
        "Qwen2ForCausalLM",
        QWEN
        | {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
        | {"vocab_size": 151936, "tie_word_embeddings": True},
    ),
)
TINY_TEACHER = Teacher(
    "tiny",
    (),
    "Qwen2ForCausalLM",
    {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 4096, "tie_word_embeddings": True},
)
TINY_ENCODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
STUDENT = "catalog:all-mpnet-base-v2"


def texts(count: int) -> list[str]:
    """The texts that ship, over again with a number behind them, so that no two are alike."""
    with open(TEXTS, encoding="utf-8", newline="") as handle:
        known = [row["text"] for row in csv.DictReader(handle)]
    return [text if n < len(known) else f"{text} ({n})" for n, text in enumerate(islice(cycle(known), count))]


def teacher(one: Teacher, scratch: Path) -> tuple[str, bool]:
    """A real model's reference or the folder of a stand-in, and whether its weights are real. Fetches nothing."""
    from runner import models

    for reference in one.real:
        if models.describe(reference).present:
            return reference, True
    folder = scratch / one.name
    if not folder.exists():
        _stand_in(one, folder)
    return str(folder), False


def student(scratch: Path, tiny: bool) -> tuple[Path, str]:
    """An encoder's folder, and what it is: the shipped student where it is here, else a random one of its size."""
    from runner import models

    if not tiny and models.describe(STUDENT).present:
        return models.ensure(STUDENT), STUDENT
    import torch
    from transformers import BertConfig, BertModel

    folder = scratch / "encoder"
    tokenizer = _tokenizer(2048, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], encoder=True)
    torch.manual_seed(0)
    sizes = TINY_ENCODER if tiny else {}  # BertConfig's defaults are those of BERT-base
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, "a random encoder, " + ("tiny" if tiny else "of BERT-base's size")


def _stand_in(one: Teacher, folder: Path) -> None:
    import torch
    import transformers

    model_class = getattr(transformers, one.kind)
    config = model_class.config_class(**one.sizes, dtype="bfloat16", architectures=[one.kind])
    with torch.device("meta"):
        shapes = {name: list(value.shape) for name, value in model_class(config).state_dict().items()}
    if getattr(config, "tie_word_embeddings", False):
        shapes.pop("lm_head.weight", None)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    _tokenizer(min(one.sizes["vocab_size"], 8192), SPECIAL).save_pretrained(folder)
    _sparse(folder / "model.safetensors", shapes)


def _sparse(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file (github.com/huggingface/safetensors, "Format") of bf16 tensors that takes no room."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        handle.truncate(8 + len(text) + end)


def _tokenizer(size: int, special: Sequence[str], encoder: bool = False) -> Any:
    """A byte-level BPE trained on the texts that ship: about as many tokens a word as real ones have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(_words(), trainer)
    if encoder:
        ends = [("[CLS]", plain.token_to_id("[CLS]")), ("[SEP]", plain.token_to_id("[SEP]"))]
        plain.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        named = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
        tokens = {f"{name}_token": token for name, token in named.items()}
        return PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=512, **tokens)
    made = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = TEMPLATE
    return made


def _words() -> Iterator[str]:
    yield from texts(300)
    yield (ROOT / "specs" / "quickstart.yaml").read_text(encoding="utf-8")
