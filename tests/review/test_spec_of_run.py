"""The spec of a finished run is the one that ran, whichever way its labels were written."""

from __future__ import annotations

from typing import Any

import pytest

from runner.review.run_lists import spec_of

DESCRIBED = "[negative, {name: neutral, description: takes no side}, positive]"


@pytest.mark.parametrize("overrides", [[], [f"task.labels={DESCRIBED}", "task.out_of_scope=neutral"]])
def test_it_reads_back_from_the_record(job: Any, overrides: list[str]) -> None:
    spec = job.spec(*overrides)
    job.run.write_json("run.json", {"spec": spec.to_dict(), "base": str(spec.base), "spec_text": spec.text})
    again = spec_of(job.run)
    assert (again.task, again.to_dict()) == (spec.task, spec.to_dict())
