"""A model in a local folder: is it usable, what is it, and which bytes is it.

Reads JSON and the headers of safetensors files; never weights, except to hash them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.models import architecture
from runner.models.catalog import Shape
from runner.models.store import cache_dir, remember
from runner.system.errors import ModelError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_COUNTED = (".json", ".safetensors", ".txt", ".model", ".jinja")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "spiece.model")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "spiece.model", "vocab.json")
_MAX_HEADER = 100_000_000
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_WIDTHS |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
"""Bytes of a number, by the names of safetensors."""
_COUNTED_FROM_0 = {"albert", "bert", "big_bird", "convbert", "distilbert", "electra", "ernie", "megatron-bert"}
_COUNTED_FROM_0 |= {"mobilebert", "squeezebert"}
_COUNTED_FROM_PADDING = {"camembert", "data2vec-text", "ibert", "mpnet", "roberta", "roberta-prelayernorm"}
_COUNTED_FROM_PADDING |= {"xlm-roberta", "xlm-roberta-xl", "xmod"}
"""Kinds of encoders with a vector for each position, and none beyond the last."""


def check(path: Path) -> None:
    """Raises ModelError if ``path`` is not a model that can be loaded without running its code."""
    reason = problem(path)
    if reason is not None:
        raise ModelError("model.folder-unusable", f"{path} {reason}")


def problem(path: Path) -> str | None:
    """What is wrong with a model folder, as the rest of a sentence; None if nothing is."""
    if not path.is_dir():
        return "is not there" if not path.exists() else "is not a folder"
    names = {item.name for item in path.iterdir() if item.is_file()}
    if "config.json" not in names:
        if any(name.endswith(".gguf") for name in names):
            return "holds a GGUF file: unpack it with `python -m runner.models.gguf FILE.gguf FOLDER`, and name FOLDER"
        return "has no config.json, so it is not a Hugging Face model folder"
    if not isinstance(_json(path / "config.json"), dict):
        return "has a config.json that is not a JSON object"
    missing = sorted(_shards(path) - names)
    if missing:
        return f"lacks the weights {', '.join(missing[:3])}"
    if not any(name.endswith(".safetensors") for name in names):
        pickled = sorted(name for name in names if name.endswith(_PICKLES))
        if pickled:
            return (
                f"holds its weights only as pickle ({pickled[0]}), which can run code when it is read: "
                "save it again with save_pretrained (safetensors)"
            )
        return "has no weights (*.safetensors)"
    if not names.intersection(_TOKENIZERS):
        return "has no tokenizer files (tokenizer.json or the like)"
    return None


def has_tokenizer(path: Path) -> bool:
    """Whether a tokenizer can be loaded from the folder: its vocabulary is there, and what it says of itself."""
    return (path / "tokenizer_config.json").is_file() and any((path / name).is_file() for name in _VOCABULARIES)


def shape(path: Path) -> Shape:
    """What config.json and the weights' headers say. Raises ModelError for a folder that is no model."""
    check(path)
    config = _json(path / "config.json")
    heads = _whole(config, "num_attention_heads", "n_head")
    hidden = _whole(config, "hidden_size", "n_embd", "dim")
    files = [_counted(file) for file in sorted(path.glob("*.safetensors"))]
    parameters, active = _parameters(config, sum(numbers for numbers, _ in files))
    decoder = any("CausalLM" in name for name in _architectures(config))
    each = _whole(config, "head_dim") or (hidden // heads if hidden and heads else None)
    return Shape(
        parameters=parameters,
        active_parameters=active,
        weight_bytes=sum(size for _, size in files),
        layers=_whole(config, "num_hidden_layers", "n_layer", "n_layers"),
        hidden=hidden,
        kv_heads=(_whole(config, "num_key_value_heads") or heads) if decoder else None,
        head_dim=each if decoder else None,
        context=_context(config, path),
        licence=_licence(path / "README.md"),
        config=config,
    )


def _parameters(config: dict[str, Any], stored: int) -> tuple[int, int]:
    """The model's weights, and those that one token passes through; ``stored`` numbers are in its files.

    Of quantised weights several are packed into a number, so that the files do not tell.
    """
    try:
        known = sum(part.out * part.inner * count for part, count in architecture.parts(config).items())
        active = architecture.active_parameters(config)
    except architecture.UnknownArchitectureError:
        return stored, stored
    total = known if isinstance(config.get("quantization_config"), dict) else stored
    return total, total - (known - active)


def digest(path: Path, weights: bool = True) -> str:
    """SHA-256 over the names and contents of the configuration, tokenizer and weights files.

    Weights are read once: their hash is remembered in the cache by path, size and times. Without ``weights`` a folder
    that has a tokenizer alone will do.
    """
    if weights or not has_tokenizer(path):
        check(path)
    path = path.resolve()
    note = cache_dir() / "digests" / (hashlib.sha256(str(path).encode()).hexdigest()[:32] + ".json")
    known = _json(note)
    remembered: dict[str, Any] = known if isinstance(known, dict) else {}
    now: dict[str, list[Any]] = {}
    for file in sorted(item for item in path.iterdir() if item.suffix in _COUNTED and item.is_file()):
        info = file.stat()
        stamp = [info.st_size, info.st_mtime_ns, info.st_ctime_ns]
        before = remembered.get(file.name)
        if isinstance(before, list) and before[:3] == stamp and len(before) == 4:
            now[file.name] = before
            continue
        with file.open("rb") as stream:
            now[file.name] = [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
    if now != remembered:
        remember(note, now)
    lines = "".join(f"{name}\0{value[3]}\n" for name, value in sorted(now.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _shards(path: Path) -> set[str]:
    index = _json(path / "model.safetensors.index.json")
    mapping = index.get("weight_map") if isinstance(index, dict) else None
    return {str(name) for name in mapping.values()} if isinstance(mapping, dict) else set()


def _counted(file: Path) -> tuple[int, int]:
    """How many numbers a safetensors file holds, and their bytes once loaded in half precision, from its header.

    Scales of quantised weights keep the precision that they have, as the weights do.
    """
    numbers = size = 0
    for name, body in _header(file).items():
        if name == "__metadata__":
            continue
        try:
            count, width = math.prod(body["shape"]), _WIDTHS[body["dtype"]]
        except (KeyError, TypeError) as error:
            raise ModelError(
                "model.weights-broken", f"{file} is not a safetensors file: {name} has no known shape and dtype"
            ) from error
        numbers += count
        size += count * (2 if body["dtype"] in ("F32", "F64") and "scale" not in name else width)
    return numbers, size


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _MAX_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
    except (OSError, ValueError, struct.error) as error:
        raise ModelError("model.weights-broken", f"{file} is not a safetensors file: {error}") from error
    return header


def _context(config: dict[str, Any], path: Path) -> int | None:
    """The tokenizer's limit may be the lower one: RoBERTa cannot use its last two positions."""
    limits = [_whole(config, "max_position_embeddings", "n_positions")]
    tokenizer = _json(path / "tokenizer_config.json")
    if isinstance(tokenizer, dict):
        limits.append(_whole(tokenizer, "model_max_length"))
    return min((limit for limit in limits if limit is not None), default=None)


def positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens of a text an encoder has positions for; None where it counts them in another way.

    RoBERTa and its kin count from behind the padding token, so that their first positions are never used.
    """
    kind, limit = config.get("model_type"), _whole(config, "max_position_embeddings")
    if limit is None or kind not in _COUNTED_FROM_0 | _COUNTED_FROM_PADDING:
        return None
    return limit - (config.get("pad_token_id") or 0) - 1 if kind in _COUNTED_FROM_PADDING else limit


def writes_text(config: Mapping[str, Any]) -> bool:
    """Whether the architecture that config.json names is made to write text."""
    written = _architectures(config)
    # FlaubertWithLMHeadModel and its like are encoders.
    return any(
        "CausalLM" in name or "ConditionalGeneration" in name or ("LMHead" in name and "WithLMHead" not in name)
        for name in written
    )


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def no_student(path: Path, max_length: int) -> str | None:
    """Why the model in a folder cannot be a student that reads ``max_length`` tokens, as far as config.json tells."""
    config = _json(path / "config.json")
    if not isinstance(config, dict):
        return None
    if writes_text(config):
        return f"student.model: {path} is a generative model ({_architectures(config)[0]}); name an encoder"
    return too_long(max_length, positions(config))


def too_long(max_length: int, limit: int | None) -> str | None:
    """Why a student cannot read ``max_length`` tokens where it has positions for ``limit``; None means unknown."""
    if limit is not None and max_length > limit:
        return f"student.max_length: {max_length} tokens are more than the model reads; set it to {limit} or less"
    return None


def quantised_by(path: Path) -> str | None:
    """The method by which the weights in a folder were quantised, as config.json names it."""
    config = _json(path / "config.json")
    quantization = config.get("quantization_config") if isinstance(config, dict) else None
    return str(quantization.get("quant_method")) if isinstance(quantization, dict) else None


def attends_sparsely(path: Path) -> bool:
    """Whether the model in a folder attends only to tokens that an indexer of its own chooses (DeepSeek-V3.2)."""
    config = _json(path / "config.json")
    return isinstance(config, dict) and "index_topk" in config


def end_tokens(path: Path) -> list[int]:
    """The tokens with which a model in a folder ends its turn, as its configuration files name them; may be none.

    The tokenizer's own ``eos_token`` is often another: Gemma ends a turn with ``<end_of_turn>``.
    """
    ends: list[int] = []
    for name in ("generation_config.json", "config.json"):
        config = _json(path / name)
        for part in (config, config.get("text_config")) if isinstance(config, dict) else ():
            given = part.get("eos_token_id") if isinstance(part, dict) else None
            ends += [token for token in (given if isinstance(given, list) else [given]) if type(token) is int]
    return list(dict.fromkeys(ends))


def _licence(readme: Path) -> str | None:
    """The licence in the front matter of a model card."""
    try:
        text = readme.read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return None
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    named = re.search(r"^license:\s*['\"]?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return named[1] if named else None


def _whole(config: Mapping[str, Any], *names: str) -> int | None:
    return next((config[name] for name in names if type(config.get(name)) is int), None)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
