"""What KubeRay tries again and new nodes would not help ends at once; what was created anew is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.cluster import attempts
from runner.cluster.attempts import FRESH_SECONDS, NOTE, counted
from runner.rundir.folder import Folder
from runner.spec import Spec, load_spec
from runner.system.errors import DataError, EngineError, FetchError, LostError, ModelError, TutelageError, UserError

THREE = {attempts.ATTEMPTS: "3"}


@pytest.fixture
def spec(job: Any) -> Spec:
    return load_spec(job.path)


def attempt(run: Folder, spec: Spec, error: Exception | None = None, **environment: str) -> str:
    """How one attempt ends: what it was refused with, or what it ended with."""
    try:
        with counted(run, spec, THREE | environment):
            if error is not None:
                raise error
    except TutelageError as ended:
        return str(ended)
    return "made"


BROKEN = EngineError("test.some-code", "the engine cannot start: no kernel.\nmore of it")


def test_attempts_after_one_in_vain_are_not_made_and_the_next_job_is(tmp_path: Path, spec: Spec) -> None:
    run = Folder(str(tmp_path / "run"))
    assert attempt(run, spec, BROKEN).startswith("the engine cannot start")
    second = attempt(run, spec)
    assert second.startswith("attempt 2 of 3 is not made, for it would end as the first did: the engine cannot start")
    assert "no kernel. Mend that" in second and run.path(NOTE) in second
    assert attempt(run, spec).startswith("attempt 3 of 3 is not made")
    assert attempt(run, spec) == "made"
    assert not run.exists(NOTE)


def test_a_job_created_anew_while_attempts_are_left_is_run_by_its_last(tmp_path: Path, spec: Spec) -> None:
    run = Folder(str(tmp_path / "run"))
    attempt(run, spec, BROKEN)
    assert [attempt(run, spec) for _ in range(3)][-1] == "made"


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (BROKEN, True),
        (ModelError("test.some-code", "no encoder"), True),
        (UserError("test.some-code", "no room"), False),
        (DataError("test.some-code", "torn"), False),
        (LostError("test.some-code", "the node is taken back"), False),
        (FetchError("test.some-code", "nobody has pulled it yet"), False),
    ],
)
def test_only_what_another_cluster_would_end_with_too_is_noted(
    tmp_path: Path, spec: Spec, error: Exception, noted: bool
) -> None:
    run = Folder(str(tmp_path / "run"))
    attempt(run, spec, error)
    assert run.exists(NOTE) == noted
    assert (attempt(run, spec) == "made") != noted


def test_a_server_may_answer_the_next_attempt(tmp_path: Path, job: Any) -> None:
    teacher = "teacher={model: some/teacher, endpoint: 'http://127.0.0.1:9/v1'}"
    spec, run = load_spec(job.path, [teacher]), Folder(str(tmp_path / "run"))
    attempt(run, spec, BROKEN)
    assert attempt(run, spec) == "made"


@pytest.mark.parametrize("given", [{}, {attempts.ATTEMPTS: ""}, {attempts.ATTEMPTS: "1"}])
def test_nothing_is_noted_where_nobody_tries_again(tmp_path: Path, spec: Spec, given: dict[str, str]) -> None:
    run = Folder(str(tmp_path / "run"))
    with pytest.raises(EngineError), counted(run, spec, given):
        raise BROKEN
    assert not run.exists(NOTE)


@pytest.mark.parametrize("by_hand", [{attempts.ATTEMPTS: ""}, {attempts.ATTEMPTS: "1"}])
def test_a_run_that_nobody_tries_again_makes_the_note_void(tmp_path: Path, spec: Spec, by_hand: dict[str, str]) -> None:
    run = Folder(str(tmp_path / "run"))
    attempt(run, spec, BROKEN)
    assert attempt(run, spec, **by_hand) == "made"
    assert attempt(run, spec) == "made"


def test_another_spec_another_day_and_a_broken_note_are_no_retry(
    tmp_path: Path, spec: Spec, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Folder(str(tmp_path / "run"))
    attempt(run, spec, BROKEN)
    note = run.read_json(NOTE)
    assert attempt(run, load_spec(job.path, ["student.seed=7"])) == "made"
    changed: list[Any] = [note | {"at": note["at"] - FRESH_SECONDS}, [], {"used": 1}, 7, note | {"error": []}]
    for broken in ("{", *map(json.dumps, changed)):
        run.write(NOTE, broken.encode())
        assert attempt(run, spec) == "made"
        assert not run.exists(NOTE)


def test_the_reason_is_told_where_the_note_cannot_be_kept(tmp_path: Path, spec: Spec) -> None:
    run = Folder(str(tmp_path / "run"))
    (tmp_path / "run").write_text("a file, where nothing can be kept")
    assert attempt(run, spec, BROKEN).startswith("the engine cannot start")


@pytest.mark.parametrize("given", ["three", "-1", "2.0", "²", "9" * 5000])
def test_a_number_of_attempts_that_is_none_is_refused(tmp_path: Path, spec: Spec, given: str) -> None:
    said = attempt(Folder(str(tmp_path)), spec, None, **{attempts.ATTEMPTS: given})
    assert said == f"TUTELAGE_ATTEMPTS: expected a whole number of at most four digits, not {given[:80]!r}"


def test_the_command_counts(job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from runner.commands.cli import main
    from runner.stages import pipeline

    def broken(*_: Any) -> None:
        raise BROKEN

    monkeypatch.setenv(attempts.ATTEMPTS, "2")
    monkeypatch.setattr(pipeline, "execute", broken)
    command = ["run", str(job.path), "--runs-dir", str(job.runs_dir)]
    assert main(command) == 1
    assert "the engine cannot start" in capsys.readouterr().err
    assert main(command) == 1
    assert "attempt 2 of 2 is not made" in capsys.readouterr().err
    assert main(command) == 1
    assert "attempt" not in capsys.readouterr().err
