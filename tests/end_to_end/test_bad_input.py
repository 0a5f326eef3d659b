"""Bad input through the command line: the exit status, a message that says what to do, and nothing lost.

Every case runs over a run folder that already holds three finished stages, and must leave them as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from runner.cluster.cluster import Cluster
from runner.commands.cli import main
from runner.rundir import lock

VOTES = ("neutral",) * 3


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network and no Ray: whatever is wrong must be found before either is needed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def start(self: Cluster) -> None:
        raise AssertionError("Ray was started for a job that cannot work")

    monkeypatch.setattr(Cluster, "start", start)


@pytest.fixture
def run(job: Any, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the job after its first three stages are there; its status and what it said on stderr."""
    job.do("vote")
    before = job.snapshot()
    assert len(before) >= 8

    def command(*overrides: str, spec: Path | None = None) -> tuple[int, str]:
        capfd.readouterr()
        words = ["run", str(spec or job.path), "--runs-dir", str(job.runs_dir)]
        status = main([*words, *(word for override in overrides for word in ("--set", override))])
        err = capfd.readouterr().err
        assert "Traceback" not in err
        after = job.snapshot()
        assert {name: after.get(name) for name in before} == before, "what was there is lost"
        return status, err

    return command


def write(name: str, content: bytes | str) -> Callable[[Any], None]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda job: (job.root / name).write_bytes(raw) and None


def rows(name: str, *found: tuple[str, ...]) -> Callable[[Any], None]:
    return lambda job: job.csv(name, found) and None


HEAD = "text,label,anna,ben,carl\n"
FILES = {
    "empty train": (write("train.csv", ""), 2, "train.csv: there is no row of data in this file"),
    "empty test": (write("test.csv", "\n\n"), 2, "test.csv: there is no row of data in this file"),
    "header only": (write("train.csv", HEAD), 2, "train.csv: there is no row of data in this file"),
    "blank rows only": (rows("train.csv", (" ", "", *VOTES)), 1, "data.train: none of 1 rows is left: 1 empty"),
    "no file": (lambda job: (job.root / "train.csv").unlink(), 2, "there is no file"),
    "a near file": (lambda job: os.rename(job.root / "train.csv", job.root / "trian.csv"), 2, "(did you mean"),
    "a folder": (lambda job: ((job.root / "train.csv").unlink(), (job.root / "train.csv").mkdir()), 2, "is a folder"),
    "missing column": (write("train.csv", "a,anna,ben,carl\n1,b,b,b\n"), 2, "no column 'text' (it has: a, anna, ben,"),
    "misnamed column": (
        write("train.csv", "Text,anna,ben,carl\nx,b,b,b\n"),
        2,
        "no column 'text' (did you mean 'Text'?)",
    ),
    "missing votes": (write("train.csv", "text,anna,ben\nx,b,b\n"), 2, "no column 'carl'"),
    "a short row": (write("train.csv", HEAD + "a,,b,b,b\nlost\n"), 2, "train.csv:3: the row has 1 fields, the header"),
    "unknown label": (rows("test.csv", ("A.", "neutral", *VOTES), ("B.", "mixed", *VOTES)), 2, "line 3 has 'mixed'"),
    "label misspelt": (rows("test.csv", ("A.", "Neutrale", *VOTES)), 2, "(did you mean 'neutral'?)"),
    "no label": (rows("test.csv", ("A.", "", *VOTES)), 2, "every row needs one of task.labels; line 2 has none"),
    "one class in test": (rows("test.csv", ("A.", "neutral", *VOTES)), 1, "test set needs at least two classes"),
    "one class in votes": (rows("train.csv", ("A.", "", *VOTES)), 1, "gave all of them the one label 'neutral'"),
    "train is the test": (
        rows("train.csv", ("A loss was posted.", "", *VOTES), ("A record year.", "", *VOTES)),
        1,
        "data.train: none of 2 rows is left: 2 leak: also in test (the first: train.csv:2); learn from texts that",
    ),
    "no usable vote": (rows("train.csv", ("A.", "", "x", "y", "z")), 1, "the teacher abstained on all of them"),
    "latin-1": (
        write("train.csv", (HEAD + "caf\u00e9,,b,b,b\n").encode("latin-1")),
        2,
        "train.csv:2: not UTF-8 (byte 0xe9); save the file as UTF-8",
    ),
    "utf-16": (write("train.csv", (HEAD + "a,,b,b,b\n").encode("utf-16-le")), 2, "this is UTF-16 without its mark"),
    "latin-1 far below": (
        write("train.csv", (HEAD + "a,,b,b,b\n" * 9000).encode() + b"\xe9,,b,b,b\n"),
        2,
        "train.csv:9002: not UTF-8",
    ),
    "never-ending quote": (
        write("train.csv", HEAD + 'a,,b,b,b\n"c,,b,b,b\n' * 3),
        2,
        "train.csv:3: broken csv in the row",
    ),
}


def student_folder(config: dict[str, Any]) -> Callable[[Any], None]:
    """A folder with all that a model has, as far as can be seen without loading it."""

    def make(job: Any) -> None:
        folder = job.root / "model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text("{}")
        save_file({"a": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")

    return make


def test_a_student_of_the_catalog_is_not_asked_to_read_too_much(run: Any) -> None:
    found, err = run("student.model=catalog:all-minilm-l6-v2", "student.max_length=1000")
    assert "student.max_length: 1000 tokens are more than the model reads; set it to 512 or less" in err
    assert found == 1


def test_a_teacher_of_the_catalog_is_no_student(run: Any) -> None:
    found, err = run("student.model=catalog:smollm2-135m-instruct")
    assert "student.model: catalog:smollm2-135m-instruct is a generative model; name an encoder" in err
    assert found == 1


STUDENTS = {
    "generative": (
        {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
        r"student.model: .*model is a generative model \(GPT2LMHeadModel\); name an encoder",
    ),
    "few positions": (
        {"model_type": "bert", "max_position_embeddings": 128, "pad_token_id": 0},
        "student.max_length: 256 tokens are more than the model reads; set it to 128 or less",
    ),
    "positions that start behind padding": (
        {"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 1},
        "set it to 128 or less",
    ),
}


@pytest.mark.parametrize(("config", "message"), STUDENTS.values(), ids=STUDENTS)
def test_a_model_that_cannot_be_the_student_is_said_before_the_teacher_is_asked(
    job: Any, run: Any, capfd: pytest.CaptureFixture[str], config: dict[str, Any], message: str
) -> None:
    student_folder(config)(job)
    found, err = run(f"student.model={job.root / 'model'}")
    assert re.search(message, err)
    assert found == 1
    main(["plan", str(job.path), "--runs-dir", str(job.runs_dir), "--set", f"student.model={job.root / 'model'}"])
    assert re.search(f"problem    .*{message}", capfd.readouterr().out)


@pytest.mark.parametrize(("damage", "status", "message"), FILES.values(), ids=FILES)
def test_bad_files(job: Any, run: Any, damage: Callable[[Any], None], status: int, message: str) -> None:
    damage(job)
    found, err = run()
    assert message in err
    assert found == status


PLACES = {
    "foo://place/x": "foo://place/x.*: Protocol not known: foo; give a path, or a URL such as s3://",
    "gs://bucket/x": "gs://bucket/x.*: Please install gcsfs to access Google Storage .with pip, where this runs",
    "ftp://anna:hush@127.0.0.1:1/x": "ftp://.*127.0.0.1:1/x.*: the storage cannot be used: .*refused; check its",
}


@pytest.mark.parametrize(("place", "message"), PLACES.items(), ids=[place[:3] for place in PLACES])
def test_a_place_of_a_kind_that_cannot_be_used(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    monkeypatch.setenv("TUTELAGE_PLACE", place)
    for words in (["--runs-dir", place], ["--set", "data.train.path=${TUTELAGE_PLACE}/x.csv"]):
        assert main(["run", str(job.path), "--runs-dir", str(job.runs_dir), *words]) == 1
        said = capsys.readouterr().err
        assert re.search(message, said), said
        assert "hush" not in said


def test_too_few_rows_for_the_recipe(job: Any, run: Any) -> None:
    job.csv("train.csv", [("A.", "", *VOTES), ("B.", "", *["positive"] * 3), ("C.", "", *VOTES)])
    status, err = run("student.recipe=best")
    assert "student.recipe: best parts the rows into 4, and the teacher labelled 3 train rows, of which 3 are" in err
    assert status == 1


MODELS = {
    "student not on the Hub": ("student.model=org/nowhere-to-be-found", 1, "org/nowhere-to-be-found"),
    "student folder missing": ("student.model=./nowhere", 1, "nowhere is not there"),
    "student folder empty": ("student.model=.", 1, "has no config.json, so it is not a"),
    "no such catalog model": ("student.model=catalog:all-minilm-l6-v3", 2, "(did you mean 'all-minilm-l6-v2'?)"),
}


def test_a_student_that_is_only_a_pickle(job: Any, run: Any) -> None:
    folder = job.root / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    status, err = run("student.model=./pickled")
    assert "holds its weights only as pickle (pytorch_model.bin), which can run code when it is read" in err
    assert "save it again with save_pretrained (safetensors)" in err
    assert status == 1


def test_more_workers_than_this_machine_has_cores(run: Any) -> None:
    status, err = run("student.resources={cpus: 64, workers: 16}")
    assert "student.resources asks for 1024 processor cores for 16 workers, this machine has" in err
    assert status == 1


@pytest.mark.parametrize(("override", "status", "message"), MODELS.values(), ids=MODELS)
def test_models_that_are_not_there(run: Any, override: str, status: int, message: str) -> None:
    found, err = run(override)
    assert message in err
    assert found == status


def test_a_teacher_that_is_not_there(run: Any) -> None:
    status, err = run("teacher.engine=vllm", "teacher.model=org/nowhere-to-be-found", "teacher.columns=[]")
    assert status == 1
    assert "org/nowhere-to-be-found" in err
    assert "HF_HUB_OFFLINE" in err or "network" in err, "what can be done is said"


def test_a_model_with_other_bytes_than_promised(
    job: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised, given = b"the publisher's own weights", b"somebody else's weights...."
    pin = {"size": len(promised), "sha256": hashlib.sha256(promised).hexdigest()}
    entry = {
        "role": "student",
        "licence": "MIT",
        "parameters": 1000,
        "files": {"model.safetensors": pin},
        "sources": [{"hub": {"repo": "somebody/tiny", "revision": "main"}}],
    }
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": {"tiny": entry}}))
    (tmp_path / "mirror" / "tiny").mkdir(parents=True)
    (tmp_path / "mirror" / "tiny" / "model.safetensors").write_bytes(given)
    monkeypatch.setenv("TUTELAGE_CATALOG", str(tmp_path / "catalog.yaml"))
    monkeypatch.setenv("TUTELAGE_MODELS", str(tmp_path / "mirror"))
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    status, err = run("student.model=catalog:tiny")
    assert status == 1
    assert f"SHA-256 {hashlib.sha256(given).hexdigest()} instead of {pin['sha256']}. Nothing was kept" in err
    kept = (path for path in (tmp_path / "cache").rglob("*.safetensors"))
    assert list(kept) == []


def bomb() -> str:
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 10_000)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("  labels", "\tlabels"), "tab"),
        (lambda text: f"{text}---\n{text}", "document"),
        (lambda text: text + bomb(), "&a0"),
        (lambda text: "", "there is no spec in this file"),
        (lambda text: text + "# " + "x" * 10**7, "spec.yaml"),
        (lambda text: text.replace("name: small", "name: [unclosed"), "spec.yaml"),
        (lambda text: text.replace("name: small", "name: !!python/object/apply:os.system [id]"), "name"),
    ],
    ids=["tabs", "two documents", "10,000 aliases", "nothing", "10 MB", "unclosed", "python tag"],
)
def test_specs_that_are_no_specs(job: Any, run: Any, change: Callable[[str], str], message: str) -> None:
    bad = job.root / "bad" / "spec.yaml"
    bad.parent.mkdir()
    bad.write_text(change(job.path.read_text()))
    status, err = run(spec=bad)
    assert status == 2
    assert str(bad) in err
    assert message in err
    assert len(err) < 5000


PATHS = {
    "up and away": ("data.train.path=../../../../../../etc/passwd", "does not tell how the rows are stored"),
    "with a format": (
        "data.train={path: ../../../../../../../../../../etc/passwd, format: csv}",
        "/etc/passwd has no column",
    ),
    "another variable": ("data.train.path=${HOME}/train.csv", "a variable is named TUTELAGE_..."),
    "a variable inside": ("data.train.path=data/${TUTELAGE_DATA}.csv", "a variable is named TUTELAGE_..."),
    "nothing": ("data.train.path=", "data.train.path"),
}


@pytest.mark.parametrize(("override", "message"), PATHS.values(), ids=PATHS)
def test_paths_are_read_as_the_user_wrote_them_and_no_further(run: Any, override: str, message: str) -> None:
    status, err = run(override)
    assert (status, message in err) == (2, True), err


def test_a_path_in_a_cell_opens_nothing(job: Any) -> None:
    cells = ["../../etc/passwd", "file:///etc/passwd", "${TUTELAGE_DATA}/x", "{0.__class__}"]
    job.csv("train.csv", [*[(cell, "", *VOTES) for cell in cells], ("Up.", "", *["positive"] * 3)])
    votes = job.do("vote").read_table("votes.parquet").to_pylist()
    assert [row["text"] for row in votes if row["split"] == "train"] == [*cells, "Up."]


def test_two_runs_in_one_folder(job: Any, run: Any) -> None:
    with lock.locked(job.run):
        status, err = run()
    assert status == 1
    assert f"another run is using this folder (process {os.getpid()} on " in err


@pytest.fixture
def small_disk(job: Any) -> Iterator[Path]:
    """The run folder on a disk of 64 KiB."""
    job.runs_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(job.runs_dir)]
    try:
        made = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a small disk cannot be mounted here (it takes root and the right to mount)")
    yield job.runs_dir
    subprocess.run(["umount", str(job.runs_dir)], check=True)


@pytest.mark.slow("subprocess")
def test_a_full_disk_stops_the_run_and_loses_nothing(job: Any, small_disk: Path, run: Any) -> None:
    texts = [hashlib.sha512(str(i).encode()).hexdigest() for i in range(2000)]
    job.csv("train.csv", [(text, "", *VOTES) for text in texts])
    status, err = run()
    assert status == 1
    assert "the disk is full; free some space and run again: finished work is kept" in err
    assert not [path for path in small_disk.rglob("*.tmp")]
