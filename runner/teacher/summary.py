"""What the label stage's marker says of the answers: of one teacher, and of several together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages.contract import Context
from runner.teacher.answer_store import folder_of
from runner.teacher.budget import spent
from runner.teacher.request import prompt_task
from runner.teacher.shortlist import recall

LONGEST = 10


def summary_of(
    spec: Spec, answers: pa.Table, rows: pa.Table, failures: Mapping[str, str], generated: int
) -> dict[str, Any]:
    """One teacher's answers to ``rows``, of which ``failures`` have none, and ``generated`` were asked about now."""
    answers = answers.filter(pc.equal(answers["kind"], "row"))
    answered = pc.count_distinct(answers["id"]).as_py()
    seconds = pc.sum(answers["seconds"]).as_py()
    return {
        "rows": answered,
        "generated": min(generated, answered),
        "reused": max(0, answered - generated) if seconds else 0,
        "failures": len(rows) - answered,
        "failures_by_reason": dict(Counter(reason.split(":")[0] for reason in failures.values())),
        "replies": len(answers),
        "seconds": seconds,
        "rows_per_second": answered / seconds if seconds else None,
        "prompt_tokens": pc.sum(answers["prompt_tokens"]).as_py(),
        "output_tokens": pc.sum(answers["output_tokens"]).as_py(),
        "engine": spec.teacher.engine,
        "model": spec.teacher.model,
        **provenance(spec),
        "longest": longest_prompts(answers, rows) if seconds else [],
    }


def summary_of_all(context: Context, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several teachers: what they took together, and the rows that none of them could label."""
    failed = [lost_rows(folder_of(context.here, number)) for number in range(len(summaries))]
    lost = set.intersection(*failed)
    first = summaries[0]
    rows = first["rows"] + len(failed[0]) - len(lost)
    totals = {
        name: sum(one[name] or 0 for one in summaries) or None
        for name in ("replies", "seconds", "prompt_tokens", "output_tokens")
    }
    elapsed = [one["elapsed"] for one in summaries]  # one teacher after the other
    return {
        **first,
        **totals,
        "elapsed": None if None in elapsed else sum(elapsed),
        "rows": rows,
        "failures": len(lost),
        "warnings": list(dict.fromkeys(warning for one in summaries for warning in one["warnings"])),
        "rows_per_second": rows / totals["seconds"] if totals["seconds"] else None,
        "model": " + ".join(one["model"] for one in summaries),
        "teachers": summaries,
    }


def shortlist_of(context: Context, answers: pa.Table) -> dict[str, Any]:
    """Of ``answers`` to rows that were each shown a shortlist: its size, and its recall on the test rows that experts
    have labelled (None: there are none)."""
    spec = context.spec
    if spec.teacher.shortlist is None:
        return {}
    test = context.inputs["load"].read_table("test.parquet").select(["id", "label"]).to_pylist()
    truth = {row["id"]: row["label"] for row in test if row["label"] is not None}
    listed = dict(zip(answers["id"].to_pylist(), answers["shortlist"].to_pylist(), strict=True))
    found = recall(prompt_task(spec).answers, listed, truth) or {"rows": 0, "recall": None}
    return {"shortlist": {"size": spec.teacher.shortlist, **found}}


def lost_rows(here: Folder) -> set[str]:
    """The rows that one teacher could not label; of calibration texts, which have no split, nobody wants a label."""
    table = here.read_table("failures.parquet")
    return set(table.filter(pc.not_equal(table["split"], ""))["id"].to_pylist())


def elapsed_seconds(store: Folder, mine: pa.Table, found: pa.Table) -> float | None:
    """Seconds by the clock, engine start included, of the answers that are ``mine`` among those ``found`` in the store.

    The replicas' own seconds, which the answers have, say nothing of that: several work at once. None where not all of
    the time was written down.
    """
    took, (own, all_) = spent([store]), (pc.sum(table["seconds"]).as_py() or 0 for table in (mine, found))
    return took.seconds * own / all_ if 0 < all_ <= took.replica_seconds else None


def uncalibrated(asked: pa.Table, failed: Mapping[str, str]) -> list[str]:
    """What to say of calibration texts that ``failed``."""
    texts = len(asked.filter(pc.equal(asked["kind"], "content-free")))
    if not failed:
        return []
    left = texts - len(failed)
    then = f"calibration goes by the other {left}" if left else "the labels are not calibrated"
    return [f"{len(failed)} of {texts} calibration texts have no answer ({next(iter(failed.values()))}): {then}"]


def provenance(spec: Spec) -> dict[str, str | None]:
    """Which model answered; of recorded answers nobody can tell more than the spec says."""
    teacher = spec.teacher
    own = teacher.endpoint is None
    return models.provenance(teacher.model, teacher.revision, spec.base, own) if teacher.engine == "vllm" else {}


def longest_prompts(answers: pa.Table, rows: pa.Table) -> list[dict[str, Any]]:
    """The rows with the longest prompts, for the report."""
    first = answers.filter(pc.and_(pc.equal(answers["vote"], 0), pc.equal(answers["attempt"], 0)))
    top = first.take(pc.sort_indices(first, sort_keys=[("prompt_tokens", "descending")])[:LONGEST])
    places = pc.index_in(top["id"], value_set=rows["id"].combine_chunks())
    texts = rows["text"].take(places).to_pylist()
    return [
        {"text": text[:500], "tokens": tokens}
        for text, tokens in zip(texts, top["prompt_tokens"].to_pylist(), strict=True)
    ]
