"""A tiny model in self-made wheels, and a catalog, cache and pip that know nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

NAME = "tiny-student"


def safetensors(values: int = 6) -> bytes:
    """A valid safetensors file with one tensor of ``values`` numbers."""
    header = json.dumps(
        {"weight": {"dtype": "F32", "shape": [2, values // 2], "data_offsets": [0, 4 * values]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(range(256))[: 4 * values].ljust(4 * values, b"\1")


MODEL = {
    "model.safetensors": safetensors(40_000),
    "config.json": json.dumps(
        {
            "architectures": ["LlamaForCausalLM"],
            "num_hidden_layers": 3,
            "hidden_size": 64,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 514,
        }
    ).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"model_max_length": 512}',
}


class World:
    """What a test can arrange: wheels to be found, catalog entries, a mirror, an empty cache."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.links, self.cache, self.mirror = root / "links", root / "cache", root / "mirror"
        self.catalog = root / "catalog.yaml"
        for folder in (self.links, self.mirror):
            folder.mkdir()
        for name, value in {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.links),
            "PIP_CONFIG_FILE": "/dev/null",
            "HF_HUB_OFFLINE": "1",
            "TUTELAGE_CACHE": str(self.cache),
            "TUTELAGE_CATALOG": str(self.catalog),
            "TUTELAGE_MODELS": str(self.mirror),
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)

    def wheel(self, name: str, members: Mapping[str, bytes]) -> None:
        """A wheel that pip accepts, with exactly these members beside its metadata."""
        plain = name.replace("-", "_")
        info = f"{plain}-1.0.dist-info"
        with zipfile.ZipFile(self.links / f"{plain}-1.0-py3-none-any.whl", "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr(f"{info}/RECORD", "")

    def entry(self, packages: dict[str, Any], files: Mapping[str, bytes] = MODEL, **changes: Any) -> None:
        """Write the catalog: one student of ``files``, from ``packages``. ``changes`` go over its fields."""
        pins = {name: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()}
        body = {
            "role": "student",
            "licence": "MIT",
            "parameters": 40_000,
            "files": pins,
            "sources": [
                {"hub": {"repo": "somebody/tiny", "revision": "main"}},
                {"packages": {"version": "1.0", **packages}},
            ],
            **changes,
        }
        self.catalog.write_text(yaml.safe_dump({"models": {NAME: body}}, sort_keys=False))

    def whole(self) -> None:
        """The tiny model in one wheel."""
        self.wheel("tiny-whole", {f"tiny/model/{name}": body for name, body in MODEL.items()})
        self.entry({"names": ["tiny-whole"], "root": "tiny/model"})

    def in_parts(self, count: int = 12) -> None:
        """The tiny model in a zip archive that is spread over ``count`` wheels."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in MODEL.items():
                archive.writestr(f"tiny/{name}", body)
        names = []
        for number, piece in enumerate(split(buffer.getvalue(), count), start=1):
            names.append(f"tiny-part{number}")
            self.wheel(names[-1], {f"tiny_part{number}/data/tiny.zip.{number}": piece})
        self.entry({"names": names, "parts": "*/data/*.zip.*", "archive": "zip", "root": "tiny"})

    def left(self) -> list[str]:
        """The names in the cache's model folder, but for the lock files."""
        folder = self.cache / "models"
        return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.is_dir() else []


def split(data: bytes, count: int) -> list[bytes]:
    step = -(-len(data) // count)
    return [data[start : start + step] for start in range(0, len(data), step)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model as a local folder."""
    folder = tmp_path / "local-model"
    folder.mkdir()
    for name, body in MODEL.items():
        (folder / name).write_bytes(body)
    return folder
