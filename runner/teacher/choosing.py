"""Few-shot examples chosen from a pool: the same for all rows, or the nearest to each."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from runner.cluster.resources import Resources
from runner.data.examples import COLUMNS
from runner.stages.contract import Context
from runner.teacher import prompt, shortlist
from runner.teacher.examples import Chooser, choose_spread
from runner.teacher.request import STAGE, asking_of
from runner.teacher.worker import QUESTIONS, Asking

CHOOSING_ROWS, CHOOSERS = 2048, 64
"""Rows of a batch whose examples are chosen together, and the most workers that do it."""


def with_examples(context: Context, waiting: pa.Table) -> tuple[pa.Table, Asking]:
    """The questions and how they are asked, with few-shot examples chosen where the spec wants them chosen."""
    pool, asking = context.spec.task.pool, asking_of(context.spec)
    if pool is None:
        return waiting, asking
    examples = tuple(_pool_texts(context))
    model, _ = context.model(pool.model, None, "task.examples", STAGE)
    if pool.select == "diverse":
        context.progress.say(f"choosing {pool.k} of {len(examples)} examples", STAGE)
        numbers = context.cluster.call(
            choose_spread,
            Resources(1),
            model=model,
            texts=[one.text for one in examples],
            labels=[one.label for one in examples],
            k=pool.k,
        )
        return waiting, replace(asking, task=replace(asking.task, examples=tuple(examples[n] for n in numbers)))
    context.progress.say(f"choosing {pool.k} of {len(examples)} examples for each of {len(waiting)} rows", STAGE)
    waiting = _nearest(context, waiting, model, [one.text for one in examples], pool.k)
    return waiting, replace(asking, pool=examples)


def with_shortlists(context: Context, waiting: pa.Table, asking: Asking) -> pa.Table:
    """The questions with the choices that each row is shown, where the spec wants a shortlist.

    A text for calibration says nothing, and is shown choices at random.
    """
    size, answers = asking.shortlist, asking.task.answers
    if size is None or not len(waiting):
        return waiting
    examples = [(one.text, one.label) for one in (*asking.task.examples, *_pool_texts(context))]
    signals, owners = shortlist.signals_of(answers, examples)
    context.progress.say(f"choosing {size} of {len(answers.choices)} answers for each of {len(waiting)} rows", STAGE)
    model, _ = context.model(shortlist.MODEL, None, "teacher.shortlist", STAGE)
    batches = [waiting.slice(start, CHOOSING_ROWS) for start in range(0, len(waiting), CHOOSING_ROWS)]
    arguments = {"model": model, "signals": signals, "owners": owners, "size": size}
    results = context.cluster.map_batches(batches, shortlist.Shortlister, arguments, Resources(1), (1, CHOOSERS))
    chosen: dict[str, list[int]] = {}
    for result in results:
        chosen |= dict(zip(result["id"].to_pylist(), result["shortlist"].to_pylist(), strict=True))
    free = waiting.filter(pc.equal(waiting["kind"], "content-free"))["id"].to_pylist()
    seed = context.spec.teacher.seed
    chosen |= dict(zip(free, shortlist.random_shortlists(len(answers.choices), size, len(free), seed), strict=True))
    column = pa.array([chosen[id_] for id_ in waiting["id"].to_pylist()], shortlist.NUMBERS)
    return waiting.set_column(waiting.schema.get_field_index("shortlist"), QUESTIONS.field("shortlist"), column)


def _pool_texts(context: Context) -> list[prompt.Example]:
    """The texts of the pool that ``task.examples`` names; none where it names none."""
    if context.spec.task.pool is None:
        return []
    texts = context.inputs["load"].read_table("examples.parquet").to_pylist()
    return [prompt.Example(**{name: text[name] for name in COLUMNS}) for text in texts]


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
