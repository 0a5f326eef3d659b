"""Loading: overrides, files that cannot be read, round trips, and what a fresh process has to import."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.spec import load_spec, starter
from runner.spec.describe import field_table
from runner.spec.fields import walk
from runner.system.errors import SpecError

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "tests" / "specs" / "good"
SHORT = GOOD / "shortest.yaml"


def messages(path: str | Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_overrides_change_fields_and_make_sections() -> None:
    spec = load_spec(
        SHORT,
        ["student.epochs=3", "student.learning_rate=2e-5", "teacher.resources.replicas=[1, 4]", "name=other"],
    )
    assert (spec.student.epochs, spec.student.learning_rate) == (3, 2e-5)
    assert spec.teacher.resources.replicas == (1, 4) and spec.name == "other"


def test_overrides_reach_into_lists_and_replace_whole_values() -> None:
    spec = load_spec(
        GOOD / "every-field.yaml",
        ["task.examples.1.label=no", "data.train={path: x.csv}", "teacher.revision=null"],
    )
    assert spec.task.examples[1].label == "no"
    assert (spec.data.train.path, spec.data.train.text) == ("x.csv", "text")
    assert spec.teacher.revision is None


def test_the_last_override_of_a_field_counts() -> None:
    assert load_spec(SHORT, ["student={epochs: 2, seed: 9}", "student.epochs=4"]).student.epochs == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "student.epochz=3",
            "--set student.epochz=3: student: unknown key 'epochz' (did you mean 'epochs'?)",
        ),
        ("studnet.epochs=3", "--set studnet.epochs=3: unknown key 'studnet' (did you mean 'student'?)"),
        (
            "student.epochs=many",
            "--set student.epochs=many: student.epochs: expected a whole number or null, found the text 'many'",
        ),
        ("student.epochs", "--set student.epochs: expected PATH=VALUE, such as student.epochs=3"),
        ("=3", "--set =3: expected PATH=VALUE, such as student.epochs=3"),
        ("student..x=3", "--set student..x=3: expected PATH=VALUE, such as student.epochs=3"),
        ("name.first=3", "--set name.first=3: name: this is a single value and has no field 'first'"),
        (
            "task.labels.5=x",
            "--set task.labels.5=x: task.labels: there is no item '5' in a list of 2 (they count from 0)",
        ),
        (
            "student.model=[a",
            "--set student.model=[a: student.model: a ',' or ']' is missing in the list that opens in line 1",
        ),
        ("name=&a x", "--set name=&a x: name: the anchor '&a' is not allowed: write values out"),
        ("data.test={path: b.csv}", "--set data.test={path: b.csv}: data.test: the key 'label' is missing: "),
        (
            "teacher.votes=3",
            "--set teacher.votes=3: teacher.votes: prompt: direct gives the same answer every time",
        ),
    ],
)
def test_problems_of_an_override_stand_at_the_override(override: str, message: str) -> None:
    (only,) = messages(SHORT, override)
    assert only.startswith(message)


def test_problems_of_several_overrides_and_of_the_file_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOOD.parent / "bad")
    found = messages("labels-alike.yaml", "student.seed=x", "nothing")
    assert [line.split(": ")[0] for line in found] == [
        "--set nothing",
        "--set student.seed=x",
        "labels-alike.yaml:3:28",
        "labels-alike.yaml:3:34",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("x")
    (only,) = messages(tmp_path / "spce.yaml")
    assert only == f"{tmp_path}/spce.yaml: there is no such file (did you mean '{tmp_path}/spec.yaml'?)"
    (only,) = messages(tmp_path)
    assert only == f"{tmp_path}: this is a folder: name the spec file in it"
    assert messages("a\0b")[0].endswith("a file name cannot hold this character")
    assert messages("x" * 5000)[0].endswith(": File name too long")
    assert messages("/dev/zero") == ["/dev/zero: the file is larger than 1 MiB: that is no spec"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.touch(mode=0)
    assert "its permissions forbid it" in messages(path)[0]


@pytest.mark.parametrize("stem", ["shortest", "every-field", "recorded"])
def test_to_dict_is_json_and_reads_back_as_the_same_spec(stem: str, tmp_path: Path) -> None:
    spec = load_spec(GOOD / f"{stem}.yaml")
    path = tmp_path / "again.yaml"
    path.write_text(json.dumps(spec.to_dict()))
    assert load_spec(path).to_dict() == spec.to_dict()


def test_a_spec_cannot_be_changed_and_can_travel_to_other_processes() -> None:
    spec = load_spec(SHORT, ["student.epochs=3"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_starter_loads_and_bears_its_name_even_if_it_looks_like_a_number(tmp_path: Path) -> None:
    for name in ("reviews", "123", "true", "1.0"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(starter(name))
        assert load_spec(path).name == name


@pytest.mark.parametrize("name", ["", "../x", "a b", "x\n", "{name}", "a" * 101])
def test_the_starter_takes_no_name_that_a_spec_would_refuse(name: str) -> None:
    with pytest.raises(SpecError, match="expected 1 to 100 letters"):
        starter(name)


def test_the_field_table_has_a_row_for_every_field() -> None:
    rows = field_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [".".join(path) for path, _ in walk()]
    assert "| `student.batch_size` | whole number, 1 to 4096 | `16` | Texts per training step. |" in rows


@pytest.mark.slow("subprocess")
def test_validating_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runner.planning.files import check_files; from runner.spec import load_spec\n"
        "check_files(load_spec('specs/quickstart.yaml'))\n"
        "heavy = 'ray torch vllm transformers pandas datasets numpy pyarrow huggingface_hub'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.strip() == "[]"
    # Processor time: the clock on the wall also measures what else the machine is doing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_plain_yaml_would_have_misread_what_is_read_rightly_here(tmp_path: Path) -> None:
    text = SHORT.read_text().replace("[good, bad]", "[yes, no]") + "student: {learning_rate: 2e-5}\n"
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert yaml.safe_load(text)["task"]["labels"] == [True, False]
    spec = load_spec(path)
    assert spec.task.labels == ("yes", "no") and spec.student.learning_rate == 2e-5


FIELDS = [".".join(path).replace("*", "0") for path, _ in walk()]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3))


@pytest.mark.slow("long")
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), min_size=1, max_size=4))
def test_any_value_in_any_field_gives_a_spec_or_a_spec_error(changes: list[tuple[str, object]]) -> None:
    overrides = [f"{path}={json.dumps(value)}" for path, value in changes]
    try:
        spec = load_spec(GOOD / "recorded.yaml", overrides)
    except SpecError as error:
        assert all(len(problem.message) < 700 for problem in error.problems)
    else:
        assert json.loads(json.dumps(spec.to_dict(), allow_nan=False)) == spec.to_dict()
