"""What a reference means, what is known about it offline, and which local folders are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.models import catalog, catalog_names, describe, ensure, identity, list_models, origin, provenance
from runner.models.reference import pull_name, pulled
from runner.system.errors import ModelError

from .conftest import MODEL, World

SHIPPED = {
    "qwen2.5-coder-1.5b-instruct": "teacher",
    "qwen2.5-coder-1.5b-instruct-int8": "teacher",
    "qwen2.5-coder-0.5b-instruct": "teacher",
    "smollm2-135m-instruct": "teacher",
    "all-minilm-l6-v2": "student",
    "all-mpnet-base-v2": "student",
}


def test_the_shipped_catalog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUTELAGE_CATALOG", raising=False)
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    rows = list_models()
    assert {row.name: row.role for row in rows} == SHIPPED
    assert catalog_names() == sorted(SHIPPED)
    for row in rows:
        facts = describe(f"catalog:{row.name}")
        assert row.licence == facts.licence == "Apache-2.0"
        assert not row.present and not facts.present
        assert facts.parameters == row.parameters > 10**7
        per_parameter = 1 if row.name.endswith("int8") else 2
        assert facts.weight_bytes is not None and facts.weight_bytes >= per_parameter * row.parameters
        assert (facts.kv_bytes_per_token is None) == (row.role == "student")
        assert row.sources.startswith("the Hub (") and "package" in row.sources
        assert re.fullmatch(rf"catalog:{row.name}@sha256:[0-9a-f]{{64}}", identity(f"catalog:{row.name}"))


def test_facts_for_a_plan_with_models_that_are_not_here() -> None:
    mixtral = describe("mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert mixtral.parameters == pytest.approx(46.7e9, rel=1e-3)
    assert mixtral.kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    assert (mixtral.layers, mixtral.hidden, mixtral.context, mixtral.present) == (32, 4096, 32768, False)
    roberta = describe("FacebookAI/roberta-base")
    assert roberta.parameters == pytest.approx(125e6, rel=0.01)
    assert (roberta.licence, roberta.kv_bytes_per_token) == ("MIT", None)
    assert describe("sentence-transformers/all-MiniLM-L6-v2").layers == 6
    nobody = describe("somebody/something")
    assert (nobody.parameters, nobody.weight_bytes, nobody.context, nobody.present) == (
        None,
        None,
        None,
        False,
    )


def test_what_a_stage_notes_of_a_model_is_enough_for_a_card(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTELAGE_CATALOG")
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n", encoding="utf-8")
    for ref, licence in (("catalog:all-mpnet-base-v2", "Apache-2.0"), ("FacebookAI/roberta-base", "MIT")):
        noted = provenance(ref)
        assert noted == {"identity": identity(ref), "licence": licence}
        assert origin(str(noted["identity"])).licence == licence
    noted = provenance(str(model))
    assert noted["licence"] == "cc-by-4.0"
    assert str(model) not in str(noted) and origin(str(noted["identity"])).hub is None


@pytest.mark.parametrize("call", [identity, describe, ensure])
def test_an_unknown_catalog_name_gets_a_suggestion(call: object) -> None:
    assert callable(call)
    with pytest.raises(ModelError, match=r"did you mean 'all-minilm-l6-v2'\?"):
        call("catalog:all-MiniLM-L6")


@pytest.mark.parametrize("ref", ["", "two words", "a/b/c", "cataloge:all-minilm-l6-v2", "-x\n", "a/../b", "https://x"])
def test_what_is_no_reference_is_refused(ref: str) -> None:
    with pytest.raises(ModelError, match="is not a model"):
        identity(ref)


def test_a_revision_belongs_to_hub_names() -> None:
    assert identity("org/name") == "hub:org/name@main"
    assert identity("org/name", "abc123") == "hub:org/name@abc123"
    with pytest.raises(ModelError, match="a revision goes with a Hub name only"):
        identity("catalog:all-minilm-l6-v2", "abc123")


def test_an_unreachable_hub_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as caught:
        ensure("somebody/all-MiniLM-L6-v9")
    said = str(caught.value)
    assert "HF_HUB_OFFLINE" in said and "tutelage models pull somebody/all-MiniLM-L6-v9" in said
    assert "did you mean 'catalog:all-minilm-l6-v2'?" in said and "local folder" in said


def test_a_local_folder_is_used_where_it_lies(world: World, model: Path) -> None:
    assert ensure(str(model)) == model
    assert ensure("./local-model", base=model.parent) == model
    assert ensure("local-model", base=model.parent) == model
    facts = describe("local-model", base=model.parent)
    assert (facts.parameters, facts.weight_bytes) == (40_000, 80_000)
    assert (facts.layers, facts.hidden, facts.kv_bytes_per_token) == (3, 64, 2 * 3 * 2 * 8 * 2)
    assert facts.context == 512, "the tokenizer's limit is below the model's 514"
    assert facts.licence is None and facts.present
    (model / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A card\n")
    assert describe(str(model)).licence == "mit"


def test_a_folder_is_known_by_its_content(world: World, model: Path, tmp_path: Path) -> None:
    before = identity(str(model))
    assert re.fullmatch("folder:sha256:[0-9a-f]{64}", before)
    assert list((world.cache / "digests").iterdir())
    assert identity(str(model)) == before, "the remembered digest gives the same"
    (model / "README.md").write_text("A card is not part of what a model computes.")
    assert identity(str(model)) == before
    model.rename(tmp_path / "elsewhere")
    assert identity("elsewhere", base=tmp_path) == before
    weights = tmp_path / "elsewhere" / "model.safetensors"
    kept = weights.stat()
    weights.write_bytes(MODEL["model.safetensors"][:-1] + b"?")
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert identity("elsewhere", base=tmp_path) != before, "same size and date, other bytes"


def test_a_spoilt_note_of_digests_does_no_harm(world: World, model: Path) -> None:
    before = identity(str(model))
    for note in (world.cache / "digests").iterdir():
        note.write_text('{"config.json": 3, "model.safetensors": ["x"]')
    assert identity(str(model)) == before


def remove(*names: str) -> dict[str, bytes | None]:
    return dict.fromkeys(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {**remove("model.safetensors"), "pytorch_model.bin": b"\x80\x04"},
            "only as pickle .pytorch_model.bin",
        ),
        (remove("model.safetensors"), "has no weights"),
        (remove("config.json"), "has no config.json"),
        ({**remove("config.json"), "weights.gguf": b"GGUF"}, "python -m runner.models.gguf"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"config.json": b"{"}, "not a JSON object"),
        (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer files"),
        (
            {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "model-2.safetensors"}}).encode()},
            "lacks the weights model-2.safetensors",
        ),
    ],
)
def test_folders_that_are_refused(world: World, model: Path, changes: dict[str, bytes | None], message: str) -> None:
    for name, body in changes.items():
        if body is None:
            (model / name).unlink()
        else:
            (model / name).write_bytes(body)
    for call in (ensure, identity, describe):
        with pytest.raises(ModelError, match=message):
            call(str(model))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        ensure("./nothing", base=tmp_path)


def test_broken_weights_are_told(world: World, model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="not a safetensors file"):
        describe(str(model))


@pytest.mark.parametrize(
    "text",
    [
        "models: [",
        "models: {x: {role: teacher}}",
        "models: 3",
        "models: {../x: {role: student, licence: MIT, parameters: 1, files: {}, sources: []}}",
        "models: {x: {role: student, licence: MIT, parameters: 1, sources: [],"
        " files: {../m.safetensors: {size: 1, sha256: " + "a" * 64 + "}}}}",
        "models: {x: {role: student, licence: MIT, parameters: 1, sources: [],"
        " files: {m.safetensors: {size: 1, sha256: abc}}}}",
        "models: {x: {role: student, licence: MIT, parameters: 1, sources: [],"
        " files: {m.bin: {size: 1, sha256: " + "a" * 64 + "}}}}",
        "models: {x: {role: student, licence: MIT, parameters: 1,"
        " files: {m.safetensors: {size: 1, sha256: " + "a" * 64 + "}},"
        " sources: [{packages: {names: ['--index-url=x'], version: 1}}]}}",
    ],
)
def test_a_broken_catalog_of_the_users_own_is_told(world: World, text: str) -> None:
    world.catalog.write_text(text)
    with pytest.raises(ModelError, match=f"the model catalog {world.catalog}"):
        catalog_names()


@pytest.mark.slow("subprocess")
def test_a_model_in_the_hubs_cache_needs_no_network(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--org--tiny"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    for name, body in MODEL.items():
        (repo / "snapshots" / commit / name).write_bytes(body)
    code = (
        "from runner.models import describe, ensure, identity\n"
        "facts = describe('org/tiny')\n"
        "assert facts.present and facts.parameters == 40_000, facts\n"
        "assert identity('org/tiny') == 'hub:org/tiny@main'\n"
        "print(ensure('org/tiny'))"
    )
    done = fresh_python(code, HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1")
    assert Path(done.strip()) == repo / "snapshots" / commit


@pytest.mark.slow("subprocess")
def test_importing_and_validating_stay_light() -> None:
    code = (
        "import sys\n"
        "from runner.models import catalog_names, identity, list_models, describe\n"
        "list_models(), identity('catalog:all-minilm-l6-v2'), describe('catalog:all-mpnet-base-v2')\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'gguf') if m in sys.modules])"
    )
    assert fresh_python(code).strip() == "[]"


def fresh_python(code: str, **variables: str) -> str:
    root = Path(catalog.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("given", "reference", "revision"),
    [
        ("all-minilm-l6-v2", "catalog:all-minilm-l6-v2", None),
        ("catalog:all-minilm-l6-v2", "catalog:all-minilm-l6-v2", None),
        ("org/model", "org/model", None),
        ("org/model@v1.0", "org/model", "v1.0"),
        ("org/model@refs/pr/7", "org/model", "refs/pr/7"),
        ("gpt2@main", "gpt2", "main"),
        ("./a@b/c", "./a@b/c", None),
        ("/models/a@b", "/models/a@b", None),
    ],
)
def test_what_is_pulled(given: str, reference: str, revision: str | None) -> None:
    assert pulled(given) == (reference, revision)


def test_a_revision_that_is_left_out_is_said() -> None:
    with pytest.raises(ModelError, match="org/model@: expected a revision"):
        pulled("org/model@")


@pytest.mark.parametrize(
    ("reference", "revision"),
    [("catalog:all-minilm-l6-v2", None), ("org/model", None), ("org/model", "v1"), ("gpt2", "main")],
)
def test_what_is_advised_is_pulled_as_it_was_meant(reference: str, revision: str | None) -> None:
    assert pulled(pull_name(reference, revision)) == (reference, revision)


def test_a_hub_name_without_an_owner_is_no_name_of_the_catalog() -> None:
    assert pulled(pull_name("gpt2", None)) == ("gpt2", "main")
