"""label: rows -> the teacher's raw answers.

Raw answers live beside the stages, in ``answers/<teacher>/``, keyed by what the teacher was asked, not by
the data: more rows or more votes ask only for what is new, and another calibration, parser or vote rule asks for
nothing. ``answers.parquet`` holds those of this data set, ``failures.parquet`` the rows that have none and why.
Counts: rows = answered + failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.cluster.resources import Resources
from runner.data.examples import vote_columns
from runner.engines.endpoint import Endpoint, check_host
from runner.engines.vllm import engine_options
from runner.observe.metrics import Meter, count_failures
from runner.observe.progress import clock
from runner.planning.replicas import worth_starting
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.spec.model import Budget
from runner.stages.contract import Context, always, nothing
from runner.tasks.kinds import task_of
from runner.teacher.answer_store import answers_folder, folder_of, pending, read_answers
from runner.teacher.batch import ANSWERS
from runner.teacher.budget import Spending, Spent, seconds_left, spent
from runner.teacher.choosing import with_examples
from runner.teacher.content_free import content_free_rows
from runner.teacher.failures import FAILURES, check_failures, failed_rows, reasons_of, unusable_rows
from runner.teacher.live import Live, Start
from runner.teacher.occupancy import concurrent_batches
from runner.teacher.request import asks_content_free, settings_of, teacher_key, wanted_resources
from runner.teacher.summary import elapsed_seconds, longest_prompts, provenance, summary_of_all, uncalibrated
from runner.teacher.worker import OVER_BUDGET, Labeller

NAME = "label"
NEEDS = ("load",)

VERSION = 3
"""Of reading answers: a change looks at stored answers again, and asks only where they have become unusable."""

WRITES = {"answers.parquet": ANSWERS, "failures.parquet": FAILURES}

wanted, demands = always, nothing


def key(spec: Spec) -> dict[str, Any]:
    """What was asked, of whom, how often, and whether content-free texts were asked about as well."""
    first, *others = map(_key, spec.teachers())
    return first | ({"also": others} if others else {})


def _key(spec: Spec) -> dict[str, Any]:
    if spec.teacher.engine == "recorded":
        return {"recorded": list(spec.teacher.columns)}
    calibrated = asks_content_free(spec)
    asked: dict[str, Any] = {
        "teacher": teacher_key(spec),
        # Seed 0 has drawn the calibration texts since before they had a seed.
        "content_free": {"seed": spec.teacher.seed} if calibrated and spec.teacher.seed else calibrated,
        "truncate": spec.teacher.truncate,
        # A larger budget goes on with the rows that a smaller one left.
        "budget": [spec.teacher.budget.usd, spec.teacher.budget.hours],
    }
    if spec.teacher.prompt == "cot":
        asked |= {"votes": spec.teacher.votes, "early_stop": spec.teacher.early_stop, "reading": VERSION}
    return asked


def run(context: Context) -> dict[str, Any]:
    """:raises EngineError: when the engine cannot start or more rows fail than ``max_failure_rate`` allows."""
    rows, columns = _rows(context.inputs["load"]), vote_columns(context.spec)
    first, *others = (
        _label(replace(context, spec=spec, here=folder_of(context.here, number)), rows, columns, context.spec, number)
        for number, spec in enumerate(context.spec.teachers())
    )
    return summary_of_all(context, [first, *others]) if others else first


def _label(context: Context, rows: pa.Table, columns: list[str], whole: Spec, number: int) -> dict[str, Any]:
    """What the teacher of that number among those of the ``whole`` spec says: its own spec is the context's."""
    spec = context.spec
    if spec.teacher.engine == "recorded":
        places = [columns.index(name) for name in spec.teacher.columns]
        return _finish(context, rows, _recorded(rows, places, spec), {}, 0)
    store = answers_folder(context.run, spec)
    found = read_answers(store)
    if asks_content_free(spec) and len(pending(spec, rows, found)) and context.cluster.starts_on_demand:
        _require(context)  # else calibration's texts, which any node may cut, would start one of another kind
    asked = pa.concat_tables([rows, content_free_rows(context, rows)])
    waiting = pending(spec, _in_order(asked), found)
    if not len(waiting):
        return _finish(context, asked, found, {}, 0)
    replicas = _replicas_for(spec, waiting)
    seconds = _seconds_for(context, rows, whole, number, replicas)
    failures, doubts = _generate(context, waiting, store, seconds, replicas)
    answered = waiting.filter(pc.invert(pc.is_in(waiting["id"], value_set=pa.array(list(failures), pa.string()))))
    generated = pc.sum(pc.equal(answered["kind"], "row")).as_py() or 0
    return _finish(context, asked, read_answers(store), failures, generated, doubts)


def probe(context: Context, rows: int) -> None:
    """Ask each teacher about a few rows of all lengths, so that a plan can measure; their answers are kept."""
    loaded = _rows(context.inputs["load"])
    asked = _in_order(loaded)
    for number, spec in enumerate(context.spec.teachers()):
        if spec.teacher.engine == "recorded":
            continue
        store = answers_folder(context.run, spec)
        waiting = pending(spec, asked, read_answers(store))
        if len(waiting):
            step = max(1, len(waiting) // rows)
            sample = waiting.take(list(range(0, len(waiting), step))[:rows])
            here, replicas = replace(context, spec=spec), _replicas_for(spec, sample)
            _generate(here, sample, store, _seconds_for(here, loaded, context.spec, number, replicas), replicas)


def _in_order(asked: pa.Table) -> pa.Table:
    """As rows are asked about: what calibration and evaluation need first, in case a budget ends the run.

    Then the longest: a long row that begins last would keep the engine waiting for it alone.
    """
    train = pc.cast(pc.equal(asked["split"], "train"), pa.int8())
    order = pc.sort_indices(
        pa.table({"train": train, "length": pc.utf8_length(asked["text"]), "id": asked["id"]}),
        sort_keys=[("train", "ascending"), ("length", "descending"), ("id", "ascending")],
    )
    return asked.take(order)


def _rows(load: Folder) -> pa.Table:
    """All rows of train and test: ``id``, ``kind``, ``text``, ``split`` and their recorded ``votes``."""
    parts = []
    for split in ("train", "test"):
        table = load.read_table(f"{split}.parquet").select(["id", "text", "votes"])
        for name, value in (("kind", "row"), ("split", split)):
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
        parts.append(table)
    return pa.concat_tables(parts)


def _recorded(rows: pa.Table, places: list[int], spec: Spec) -> pa.Table:
    asking = task_of(spec).asking
    lines = [
        {"id": row["id"], "kind": "row", "vote": number, "attempt": 0, "text": vote}
        | {"label_probabilities": asking.probabilities_of(spec, vote)}
        for row in rows.select(["id", "votes"]).to_pylist()
        for number, vote in enumerate(row["votes"][place] for place in places)
    ]
    return pa.Table.from_pylist(lines, schema=ANSWERS)


def _generate(
    context: Context, waiting: pa.Table, store: Folder, seconds: float, most: int
) -> tuple[dict[str, str], Sequence[str]]:
    """Ask ``most`` replicas of the teacher for so many ``seconds``; answers go to the store as they come.

    Returns the rows that failed, with reasons, and what the engines warned of.
    """
    teacher = context.spec.teacher
    if seconds <= 0:
        return _not_asked(context, waiting), ()
    waiting, asking = with_examples(context, waiting)  # first: an encoder reads all rows, and needs no GPU
    _require(context)
    content_free = waiting.filter(pc.equal(waiting["kind"], "content-free"))["id"].combine_chunks()
    rows = len(waiting) - len(content_free)
    context.progress.begin(NAME, rows)
    live = Live(context.progress, NAME)
    wanted, (model, revision), endpoint = _place(context, live)
    size = teacher.batch_size
    batches = [waiting.slice(start, size) for start in range(0, len(waiting), size)]
    replicas = teacher.resources.replicas[0], most
    spending = Spending(store, most, seconds)
    results = context.cluster.map_batches(
        batches,
        Labeller,
        {
            "engine": teacher.engine,
            "model": model,
            "revision": revision,
            "asking": asking,
            "settings": settings_of(teacher),
            "answers": store.url,
            "endpoint": endpoint,
            "over": spending.over if math.isfinite(seconds) else None,
        },
        wanted,
        replicas,
        concurrent_batches(teacher, len(batches), most),
        live.heard,
    )
    failures: dict[str, str] = {}
    lost: dict[str, str] = {}
    context.progress.doing(NAME, "starting Ray")
    done = over = 0
    with spending, _meter(context, wanted, most) as meter:
        for result in results:
            failures |= reasons_of(result)
            # Nobody wants a label of calibration texts: neither are they rows when they fail.
            mine = result.filter(pc.invert(pc.is_in(result["id"], value_set=content_free)))
            reasons = reasons_of(mine)
            late = sum(reason == OVER_BUDGET for reason in reasons.values())
            done, over, lost = done + len(mine) - late, over + late, lost | reasons
            live.arrived(result["id"].to_pylist(), len(mine) - late)
            meter.failed(reasons.values())
            _count(meter, result, content_free)
            check_failures(lost, done, rows, teacher.max_failure_rate)
    if over:
        _tell_used_up(context, over)
    return failures, live.warnings


def _not_asked(context: Context, waiting: pa.Table) -> dict[str, str]:
    """What :func:`_generate` returns where nothing is left of the budget: no engine is started."""
    failures = dict.fromkeys(waiting["id"].to_pylist(), OVER_BUDGET)
    lost = count_failures(context.cluster, NAME, failures.values())
    context.progress.tell("rows_failed", NAME, reasons=dict(lost))
    _tell_used_up(context, len(failures))
    return failures


def _tell_used_up(context: Context, rows: int) -> None:
    words = f"teacher.budget is used up: {rows} rows are not asked; a larger one goes on with them"
    context.progress.tell("budget_used_up", NAME, words, rows=rows)


def _seconds_for(context: Context, rows: pa.Table, whole: Spec, number: int, replicas: int | None = None) -> float:
    """How long the teacher of that number may label on so many ``replicas``: what is left of the run's budget, divided
    among the teachers that still have something to be asked."""
    teachers, budget = whole.teachers(), whole.teacher.budget
    if budget == Budget(usd=None, hours=None):
        return math.inf
    before = spent(answers_folder(context.run, one) for one in teachers)
    left = seconds_left(whole.teacher, before, replicas)
    seconds = left / (1 + sum(_is_waiting(replace(context, spec=one), rows) for one in teachers[number + 1 :]))
    context.progress.tell(
        "budget", NAME, _budget_words(left, before), usd=budget.usd, hours=budget.hours, seconds=round(seconds, 3)
    )
    return seconds


def _budget_words(left: float, before: Spent) -> str:
    return f"teacher.budget: {clock(before.seconds)} spent before, {clock(left)} left" if before.seconds else ""


def _is_waiting(context: Context, rows: pa.Table) -> bool:
    asked = pa.concat_tables([rows, content_free_rows(context, rows)])
    return len(pending(context.spec, asked, read_answers(answers_folder(context.run, context.spec)))) > 0


def _count(meter: Meter, result: pa.Table, content_free: pa.Array) -> None:
    answered = result["id"].filter(pc.is_null(result["error"]))
    beside = pc.sum(pc.is_in(answered, value_set=content_free)).as_py() or 0
    prompt, output = (pc.sum(result[name]).as_py() or 0 for name in ("prompt_tokens", "output_tokens"))
    meter.labelled(len(answered) - beside, prompt, output)
    meter.tick()


def _meter(context: Context, wanted: Resources, replicas: int) -> Meter:
    """For as many replicas as there may be: fewer at times cost less, and so does ``teacher.budget`` count them."""
    teacher = context.spec.teacher
    price = None if teacher.price_per_hour is None else teacher.price_per_hour * replicas
    return Meter(context.cluster, context.progress, NAME, wanted.gpus * replicas, price)


def _place(context: Context, live: Live) -> tuple[Resources, tuple[str, str | None], Endpoint | None]:
    """Where the teacher runs: what each replica needs, its model (or tokenizer) and revision, and the server."""
    spec, teacher = context.spec, context.spec.teacher
    wanted = wanted_resources(teacher)
    if teacher.engine == "noop":
        return wanted, ("", None), None
    if teacher.endpoint is not None:
        check_host(teacher.endpoint, teacher.allow_external)
    own = teacher.endpoint is None
    start = Start(lambda note: live.heard([note]), engine=None)
    model = context.model(teacher.model, teacher.revision, "teacher.model", NAME, weights=own, heard=start.fetching)
    start.end()
    if teacher.endpoint is None:
        context.progress.say(f"starting {teacher.model} on vLLM", NAME)
        return wanted, model, None
    context.progress.say(f"asking {teacher.model} at {teacher.endpoint}", NAME)
    name = models.hub_name(teacher.model, spec.base)
    return wanted, model, Endpoint(teacher.endpoint, name, teacher.concurrency, teacher.allow_external)


def _require(context: Context) -> None:
    """:raises UserError: when the cluster does not have, or does not get, what the least number of replicas needs."""
    teacher = context.spec.teacher
    context.cluster.require(
        wanted_resources(teacher),
        "teacher.resources",
        teacher.resources.replicas[0],
        lambda words: context.progress.say(words, NAME),
    )


def _replicas_for(spec: Spec, waiting: pa.Table) -> int:
    """The most replicas that these rows pay for."""
    characters = pc.mean(pc.utf8_length(waiting["text"])).as_py() or 0.0
    return worth_starting(spec, engine_options(settings_of(spec.teacher)), len(waiting), characters)


def _finish(
    context: Context,
    asked: pa.Table,
    found: pa.Table,
    failures: Mapping[str, str],
    generated: int,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    spec = context.spec
    mine = found.filter(pc.is_in(found["id"], value_set=asked["id"].combine_chunks()))
    elapsed = elapsed_seconds(answers_folder(context.run, spec), mine, found)
    unusable = unusable_rows(spec, mine)
    reasons = dict(failures) | unusable
    if lost := count_failures(context.cluster, NAME, (unusable[id_] for id_ in unusable.keys() - failures.keys())):
        context.progress.tell("rows_failed", NAME, reasons=dict(lost))
    mine = mine.filter(pc.invert(pc.is_in(mine["id"], value_set=pa.array(list(reasons), pa.string()))))
    context.here.write_table("answers.parquet", mine)
    rows = asked.filter(pc.equal(asked["kind"], "row"))
    failed = failed_rows(asked, reasons)
    of_rows = {id_: reasons[id_] for id_ in rows["id"].to_pylist() if id_ in reasons}
    context.here.write_table("failures.parquet", failed)
    off = pc.count_distinct(mine["id"]).as_py() + len(reasons) - len(asked)
    if off:
        raise RuntimeError(f"{-off} rows have neither an answer nor a reason")
    check_failures(of_rows, len(rows), len(rows), spec.teacher.max_failure_rate)
    calibrating = {id_: reason for id_, reason in reasons.items() if id_ not in of_rows}
    warnings = [*doubts, *uncalibrated(asked, calibrating)]
    context.progress.warn(warnings, NAME)
    answers = mine.filter(pc.equal(mine["kind"], "row"))
    answered = pc.count_distinct(answers["id"]).as_py()
    seconds = pc.sum(answers["seconds"]).as_py()
    reused = max(0, answered - generated) if seconds else 0
    context.cluster.count("tutelage_rows_reused_total", reused, stage=NAME)
    return {
        "rows": answered,
        "generated": min(generated, answered),
        "reused": reused,
        "failures": len(rows) - answered,
        "failures_by_reason": dict(Counter(reason.split(":")[0] for reason in of_rows.values())),
        "replies": len(answers),
        "seconds": seconds,
        "elapsed": elapsed,
        "rows_per_second": answered / seconds if seconds else None,
        "prompt_tokens": pc.sum(answers["prompt_tokens"]).as_py(),
        "output_tokens": pc.sum(answers["output_tokens"]).as_py(),
        "engine": spec.teacher.engine,
        "model": spec.teacher.model,
        **provenance(spec),
        "longest": longest_prompts(answers, rows) if seconds else [],
        "warnings": warnings,
    }
