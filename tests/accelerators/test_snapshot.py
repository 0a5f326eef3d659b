"""What is run on GPUs does not change unseen: every common case against the snapshot that is kept."""

from __future__ import annotations

import json

import pytest

from . import snapshot
from .cases import KINDS, TEACHERS


@pytest.mark.slow("vllm")
def test_the_common_cases_are_started_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads(snapshot.KEPT.read_text(encoding="utf-8"))
    if kept["vllm"] != snapshot.version():
        pytest.skip(f"the snapshot is of vLLM {kept['vllm']}: renew it with `python -m tests.accelerators.snapshot`")
    for name in snapshot.OF_USERS:
        monkeypatch.delenv(name, raising=False)
    found = snapshot.snapshot()
    differences = [
        f"{part}: {case}: {kept[part].get(case)} became {facts}"
        for part in ("teachers", "students")
        for case, facts in found[part].items()
        if kept[part].get(case) != facts
    ]
    assert not differences, "; if it was meant: `python -m tests.accelerators.snapshot`\n" + "\n".join(differences)
    assert found == kept
    assert len(found["teachers"]) == 1 + len(KINDS) * len(TEACHERS)
