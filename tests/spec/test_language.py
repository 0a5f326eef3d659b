"""Folders of specs: a file in good/ must load; one in bad/ must give the messages that lie beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.planning.files import check_files
from runner.spec import load_spec
from runner.system.errors import SpecError

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "tests" / "specs"
SHIPPED = sorted((ROOT / "specs").glob("*.yaml"))


def stems(folder: str) -> list[str]:
    found = sorted(path.stem for path in (SPECS / folder).glob("*.yaml"))
    assert found
    return found


@pytest.mark.parametrize("stem", stems("good"))
def test_good(stem: str) -> None:
    assert load_spec(SPECS / "good" / f"{stem}.yaml").version == 1


@pytest.mark.parametrize("stem", stems("bad"))
def test_bad(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SPECS / "bad")
    with pytest.raises(SpecError) as caught:
        load_spec(f"{stem}.yaml")
    said = [f"{problem} [{problem.code}]" for problem in caught.value.problems]
    assert said == Path(f"{stem}.expected").read_text(encoding="utf-8").splitlines()
    assert caught.value.exit_code == 2


def test_every_expectation_has_its_spec() -> None:
    assert {path.stem for path in (SPECS / "bad").glob("*.expected")} == set(stems("bad"))


def test_every_field_is_read_as_written() -> None:
    spec = load_spec(SPECS / "good" / "every-field.yaml")
    assert spec.task.labels == ("1", "no", "very good", "ünclear")
    assert spec.task.instructions == "One paragraph in two lines."
    assert [example.reason for example in spec.task.examples] == ["because", ""]
    assert (spec.data.train.limit, spec.data.test.revision) == (1000, "0777")
    assert isinstance(spec.data.train.limit, int)
    assert (spec.teacher.revision, spec.teacher.temperature) == ("12e5678", 1.0)
    assert spec.teacher.resources.replicas == (3, 3)
    assert (spec.student.learning_rate, spec.student.precision) == (2e-5, "fp16")
    assert spec.benchmark.texts == 1_000_000 and isinstance(spec.benchmark.texts, int)
    assert isinstance(spec.benchmark.price_per_hour, float)


def test_the_shortest_spec_has_the_promised_defaults() -> None:
    spec = load_spec(SPECS / "good" / "shortest.yaml")
    teacher, student = spec.teacher, spec.student
    assert (teacher.engine, teacher.prompt, teacher.votes) == ("vllm", "direct", 1)
    assert (teacher.calibration, teacher.max_failure_rate) == ("content-free", 0.05)
    assert teacher.resources.replicas == (1, 1)
    assert (student.model, student.learning_rate, student.validation) == (
        "catalog:all-mpnet-base-v2",
        None,
        0.1,
    )
    assert (spec.evaluate.resamples, spec.benchmark.batch_sizes) == (2000, (1, 8, 32, 128))
    assert spec.data.test.text == "text" and spec.data.train.limit is None
    assert spec.base == SPECS / "good" and spec.text.startswith("version: 1\n")


def test_the_tutorial_case_ships_as_promised() -> None:
    spec = load_spec(ROOT / "specs" / "financial-sentiment.yaml")
    assert (spec.teacher.prompt, spec.teacher.votes) == ("cot", 3)
    assert (spec.teacher.resources.accelerator, spec.teacher.resources.gpus) == ("H100", 2)
    assert spec.teacher.resources.replicas == (1, 4)
    assert (spec.student.resources.accelerator, spec.student.resources.workers) == ("T4", 1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_load_and_name_the_schema(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem and len(spec.task.examples) in range(3, 7)
    first = spec.text.splitlines()[0]
    assert (path.parent / first.partition("$schema=")[2]).resolve() == ROOT / "runner" / "spec" / "schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_match_their_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(path)
    if "${TUTELAGE_DATA}" in spec.text:
        folders = [os.environ.get("TUTELAGE_DATA", ""), str(ROOT.parent / "shared" / "data")]
        folder = next((name for name in folders if name and Path(name, "financial_phrasebank").is_dir()), None)
        if folder is None:
            pytest.skip("set TUTELAGE_DATA to the folder that holds financial_phrasebank/")
        monkeypatch.setenv("TUTELAGE_DATA", folder)
    check_files(spec)
