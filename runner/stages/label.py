"""label: rows -> the teacher's raw answers.

Raw answers live beside the stages, in ``answers/<teacher>/``, keyed by what the teacher was asked, not by
the data: more rows ask only for the new ones, and another calibration or vote rule asks for nothing.
``answers.parquet`` holds those of this data set, ``failures.parquet`` the rows that have none and why.
Counts: rows = answers + failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner import models
from runner.cluster import Resources
from runner.errors import EngineError
from runner.spec import Spec
from runner.stage import Context
from runner.stages.load import row_id
from runner.store import Folder, fingerprint
from runner.teacher import prompt
from runner.teacher.calibrate import content_free_texts
from runner.teacher.vllm_engine import EngineSettings
from runner.teacher.worker import ANSWERS, Labeller, Sampling

NAME = "label"
NEEDS = ("load",)

FAILURES = pa.schema([(name, pa.string()) for name in ("id", "split", "text", "reason")])
LONGEST = 10


def key(spec: Spec) -> dict[str, Any]:
    """What was asked, of whom, and whether content-free texts were asked about as well."""
    if spec.teacher.engine == "recorded":
        return {"recorded": list(spec.teacher.columns)}
    return {"teacher": teacher_key(spec), "content_free": _asks_content_free(spec)}


def teacher_key(spec: Spec) -> dict[str, Any]:
    """All that decides an answer to a given text."""
    teacher = spec.teacher
    asked: dict[str, Any] = {
        "model": models.identity(teacher.model, teacher.revision, spec.base),
        "prompt": [prompt.messages(task_of(spec), "")],
        "kind": teacher.prompt,
        "labels": list(spec.task.labels),
        "max_context": teacher.max_context,
    }
    if teacher.prompt == "cot":
        names = ("votes", "temperature", "top_p", "max_tokens", "seed")
        asked["sampling"] = {name: getattr(teacher, name) for name in names}
    return asked


def run(context: Context) -> dict[str, Any]:
    """:raises EngineError: when the engine cannot start or more rows fail than ``max_failure_rate`` allows."""
    rows = [
        {"id": row["id"], "kind": "row", "text": row["text"], "split": split, "votes": row["votes"]}
        for split in ("train", "test")
        for row in context.inputs["load"].read_table(f"{split}.parquet").to_pylist()
    ]
    if context.spec.teacher.engine == "recorded":
        found = {row["id"]: _recorded_answer(row) for row in rows}
        return _finish(context, rows, found, {}, generated=0)
    asked = rows + _content_free_rows(context.spec, rows)
    store = answers_folder(context.run, context.spec)
    before = read_answers(store)
    pending = [row for row in asked if row["id"] not in before]
    failures = _generate(context, pending, store) if pending else {}
    found = read_answers(store)
    lost = [row["id"] for row in asked if row["id"] not in found and row["id"] not in failures]
    assert not lost, f"{len(lost)} rows have neither an answer nor a reason"
    generated = sum(row["kind"] == "row" for row in pending) - len(failures)
    return _finish(context, asked, found, failures, generated)


def answers_folder(run: Folder, spec: Spec) -> Folder:
    """Where the answers of this teacher to this question are kept."""
    return run.child("answers", fingerprint(teacher_key(spec)))


def read_answers(store: Folder) -> dict[str, dict[str, Any]]:
    """All answers by row id; of two for one row (a batch done again after a crash) the first file's."""
    answers: dict[str, dict[str, Any]] = {}
    for name in store.names(".parquet"):
        for answer in store.read_table(name).to_pylist():
            answers.setdefault(answer["id"], answer)
    return answers


def task_of(spec: Spec) -> prompt.Task:
    """The spec's task as the prompt wants it."""
    examples = tuple(prompt.Example(e.text, e.label, e.reason) for e in spec.task.examples)
    return prompt.Task(spec.task.labels, spec.task.instructions, examples, spec.teacher.prompt)


def _asks_content_free(spec: Spec) -> bool:
    return spec.teacher.prompt == "direct" and spec.teacher.calibration == "content-free"


def _content_free_rows(spec: Spec, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not _asks_content_free(spec):
        return []
    texts = content_free_texts([row["text"] for row in rows if row["split"] == "train"])
    return [{"id": f"cf-{row_id(text)}", "kind": "content-free", "text": text, "split": ""} for text in texts]


def _recorded_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "kind": "row", "outputs": row["votes"]}


def _generate(context: Context, pending: list[dict[str, Any]], store: Folder) -> dict[str, str]:
    """Ask the teacher; answers go to the store as they come. Returns the rows that failed, with reasons."""
    spec, teacher = context.spec, context.spec.teacher
    wanted = Resources(teacher.resources.cpus, teacher.resources.gpus, teacher.resources.accelerator)
    context.cluster.require(wanted, "teacher")
    folder = models.ensure(teacher.model, teacher.revision, spec.base, lambda text: context.progress.say(text, NAME))
    context.progress.say(f"starting {teacher.model} on vLLM", NAME)
    size = teacher.batch_size
    table = pa.Table.from_pylist(
        [{name: row[name] for name in ("id", "kind", "text")} for row in pending],
        schema=pa.schema([("id", pa.string()), ("kind", pa.string()), ("text", pa.large_string())]),
    )
    results = context.cluster.map_batches(
        [table.slice(start, size) for start in range(0, len(pending), size)],
        Labeller,
        {
            "model": str(folder),
            "task": task_of(spec),
            "engine": EngineSettings(teacher.max_context, teacher.resources.gpus, teacher.seed),
            "sampling": Sampling(teacher.votes, teacher.temperature, teacher.top_p, teacher.max_tokens, teacher.seed),
            "answers": store.url,
        },
        wanted,
        teacher.resources.replicas,
    )
    failures: dict[str, str] = {}
    context.progress.begin(NAME, len(pending))
    for result in results:
        context.progress.add(result.num_rows)
        failures |= {row["id"]: row["error"] for row in result.to_pylist() if row["error"]}
        _check_failures(failures, len(pending), teacher.max_failure_rate)
    return failures


def _check_failures(failures: Mapping[str, str], total: int, allowed: float) -> None:
    if len(failures) <= max(1, allowed * total):
        return
    common = Counter(reason.split(":")[0] for reason in failures.values()).most_common(3)
    raise EngineError(
        f"{len(failures)} of {total} rows failed, more than teacher.max_failure_rate ({allowed:.0%}) allows: "
        f"{', '.join(f'{count} x {reason}' for reason, count in common)}; "
        f"the first: {next(iter(failures.values()))}. Answers that came are kept"
    )


def _finish(
    context: Context,
    asked: list[dict[str, Any]],
    found: Mapping[str, dict[str, Any]],
    failures: Mapping[str, str],
    generated: int,
) -> dict[str, Any]:
    answered = [found[row["id"]] for row in asked if row["id"] in found]
    context.here.write_table("answers.parquet", pa.Table.from_pylist(answered, schema=ANSWERS))
    failed = [
        {"id": row["id"], "split": row["split"], "text": row["text"], "reason": failures[row["id"]]}
        for row in asked
        if row["id"] in failures and row["id"] not in found
    ]
    context.here.write_table("failures.parquet", pa.Table.from_pylist(failed, schema=FAILURES))
    rows = [row for row in asked if row["kind"] == "row"]
    mine = [found[row["id"]] for row in rows if row["id"] in found]
    assert len(rows) == len(mine) + sum(row["split"] != "" for row in failed), "a row was lost"
    seconds = sum(answer.get("seconds") or 0.0 for answer in mine) or None
    texts = {row["id"]: row["text"] for row in rows}
    longest = sorted(mine, key=lambda answer: -(answer.get("prompt_tokens") or 0))[:LONGEST] if seconds else []
    return {
        "rows": len(mine),
        "generated": generated,
        "reused": len(mine) - generated if seconds else 0,
        "failures": len(failed),
        "failures_by_reason": dict(Counter(row["reason"].split(":")[0] for row in failed)),
        "seconds": seconds,
        "rows_per_second": len(mine) / seconds if seconds else None,
        "prompt_tokens": sum(answer["prompt_tokens"] for answer in mine) if seconds else None,
        "output_tokens": sum(answer["output_tokens"] for answer in mine) if seconds else None,
        "engine": context.spec.teacher.engine,
        "model": context.spec.teacher.model,
        "longest": [{"text": texts[a["id"]][:500], "tokens": a["prompt_tokens"]} for a in longest],
    }
