"""Fingerprints of stages and keys of stored answers, as JSON: ``python -m tests.golden.fingerprints``.

Called in the root folder, it writes ``fingerprints.json``, beside this file, again. Each line that changes in it makes
users pay again for work that they have: do that for a change that is meant to alter what a stage gives, and say so in
the changelog.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages import pipeline
from runner.teacher import answer_store

from .cases import loaded

KEPT = Path(__file__).parent / "fingerprints.json"


def made() -> dict[str, Any]:
    """Of each case the fingerprint of each stage, and where the answers of each teacher are kept."""
    with tempfile.TemporaryDirectory() as folder, loaded(Path(folder)) as specs:
        return {name: _of(spec, Folder(f"{folder}/runs")) for name, spec in specs.items()}


def _of(spec: Spec, run: Folder) -> dict[str, Any]:
    stages = {step.stage.NAME: step.fingerprint for step in pipeline.steps(spec, run)}
    asked = [one for one in spec.teachers() if one.teacher.engine != "recorded"]
    return {"stages": stages, "answers": [answer_store.answers_folder(run, one).name for one in asked]}


if __name__ == "__main__":
    KEPT.write_text(json.dumps(made(), indent=2) + "\n", encoding="utf-8")
    print(f"{KEPT}: written")
