"""export: the student for other runtimes, each held against the original before it may be used.

They are judged on the train rows that were held out: how often each gives another label than the original, which
``student.max_disagreement`` bounds, and how often the teacher's. With ``student.runtime: auto`` the fastest within the
bounds is taken; one that the spec names is refused where it is not. The test rows show what was given up, and choose
nothing. Everything after this stage uses the runtime that was taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runner.cluster.resources import Resources
from runner.spec import Spec
from runner.stages.contract import Context, one_student
from runner.student import held_out
from runner.student.compare_runtimes import compare_runtimes
from runner.student.trained import exported_forms, original_student
from runner.system.errors import UserError

NAME = "export"
NEEDS = ("load", "train")

MOST_LOST = 0.003
"""Agreement with the teacher that a runtime may lose against the original to be chosen by ``auto``, as a share."""
FEWEST_JUDGES = 20
"""Of fewer held-out rows those that the student learned from judge as well: better than next to nothing."""
TIMED_TEXTS = 512
SEEN_TEXTS = 64
VERSION = 5
"""Changes when another export comes of the same student."""
WRITES = {"export.json": None}

demands = one_student


def wanted(spec: Spec) -> bool:
    """Whether the spec asks for anything but the safetensors that are written anyway."""
    return bool(exported_forms(spec))


def key(spec: Spec) -> dict[str, Any]:
    """What is exported, and how the runtime is chosen."""
    student = spec.student
    bound = {"max_disagreement": student.max_disagreement}
    return {
        "export": exported_forms(spec),
        "runtime": asked(spec),
        "precision": student.precision,
        "build": VERSION,
    } | bound


def asked(spec: Spec) -> str:
    """The runtime to take. Exports are for processors: a GPU has torch, however fast the processor beside it is."""
    return "torch" if spec.student.resources.gpus else spec.student.runtime


def run(context: Context) -> dict[str, Any]:
    """Export, check, time, choose.

    :raises UserError: when a package is missing, or the runtime that the spec names says too much else.
    """
    spec = context.spec
    train, test = (context.inputs["load"].read_table(f"{split}.parquet") for split in ("train", "test"))
    rows = context.inputs["train"].read_table(held_out.FILE).to_pylist()
    apart = {row["id"] for row in rows if row["held_out"]}
    judges = [row for row in rows if row["held_out"] or len(apart) < FEWEST_JUDGES]
    texts = dict(zip(train["id"].to_pylist(), train["text"].to_pylist(), strict=True))
    plain = original_student(spec, context.inputs)
    found = context.cluster.call(
        compare_runtimes,
        Resources.of(spec.student.resources),
        plain=plain,
        forms=exported_forms(spec),
        out=context.here.url,
        # What int8 is fitted to must not be what it is judged by.
        seen=[text for id_, text in texts.items() if id_ not in apart][:SEEN_TEXTS],
        judges=([texts[row["id"]] for row in judges], [row["label"] for row in judges]),
        test=(test["text"].to_pylist(), test["label"].to_pylist()),
        timed=list(texts.values())[:TIMED_TEXTS],
    )
    for runtime in found:
        context.progress.say(_figures(runtime), NAME)
    chosen = choose(found, asked(spec), spec.student.max_disagreement)
    warnings = _given_up(found, chosen, asked(spec), 0 if len(apart) < FEWEST_JUDGES else len(apart))
    context.progress.say(f"{chosen} is used from here on", NAME)
    context.progress.warn(warnings, NAME)
    result = {"runtime": chosen, "asked": asked(spec), "runtimes": found, "warnings": warnings}
    context.here.write_json("export.json", result)
    return result


def _figures(figures: dict[str, Any]) -> str:
    judged = figures["judged"]
    return (
        f"{figures['runtime']}: {figures['texts_per_second']:.0f} texts/s; the original's label on "
        f"{judged['agreement']:.2%} of {judged['rows']:,} train rows, the teacher's on "
        f"{judged['teacher_agreement']:.2%}"
    )


def choose(found: Sequence[dict[str, Any]], wanted: str, max_disagreement: float) -> str:
    """The runtime that is wanted; with ``auto`` the fastest whose loss is within bounds.

    :raises UserError: when the one that is wanted gives another label than the original too often.
    """
    by_name = {one["runtime"]: one for one in found}

    def agrees(one: dict[str, Any]) -> bool:
        return bool(1 - one["judged"]["agreement"] <= max_disagreement + 1e-9)

    if wanted == "auto":
        least = by_name["torch"]["judged"]["teacher_agreement"] - MOST_LOST - 1e-9
        sound = [one for one in found if agrees(one) and one["judged"]["teacher_agreement"] >= least]
        return str(max([by_name["torch"], *sound], key=lambda one: one["texts_per_second"])["runtime"])
    if wanted == "torch" or agrees(by_name[wanted]):
        return wanted
    judged = by_name[wanted]["judged"]
    rows = judged["rows"]
    other = round((1 - judged["agreement"]) * rows)
    raise UserError(
        "student.runtime-disagrees",
        f"student.runtime: {wanted} gives another label than the student itself on {other:,} of {rows:,} train rows "
        f"({100 * other / rows:.1f} %), and student.max_disagreement allows {100 * max_disagreement:.1f} %. Set "
        "student.runtime to auto, or accept the loss with student.max_disagreement: "
        f"{math.ceil(1000 * other / rows) / 1000:g}; labels and student are kept",
    )


def _given_up(found: Sequence[dict[str, Any]], chosen: str, wanted: str, held_out_rows: int) -> list[str]:
    """What to say of a runtime that is not the original."""
    if chosen == "torch":
        return []
    by_name = {one["runtime"]: one for one in found}
    one, plain, said = by_name[chosen], by_name["torch"], []
    lost = plain["judged"]["teacher_agreement"] - one["judged"]["teacher_agreement"]
    if wanted != "auto" and lost > MOST_LOST + 1e-9:
        said.append(
            f"{chosen}, which student.runtime names, gives the teacher's label on {100 * lost:.1f} % fewer of the "
            f"{one['judged']['rows']:,} train rows that judge it than the student itself"
        )
    if not held_out_rows:
        said.append(
            f"{chosen} is judged by {one['judged']['rows']:,} train rows that the student learned from in part, for "
            f"fewer than {FEWEST_JUDGES} are held out: it may lose more than that shows"
        )
    if one["recomputed"]:
        said.append(f"{chosen} gave answers that are not finite numbers to {one['recomputed']:,} texts, redone in fp32")
    return said
