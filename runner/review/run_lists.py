"""The lists of a finished run: the rows of the sample, and the others in the order that the audit gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.review.lists import Item, Lists
from runner.review.sample import DrawnSample, draw_sample, drawn
from runner.review.settle import reviewed
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.spec.fields import fill
from runner.spec.model import build
from runner.spec.positions import Places
from runner.system.errors import UserError
from runner.system.sanitize import without_secrets
from runner.tasks.kinds import task_of
from runner.tasks.shared import label_list
from runner.teacher.answer_store import folder_of

LONGEST_REASON = 2_000
"""Characters of a teacher's own words that are shown."""


def spec_of(run: Folder) -> Spec:
    """The spec of the last run that finished in a folder, with what people have decided since.

    :raises UserError: when none has finished there.
    :raises DataError: when a decision cannot be read.
    """
    if not run.exists("run.json"):
        raise UserError(
            "run.not-finished",
            f"{without_secrets(run.url)}: no finished run is there (no run.json); give the folder that `run` printed",
        )
    record = run.read_json("run.json")
    source, complete = f"{without_secrets(run.url)}/run.json", fill(record["spec"])
    label_list.expand(complete["task"], str)  # of a run's record all labels are written out: no file is read
    return build(
        Spec,
        complete,
        source=source,
        base=Path(record.get("base") or "."),
        text=record.get("spec_text") or "",
        places=Places(source, {}, {}),
        reviewed=reviewed(run),
    )


def open_lists(run: Folder, spec: Spec, places: Mapping[str, Folder]) -> Lists:
    """Both lists. ``places`` are the folders of the stages label, vote and audit, by name.

    The sample is drawn here, the first time, from all train rows on which the teacher has a verdict.
    """
    order = places["audit"].read_table("queue.parquet").sort_by("order")
    ids: list[str] = order["id"].to_pylist()
    doubt = order["doubt"].to_numpy()
    sample = drawn(run) or draw_sample(run, spec, order)
    verdicts = {row["id"]: row for row in places["vote"].read_table("votes.parquet").to_pylist()}
    blind = _sampled(sample)
    reasons = _reasons(spec, places["label"])
    return Lists(
        [Item(list="sample", id=id_, text=verdicts[id_]["text"]) for id_ in blind if id_ in verdicts],
        [
            _queued(spec, verdicts[id_], reasons.get(id_), float(doubted))
            for id_, doubted in zip(ids, doubt, strict=True)
            if id_ not in blind and id_ in verdicts
        ],
        {id_: verdict["label"] for id_, verdict in verdicts.items()},
    )


def _sampled(sample: DrawnSample) -> dict[str, None]:
    """The ids of the sample's list, in their order."""
    return dict.fromkeys(sample.ids[: sample.rows])


def _queued(spec: Spec, verdict: Mapping[str, Any], reason: str | None, doubt: float) -> Item:
    return Item(
        list="queue",
        id=verdict["id"],
        text=verdict["text"],
        value=verdict["label"],
        probabilities=task_of(spec).showing.probabilities(spec, verdict),
        reason=verdict.get("reason") or reason,
        doubt=doubt,
    )


def _reasons(spec: Spec, label: Folder) -> dict[str, str]:
    """What the first teacher wrote about each row, where it was asked to think aloud."""
    if spec.teacher.engine == "recorded" or spec.teacher.prompt != "cot":
        return {}
    asking = task_of(spec).asking
    said: dict[str, str] = {}
    for record in folder_of(label, 0).read_table("answers.parquet").to_pylist():
        if record["vote"] == 0 and (reason := asking.reason_of(record["text"] or "")):
            said[record["id"]] = reason[:LONGEST_REASON]
    return said
