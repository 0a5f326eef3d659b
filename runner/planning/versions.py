"""Two versions of the prompt on the same rows: which values changed, and whether one is better by more than chance.

The version before is kept in the run folder (``try.json``), so that a later command compares as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.planning.trial import Trial, Tried
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.system.errors import UserError
from runner.tasks.kinds import task_of

NAME, FORMAT = "try.json", 1
KEPT = 2
"""Versions that are kept: the last one, and the one before."""
SIGNIFICANT = 0.05
FEWEST_APART = 6
"""Rows on which one version alone is right, under which an exact two-sided test shows nothing: 2 / 2**5 > 0.05."""


@dataclass(frozen=True)
class Comparison:
    """A version against the one before. ``changed`` has each row whose value is another one now, with the one before.

    ``known`` rows have an expert's value and were tried by both: ``gained`` are right only now, ``lost`` only before,
    and ``p`` is of the kind's paired ``test``, two-sided; None where they cannot be compared.
    """

    rows: int
    changed: list[tuple[Tried, Any]]
    known: int = 0
    gained: int = 0
    lost: int = 0
    p: float | None = None
    test: str = ""


def before(run: Folder, version: str) -> dict[str, Any] | None:
    """The values of the version before this one, by row id; None where there was none.

    :raises UserError: when a newer version of this program wrote them.
    """
    return next((one["values"] for one in reversed(_kept(run)) if one["version"] != version), None)


def keep(run: Folder, trial: Trial) -> None:
    """Keep the values of this version, for the next."""
    others = [one for one in _kept(run) if one["version"] != trial.version]
    values = {row.id: row.value for row in trial.rows}
    tries = [*others, {"version": trial.version, "time": time.time(), "values": values}][-KEPT:]
    run.write_json(NAME, {"format": FORMAT, "tries": tries})


def compare(spec: Spec, values: Mapping[str, Any], trial: Trial) -> Comparison:
    """This version against the ``values`` of another, on the rows that both have tried."""
    rows = [row for row in trial.rows if row.id in values]
    changed = [(row, values[row.id]) for row in rows if row.value != values[row.id]]
    known = [row for row in rows if row.truth is not None]
    allows = task_of(spec).showing.question(spec).allows
    if not known or any(values[row.id] is not None and not allows(values[row.id]) for row in known):
        return Comparison(len(rows), changed)
    truth, old, new = ([get(row) for row in known] for get in (_truth, lambda row: values[row.id], _value))
    gained = sum(b == true != a for true, a, b in zip(truth, old, new, strict=True))
    lost = sum(a == true != b for true, a, b in zip(truth, old, new, strict=True))
    scoring = task_of(spec).scoring
    p = scoring.paired(truth, old, new)["p"]
    return Comparison(len(rows), changed, len(known), gained, lost, p, scoring.TEST)


def _truth(row: Tried) -> Any:
    return row.truth


def _value(row: Tried) -> Any:
    return row.value


def _kept(run: Folder) -> list[dict[str, Any]]:
    if not run.exists(NAME):
        return []
    found = run.read_json(NAME)
    if found.get("format", 0) > FORMAT:
        raise UserError("run.newer-format", f"{run.path(NAME)}: was written by a newer tutelage; upgrade, or remove it")
    tries: list[dict[str, Any]] = found["tries"]
    return tries
