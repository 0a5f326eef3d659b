"""Errors keep their code and message on their way: through pickle, as from a worker, and in other words."""

from __future__ import annotations

import pickle

import pytest

from runner.cluster.errors import UnwrappedErrors
from runner.data.tables import ColumnError
from runner.system.errors import (
    EngineError,
    LostError,
    Problem,
    SpecError,
    TutelageError,
    UserError,
    code_of,
)

PROBLEMS = [
    Problem("spec.yaml", 4, 3, "teacher", "spec.unknown-key", "unknown key 'modell'"),
    Problem("spec.yaml", 1, 1, "", "spec.missing-key", "the key 'data' is missing"),
]
ERRORS = [
    UserError("run.in-use", "runs/a: in use"),
    EngineError("teacher.start-failed", "no kernel"),
    ColumnError.of("train.csv:1", {"text": ""}),
    SpecError(PROBLEMS),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_was_sent_is_the_same(error: TutelageError) -> None:
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), sent.code, str(sent), sent.exit_code) == (type(error), error.code, str(error), error.exit_code)


def test_the_code_of_a_spec_error_is_that_of_its_first_problem() -> None:
    error = SpecError(PROBLEMS)
    assert [problem.line for problem in error.problems] == [1, 4]
    assert error.code == "spec.missing-key"
    assert str(error) == "spec.yaml:1:1: the key 'data' is missing\nspec.yaml:4:3: teacher: unknown key 'modell'"
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_only_problems_that_users_can_mend_have_a_code() -> None:
    assert code_of(UserError("run.in-use", "in use")) == "run.in-use"
    assert code_of(SystemExit(3)) is None
    assert code_of(KeyError("x")) is None


def test_other_words_keep_the_code() -> None:
    error = EngineError("teacher.start-failed", "no kernel").with_message("the teacher: no kernel")
    assert (type(error), error.code, str(error)) == (EngineError, "teacher.start-failed", "the teacher: no kernel")


def test_an_error_of_a_worker_keeps_its_code_and_its_first_line() -> None:
    """Ray wraps it in a class that is both its own and the error's."""
    import ray

    inner = LostError("cluster.nodes-lost", "nodes went away\nRay's advice")
    wrapped = ray.exceptions.RayTaskError("label", "a traceback", inner).as_instanceof_cause()
    assert isinstance(wrapped, LostError)
    assert code_of(wrapped) == "cluster.nodes-lost"
    with pytest.raises(LostError) as caught, UnwrappedErrors(ray):
        raise wrapped
    assert (caught.value.code, str(caught.value)) == ("cluster.nodes-lost", "nodes went away")


def test_all_problems_of_a_spec_come_back_from_a_worker() -> None:
    import ray

    wrapped = ray.exceptions.RayTaskError("load", "a traceback", SpecError(PROBLEMS)).as_instanceof_cause()
    with pytest.raises(SpecError) as caught, UnwrappedErrors(ray):
        raise wrapped
    assert caught.value.problems == sorted(PROBLEMS)
