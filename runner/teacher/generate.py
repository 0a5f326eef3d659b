"""Ask the replicas of one teacher about rows, for as long as its budget lasts. The answers go to the store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from runner import models
from runner.cluster.resources import Resources
from runner.observe.metrics import Meter, count_failures
from runner.planning.replicas import worth_starting
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages.contract import Context
from runner.teacher.budget import Spending
from runner.teacher.choosing import with_examples, with_shortlists
from runner.teacher.engines.endpoint import Endpoint
from runner.teacher.engines.hosts import check_host
from runner.teacher.engines.vllm_arguments import engine_options
from runner.teacher.failures import check_failures, reasons_of
from runner.teacher.live import Live, Start
from runner.teacher.occupancy import concurrent_batches
from runner.teacher.request import STAGE, settings_of, wanted_resources
from runner.teacher.worker import OVER_BUDGET, Labeller


def generate(
    context: Context, waiting: pa.Table, store: Folder, seconds: float, most: int
) -> tuple[dict[str, str], Sequence[str]]:
    """Ask ``most`` replicas of the teacher for so many ``seconds``; answers go to the store as they come.

    ``waiting`` are :data:`runner.teacher.worker.QUESTIONS`. Returns the rows that failed, with reasons, and what the
    engines warned of. :raises EngineError: when the engine cannot start, or more rows fail than may.
    """
    if seconds <= 0:
        return _not_asked(context, waiting), ()
    waiting, asking = with_examples(context, waiting)  # first: an encoder reads all rows, and needs no GPU
    waiting = with_shortlists(context, waiting, asking)
    require_replicas(context)
    content_free = waiting.filter(pc.equal(waiting["kind"], "content-free"))["id"].combine_chunks()
    rows = len(waiting) - len(content_free)
    context.progress.begin(STAGE, rows)
    live = Live(context.progress, STAGE)
    teacher = context.spec.teacher
    wanted, (model, revision), endpoint = _place(context, live)
    batches = [waiting.slice(start, teacher.batch_size) for start in range(0, len(waiting), teacher.batch_size)]
    spending = Spending(store, most, seconds)
    arguments = {
        "engine": teacher.engine,
        "model": model,
        "revision": revision,
        "asking": asking,
        "settings": settings_of(teacher),
        "answers": store.url,
        "endpoint": endpoint,
        "over": spending.over if math.isfinite(seconds) else None,
    }
    replicas, at_once = (teacher.resources.replicas[0], most), concurrent_batches(context.spec, len(batches), most)
    results = context.cluster.map_batches(batches, Labeller, arguments, wanted, replicas, at_once, live.heard)
    if not context.cluster.is_warm:
        context.progress.doing(STAGE, "starting Ray")
    with spending, _meter(context, wanted, most) as meter:
        failures = _collect(context, results, content_free, rows, live, meter)
    return failures, live.warnings


def _collect(
    context: Context, results: Iterable[pa.Table], content_free: pa.Array, rows: int, live: Live, meter: Meter
) -> dict[str, str]:
    """The rows that failed, with reasons, once all ``results`` have come; so many ``rows`` are asked about, and texts
    for calibration (``content_free``) besides."""
    failures: dict[str, str] = {}
    lost: dict[str, str] = {}
    done = over = 0
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
        check_failures(lost, done, rows, context.spec.teacher.max_failure_rate)
    if over:
        _tell_used_up(context, over)
    return failures


def require_replicas(context: Context) -> None:
    """:raises UserError: when the cluster does not have, or does not get, what the least number of replicas needs."""
    teacher = context.spec.teacher
    context.cluster.require(
        wanted_resources(teacher),
        "teacher.resources",
        teacher.resources.replicas[0],
        lambda words: context.progress.say(words, STAGE),
    )


def replicas_for(spec: Spec, waiting: pa.Table) -> int:
    """The most replicas that these rows pay for."""
    characters = pc.mean(pc.utf8_length(waiting["text"])).as_py() or 0.0
    return worth_starting(spec, engine_options(settings_of(spec.teacher)), len(waiting), characters)


def _not_asked(context: Context, waiting: pa.Table) -> dict[str, str]:
    """What :func:`generate` returns where nothing is left of the budget: no engine is started."""
    failures = dict.fromkeys(waiting["id"].to_pylist(), OVER_BUDGET)
    lost = count_failures(context.cluster, STAGE, failures.values())
    context.progress.tell("rows_failed", STAGE, reasons=dict(lost))
    _tell_used_up(context, len(failures))
    return failures


def _tell_used_up(context: Context, rows: int) -> None:
    words = f"teacher.budget is used up: {rows} rows are not asked; a larger one goes on with them"
    context.progress.tell("budget_used_up", STAGE, words, rows=rows)


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
    return Meter(context.cluster, context.progress, STAGE, wanted.gpus * replicas, price)


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
    model = context.model(teacher.model, teacher.revision, "teacher.model", STAGE, weights=own, heard=start.fetching)
    start.end()
    if teacher.endpoint is None:
        if not context.cluster.is_warm:
            context.progress.say(f"starting {teacher.model} on vLLM", STAGE)
        return wanted, model, None
    context.progress.say(f"asking {teacher.model} at {teacher.endpoint}", STAGE)
    name = models.hub_name(teacher.model, spec.base)
    return wanted, model, Endpoint(teacher.endpoint, name, teacher.concurrency, teacher.allow_external)
