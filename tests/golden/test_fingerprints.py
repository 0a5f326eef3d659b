"""What a user has paid for is found again by a later version: fingerprints and keys of answers are as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .cases import CASES
from .fingerprints import KEPT, made

BEFORE = json.loads(KEPT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return made()


def test_all_cases_are_kept() -> None:
    assert set(BEFORE) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_fingerprints_are_as_they_were(name: str, now: dict[str, Any]) -> None:
    """Where this fails, finished stages of users' runs are done again: see ``fingerprints.py``."""
    assert now[name] == BEFORE[name]
