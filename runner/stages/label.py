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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.cluster.cluster import Resources
from runner.data.reading import row_id
from runner.engines.endpoint import Endpoint, check_host
from runner.engines.protocol import Sampling
from runner.engines.vllm import EngineSettings, engine_options
from runner.observe.metrics import Meter, count_failures
from runner.observe.progress import clock
from runner.planning.hardware.accelerators import known
from runner.planning.hardware.memory import largest_step
from runner.planning.replicas import first_requests, worth_starting
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.spec.model import Budget, Teacher
from runner.stages.contract import Context
from runner.stages.load import EXAMPLES, pool_key, vote_columns
from runner.system.errors import EngineError
from runner.tasks.single_label.calibrate import content_free_texts
from runner.tasks.single_label.recorded import distribution
from runner.teacher import prompt
from runner.teacher.batch import ANSWERS
from runner.teacher.budget import Spending, Spent, seconds_left, spent
from runner.teacher.conversation import counted, missing
from runner.teacher.examples import Chooser, choose_spread
from runner.teacher.live import Live, Start
from runner.teacher.worker import OVER_BUDGET, QUESTIONS, Asking, Labeller, cut_words

NAME = "label"
NEEDS = ("load",)

READING = 3
"""Of answers: a change looks at stored answers again, and asks only where they have become unusable."""

CONCURRENT_BATCHES, MOST_CONCURRENT_BATCHES = 4, 64
"""Batches inside one engine at once, at the least and at most: while the last rows of one are finished, those of the
others fill it. Each has a thread."""

IN_HAND = 4.0
"""Requests that an actor has in hand for each that its engine computes at once. A batch waits for its slowest row, so
that of the rows in hand about half are in the engine, and fewer towards the end of a job (recorded answers: mean 42
tokens, p95 70)."""

UNKNOWN_GPU_SEQUENCES = 256
"""What vLLM computes at once on GPUs of less than 70 GiB."""

CHOOSING_ROWS, CHOOSERS = 2048, 64
"""Rows of a batch whose examples are chosen together, and the most workers that do it."""

READERS = 16
"""Files of answers that are read at once: far away, most of a read is waiting."""

FAILURES = pa.schema(
    [("id", pa.string()), ("split", pa.string()), ("text", pa.large_string()), ("reason", pa.string())]
)
LONGEST = 10
TOO_LONG = "too long"


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
        asked |= {"votes": spec.teacher.votes, "early_stop": spec.teacher.early_stop, "reading": READING}
    return asked


def teacher_key(spec: Spec) -> dict[str, Any]:
    """All that decides an answer to a given text."""
    teacher = spec.teacher
    asked: dict[str, Any] = {
        "engine": "server" if teacher.endpoint else teacher.engine,
        "model": _identity(spec) if teacher.engine == "vllm" else "",
        "prompt": [prompt.messages(task_of(spec), ""), prompt.ask_again(task_of(spec))],
        "kind": teacher.prompt,
        "labels": list(spec.task.labels),
        "max_context": teacher.max_context,
        "options": teacher.engine_options,
        "aligned": True,
    }
    if pool := spec.task.pool:
        encoder = models.identity(pool.model, None, spec.base)
        asked["examples"] = {"pool": pool_key(spec), "select": pool.select, "k": pool.k, "encoder": encoder}
    if teacher.prompt == "direct" and _overlap(spec.task.labels):
        asked["ends"] = "all"
    if teacher.prompt == "cot":
        names = ("temperature", "top_k", "top_p", "max_tokens", "seed")
        asked["sampling"] = {name: getattr(teacher, name) for name in names}
        if teacher.structured:
            asked["schema"] = prompt.answer_schema(task_of(spec), teacher.max_tokens)
    return asked


def _identity(spec: Spec) -> str:
    """Of the teacher's model; a server elsewhere has the weights."""
    teacher = spec.teacher
    return models.identity(teacher.model, teacher.revision, spec.base, weights=teacher.endpoint is None)


def _overlap(labels: Sequence[str]) -> bool:
    """Whether a label begins another, so that the end of the turn tells them apart."""
    return any(later.startswith(earlier) for earlier, later in pairwise(sorted(labels)))


def run(context: Context) -> dict[str, Any]:
    """:raises EngineError: when the engine cannot start or more rows fail than ``max_failure_rate`` allows."""
    rows, columns = _rows(context.inputs["load"]), vote_columns(context.spec)
    first, *others = (
        _label(replace(context, spec=spec, here=folder_of(context.here, number)), rows, columns, context.spec, number)
        for number, spec in enumerate(context.spec.teachers())
    )
    return _together(context, [first, *others]) if others else first


def folder_of(here: Folder, number: int) -> Folder:
    """Where the stage keeps what the teacher of that number said: the first in the stage's own folder."""
    return here.child(f"also-{number}") if number else here


def _label(context: Context, rows: pa.Table, columns: list[str], whole: Spec, number: int) -> dict[str, Any]:
    """What the teacher of that number among those of the ``whole`` spec says: its own spec is the context's."""
    spec = context.spec
    if spec.teacher.engine == "recorded":
        places = [columns.index(name) for name in spec.teacher.columns]
        return _finish(context, rows, _recorded(rows, places, spec.task.labels), {}, 0)
    store = answers_folder(context.run, spec)
    found = read_answers(store)
    if asks_content_free(spec) and len(pending(spec, rows, found)) and context.cluster.starts_on_demand:
        _require(context)  # else calibration's texts, which any node may cut, would start one of another kind
    asked = pa.concat_tables([rows, _content_free(context, rows)])
    waiting = pending(spec, _in_order(asked), found)
    if not len(waiting):
        return _finish(context, asked, found, {}, 0)
    replicas = _replicas_for(spec, waiting)
    seconds = _seconds_for(context, rows, whole, number, replicas)
    failures, doubts = _generate(context, waiting, store, seconds, replicas)
    answered = waiting.filter(pc.invert(pc.is_in(waiting["id"], value_set=pa.array(list(failures), pa.string()))))
    generated = pc.sum(pc.equal(answered["kind"], "row")).as_py() or 0
    return _finish(context, asked, read_answers(store), failures, generated, doubts)


def _together(context: Context, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several teachers: what they took together, and the rows that none of them could label."""
    failed = [_failed_rows(folder_of(context.here, number)) for number in range(len(summaries))]
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


def _failed_rows(here: Folder) -> set[str]:
    """The rows that one teacher could not label; of calibration texts, which have no split, nobody wants a label."""
    table = here.read_table("failures.parquet")
    return set(table.filter(pc.not_equal(table["split"], ""))["id"].to_pylist())


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


def answers_folder(run: Folder, spec: Spec) -> Folder:
    """Where the answers of this teacher to this question are kept."""
    return run.child("answers", fingerprint(teacher_key(spec)))


def read_answers(store: Folder) -> pa.Table:
    """All stored replies, in :data:`ANSWERS`; of two of the same (a batch done again after a crash) one.

    Those whose probabilities are no numbers, as earlier versions kept them, are left out, and so asked for again.
    """
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(store.read_table, store.names(".parquet")))
    if not tables:
        return ANSWERS.empty_table()
    table = pa.concat_tables(tables).combine_chunks()
    shares = table["label_probabilities"]
    broken = pc.list_parent_indices(shares).filter(pc.invert(pc.is_finite(pc.list_flatten(shares))))
    if len(broken):
        places = pa.array(range(len(table)), broken.type)
        table = table.filter(pc.invert(pc.is_in(places, value_set=broken.combine_chunks())))
    table = table.append_column("place", pa.array(range(len(table)), pa.int64()))
    first = table.group_by(["id", "vote", "attempt"]).aggregate([("place", "min")])["place_min"]
    return table.take(first.sort()).drop_columns("place")


def task_of(spec: Spec) -> prompt.Task:
    """The spec's task as the prompt wants it."""
    examples = tuple(prompt.Example(e.text, e.label, e.reason) for e in spec.task.written)
    teacher = spec.teacher
    return prompt.Task(spec.task.labels, spec.task.instructions, examples, teacher.prompt, teacher.template)


def pending(spec: Spec, asked: pa.Table, found: pa.Table) -> pa.Table:
    """The rows of ``asked`` about which something is still to be asked, in their order, in :data:`QUESTIONS`."""
    if spec.teacher.prompt == "direct":
        keep = asked.filter(pc.invert(pc.is_in(asked["id"], value_set=found["id"].combine_chunks())))
        earlier: list[list[dict[str, Any]] | None] = [None] * len(keep)
    else:
        by_id = by_row(found)
        teacher, labels = spec.teacher, spec.task.labels
        earlier, open_ = [], []
        for id_ in asked["id"].to_pylist():
            records = by_id.get(id_, [])
            open_.append(bool(missing(records, labels, teacher.votes, teacher.early_stop)))
            if open_[-1]:
                earlier.append([{name: one[name] for name in ("vote", "attempt", "text")} for one in records])
        keep = asked.filter(pa.array(open_, pa.bool_()))
    return pa.table(
        {
            "id": keep["id"],
            "kind": keep["kind"],
            "text": keep["text"],
            "earlier": pa.array(earlier, QUESTIONS.field("earlier").type),
            "examples": pa.nulls(len(keep), QUESTIONS.field("examples").type),
        },
        schema=QUESTIONS,
    )


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


def by_row(answers: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The replies about each row."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for answer in answers.to_pylist():
        rows.setdefault(answer["id"], []).append(answer)
    return rows


def _rows(load: Folder) -> pa.Table:
    """All rows of train and test: ``id``, ``kind``, ``text``, ``split`` and their recorded ``votes``."""
    parts = []
    for split in ("train", "test"):
        table = load.read_table(f"{split}.parquet").select(["id", "text", "votes"])
        for name, value in (("kind", "row"), ("split", split)):
            table = table.append_column(name, pa.repeat(pa.scalar(value), len(table)))
        parts.append(table)
    return pa.concat_tables(parts)


def asks_content_free(spec: Spec) -> bool:
    """Whether the teacher is asked about calibration texts besides the rows."""
    return spec.teacher.prompt == "direct" and spec.teacher.calibration == "content-free"


def _content_free(context: Context, rows: pa.Table) -> pa.Table:
    spec = context.spec
    if not asks_content_free(spec):
        return rows.slice(0, 0)
    corpus = rows.filter(pc.equal(rows["split"], "train"))["text"].to_pylist()
    cut = None if spec.teacher.engine == "noop" else partial(_cut, context)
    texts = content_free_texts(corpus, cut, spec.teacher.seed)
    lines = [
        {"id": f"cf-{row_id(text)}", "kind": "content-free", "text": text, "split": "", "votes": None} for text in texts
    ]
    return pa.Table.from_pylist(lines, schema=rows.schema)


def _cut(context: Context, words: list[str]) -> list[list[str]]:
    """Words cut into the teacher's tokens, where its tokenizer is."""
    teacher, own = context.spec.teacher, context.spec.teacher.endpoint is None
    model, revision = context.model(teacher.model, teacher.revision, "teacher.model", NAME, weights=own)
    where: dict[str, Any] = {"model": model, "revision": revision, "weights": own}
    pieces: list[list[str]] = context.cluster.call(cut_words, Resources(1), **where, words=words)
    return pieces


def _recorded(rows: pa.Table, places: list[int], labels: Sequence[str]) -> pa.Table:
    lines = [
        {"id": row["id"], "kind": "row", "vote": number, "attempt": 0, "text": vote}
        | {"label_probabilities": distribution(vote, labels)}
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
    waiting, asking = _with_examples(context, waiting)  # first: an encoder reads all rows, and needs no GPU
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
            failures |= _reasons(result)
            # Nobody wants a label of calibration texts: neither are they rows when they fail.
            mine = result.filter(pc.invert(pc.is_in(result["id"], value_set=content_free)))
            reasons = _reasons(mine)
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
    asked = pa.concat_tables([rows, _content_free(context, rows)])
    return len(pending(context.spec, asked, read_answers(answers_folder(context.run, context.spec)))) > 0


def _reasons(result: pa.Table) -> dict[str, str]:
    failed = result.filter(pc.is_valid(result["error"]))
    return dict(zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True))


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


def _with_examples(context: Context, waiting: pa.Table) -> tuple[pa.Table, Asking]:
    """The questions and how they are asked, with few-shot examples chosen where the spec wants them chosen."""
    pool, asking = context.spec.task.pool, asking_of(context.spec)
    if pool is None:
        return waiting, asking
    texts = context.inputs["load"].read_table("examples.parquet").to_pylist()
    examples = tuple(prompt.Example(**{name: text[name] for name in EXAMPLES.names}) for text in texts)
    model, _ = context.model(pool.model, None, "task.examples", NAME)
    if pool.select == "diverse":
        context.progress.say(f"choosing {pool.k} of {len(examples)} examples", NAME)
        numbers = context.cluster.call(
            choose_spread,
            Resources(1),
            model=model,
            texts=[one.text for one in examples],
            labels=[one.label for one in examples],
            k=pool.k,
        )
        return waiting, replace(asking, task=replace(asking.task, examples=tuple(examples[n] for n in numbers)))
    context.progress.say(f"choosing {pool.k} of {len(examples)} examples for each of {len(waiting)} rows", NAME)
    waiting = _nearest(context, waiting, model, [one.text for one in examples], pool.k)
    return waiting, replace(asking, pool=examples)


def _nearest(context: Context, waiting: pa.Table, model: str, pool: list[str], k: int) -> pa.Table:
    """``waiting`` with the numbers of each row's own examples; rows with the same ones come together."""
    batches = [waiting.slice(start, CHOOSING_ROWS) for start in range(0, len(waiting), CHOOSING_ROWS)]
    arguments = {"model": model, "pool": pool, "k": k}
    results = context.cluster.map_batches(batches, Chooser, arguments, Resources(1), (1, CHOOSERS))
    chosen: dict[str, list[int]] = {}
    for result in results:
        chosen |= dict(zip(result["id"].to_pylist(), result["examples"].to_pylist(), strict=True))
    mine = [chosen[id_] for id_ in waiting["id"].to_pylist()]
    # Rows with the same examples share the engine's cache: they follow the first of them.
    first: dict[tuple[int, ...], int] = {}
    order = [first.setdefault(tuple(numbers), place) for place, numbers in enumerate(mine)]
    column = pa.array(mine, QUESTIONS.field("examples").type)
    waiting = waiting.set_column(waiting.schema.get_field_index("examples"), QUESTIONS.field("examples"), column)
    return waiting.take(sorted(range(len(order)), key=order.__getitem__))


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


def wanted_resources(teacher: Teacher) -> Resources:
    """What each replica runs on: a GPU only where there is a model, and not a server elsewhere that has it."""
    resources = teacher.resources
    if teacher.endpoint is not None or teacher.engine == "noop":
        return Resources(resources.cpus or 1)
    return Resources.of(resources)


def _replicas_for(spec: Spec, waiting: pa.Table) -> int:
    """The most replicas that these rows pay for."""
    characters = pc.mean(pc.utf8_length(waiting["text"])).as_py() or 0.0
    return worth_starting(spec, engine_options(settings_of(spec.teacher)), len(waiting), characters)


def concurrent_batches(teacher: Teacher, batches: int, replicas: int = 1) -> int:
    """How many batches an actor has in hand: enough to keep its engine full, and no more than its share of the
    ``batches``, so that one of the ``replicas`` leaves something to the others."""
    if not teacher.resources.gpus:
        return CONCURRENT_BATCHES
    gpu = known(teacher.resources.accelerator)
    asked = teacher.engine_options.get("max_num_seqs")  # null, or left out: vLLM chooses
    sequences = UNKNOWN_GPU_SEQUENCES if asked is None else asked
    if gpu:
        sequences = largest_step(gpu, teacher.engine_options, teacher.max_context).sequences
    wanted = math.ceil(IN_HAND * sequences / first_requests(teacher) / teacher.batch_size)
    share = math.ceil(batches / replicas)
    return max(CONCURRENT_BATCHES, min(wanted, share, MOST_CONCURRENT_BATCHES))


def asking_of(spec: Spec) -> Asking:
    """How the spec's teacher is asked."""
    teacher = spec.teacher
    task = task_of(spec)
    schema = prompt.answer_schema(task, teacher.max_tokens) if teacher.structured else None
    sampling = Sampling(teacher.temperature, teacher.top_p, teacher.top_k, teacher.max_tokens, schema)
    return Asking(task, teacher.votes, teacher.early_stop, sampling, teacher.seed, teacher.truncate)


def settings_of(teacher: Teacher) -> EngineSettings:
    """What the spec's engine is started with."""
    return EngineSettings(
        teacher.max_context, teacher.resources.gpus, teacher.seed, teacher.start_minutes, teacher.engine_options
    )


def check_failures(failures: Mapping[str, str], done: int, total: int, allowed: float) -> None:
    """:raises EngineError: when more rows failed than are allowed, or so many so early that they will.

    Where any may fail, one may in a job of a few rows too.
    """
    # Rows that are too long come first, so that they say nothing about those to come.
    failures = {id_: reason for id_, reason in failures.items() if reason != OVER_BUDGET}
    telling = sum(not reason.startswith(TOO_LONG) for reason in failures.values())
    early = done * allowed + 5 * math.sqrt(done * max(allowed, 0.01)) + 5
    few = len(failures) <= (1 if allowed else 0) or (total and len(failures) / total <= allowed)
    if few and telling <= early:
        return
    common = Counter(reason.split(":")[0] for reason in failures.values()).most_common(3)
    raise EngineError(
        f"{len(failures)} of the first {done} rows failed ({total} in all), "
        f"more than teacher.max_failure_rate ({allowed:.0%}) allows: "
        f"{', '.join(f'{count} x {reason}' for reason, count in common)}; "
        f"the first: {next(iter(failures.values()))}. Answers that came are kept"
    )


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
    elapsed = _elapsed(answers_folder(context.run, spec), mine, found)
    unusable = _unusable(spec, mine)
    reasons = dict(failures) | unusable
    if lost := count_failures(context.cluster, NAME, (unusable[id_] for id_ in unusable.keys() - failures.keys())):
        context.progress.tell("rows_failed", NAME, reasons=dict(lost))
    mine = mine.filter(pc.invert(pc.is_in(mine["id"], value_set=pa.array(list(reasons), pa.string()))))
    context.here.write_table("answers.parquet", mine)
    rows = asked.filter(pc.equal(asked["kind"], "row"))
    failed = _failed(asked, reasons)
    of_rows = {id_: reasons[id_] for id_ in rows["id"].to_pylist() if id_ in reasons}
    context.here.write_table("failures.parquet", failed)
    off = pc.count_distinct(mine["id"]).as_py() + len(reasons) - len(asked)
    if off:
        raise RuntimeError(f"{-off} rows have neither an answer nor a reason")
    check_failures(of_rows, len(rows), len(rows), spec.teacher.max_failure_rate)
    calibrating = {id_: reason for id_, reason in reasons.items() if id_ not in of_rows}
    warnings = [*doubts, *_uncalibrated(asked, calibrating)]
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
        **_provenance(spec),
        "longest": _longest(answers, rows) if seconds else [],
        "warnings": warnings,
    }


def _elapsed(store: Folder, mine: pa.Table, found: pa.Table) -> float | None:
    """Seconds by the clock, engine start included, of the answers that are ``mine`` among those ``found`` in the store.

    The replicas' own seconds, which the answers have, say nothing of that: several work at once. None where not all of
    the time was written down.
    """
    took, (own, all_) = spent([store]), (pc.sum(table["seconds"]).as_py() or 0 for table in (mine, found))
    return took.seconds * own / all_ if 0 < all_ <= took.replica_seconds else None


def _uncalibrated(asked: pa.Table, failed: Mapping[str, str]) -> list[str]:
    """What to say of calibration texts that ``failed``."""
    texts = len(asked.filter(pc.equal(asked["kind"], "content-free")))
    if not failed:
        return []
    left = texts - len(failed)
    then = f"calibration goes by the other {left}" if left else "the labels are not calibrated"
    return [f"{len(failed)} of {texts} calibration texts have no answer ({next(iter(failed.values()))}): {then}"]


def _provenance(spec: Spec) -> dict[str, str | None]:
    """Which model answered; of recorded answers nobody can tell more than the spec says."""
    teacher = spec.teacher
    own = teacher.endpoint is None
    return models.provenance(teacher.model, teacher.revision, spec.base, own) if teacher.engine == "vllm" else {}


def _unusable(spec: Spec, answers: pa.Table) -> dict[str, str]:
    """Rows of which no reply names a label, though the teacher was asked again."""
    if spec.teacher.prompt == "direct" or spec.teacher.engine == "recorded":
        return {}
    teacher, labels = spec.teacher, spec.task.labels
    return {
        id_: f"unusable answer: {(records[0]['text'] or '')[:200]!r}"
        for id_, records in by_row(answers).items()
        if not any(counted(records, labels, teacher.votes, teacher.early_stop))
    }


def _failed(asked: pa.Table, reasons: Mapping[str, str]) -> pa.Table:
    rows = asked.filter(pc.is_in(asked["id"], value_set=pa.array(list(reasons), pa.string())))
    why = pa.array([reasons[id_] for id_ in rows["id"].to_pylist()], pa.string())
    return pa.Table.from_arrays([rows["id"], rows["split"], rows["text"], why], schema=FAILURES)


def _longest(answers: pa.Table, rows: pa.Table) -> list[dict[str, Any]]:
    """The rows with the longest prompts, for the report."""
    first = answers.filter(pc.and_(pc.equal(answers["vote"], 0), pc.equal(answers["attempt"], 0)))
    top = first.take(pc.sort_indices(first, sort_keys=[("prompt_tokens", "descending")])[:LONGEST])
    places = pc.index_in(top["id"], value_set=rows["id"].combine_chunks())
    texts = rows["text"].take(places).to_pylist()
    return [
        {"text": text[:500], "tokens": tokens}
        for text, tokens in zip(texts, top["prompt_tokens"].to_pylist(), strict=True)
    ]
