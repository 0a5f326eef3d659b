"""benchmark: latency, throughput, memory and cost of the student, and of the teacher from its own run."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Literal

from runner.cluster import node_demand
from runner.cluster.node_demand import Demand, of_hardware
from runner.cluster.resources import Resources
from runner.economics.arithmetic import DIRECT_OUTPUT, Asked, OneOff, labelling_usd, usd_per_million, work_out
from runner.planning.hardware.throughput import CHARACTERS_PER_TOKEN
from runner.planning.tokens import prompt_tokens, recorded_answer_tokens
from runner.spec import Spec
from runner.spec.prices import prices_of
from runner.stages.contract import Context, always, one_student, versioned
from runner.student.timing import measure
from runner.student.trained import chosen_student, other_runtimes
from runner.teacher.prompt import messages
from runner.teacher.request import prompt_task

NAME = "benchmark"
NEEDS = ("load", "label", "train", "export")
VERSION = 1
WRITES = {"benchmark.json": None}

COUNTED = "counted by the teacher's tokenizer, over this run's own prompts and answers"

wanted = always


def demands(spec: Spec) -> list[Demand]:
    """One of the student's nodes, and each further machine when its turn comes."""
    return [*one_student(spec), *map(of_hardware, spec.benchmark.hardware)]


def key(spec: Spec) -> dict[str, Any]:
    """What is timed, on what, at which price."""
    return {
        "benchmark": {name: value for name, value in spec.to_dict()["benchmark"].items() if name != "prices"},
        "resources": spec.to_dict()["student"]["resources"],
        "teacher_price": spec.teacher.price_per_hour,
        "replicas": list(spec.teacher.resources.replicas),
        "same_machine": _same_machine(spec),
        "prices": asdict(prices_of(spec)),  # what stands in the table, wherever it lies
        # Where nothing is asked, the prompt that would have been is counted for the comparison with APIs.
        "prompt": messages(prompt_task(spec), "") if spec.teacher.engine == "recorded" else None,
        "reasons": list(spec.teacher.reasons),
        **({"review_seconds": spec.reviewed.seconds} if spec.reviewed else {}),
        **versioned(VERSION),
    }


def _same_machine(spec: Spec) -> bool:
    """Whether teacher and student run on the same kind of machine, at the same price."""
    elsewhere = any(one.teacher.resources.gpus or one.teacher.endpoint for one in spec.teachers())
    return not (elsewhere or spec.student.resources.gpus)


def run(context: Context) -> dict[str, Any]:
    """Time the student where it runs; work out what each million texts cost."""
    spec, bench, carbon = context.spec, context.spec.benchmark, context.spec.benchmark.carbon
    texts = _timed(context)
    measured = context.cluster.call(
        measure,
        Resources.of(spec.student.resources),
        student=chosen_student(spec, context.inputs),
        others=other_runtimes(spec, context.inputs),
        fresh=True,  # what the exporter took is not the student's memory
        texts=texts[: bench.rows],
        batch_sizes=list(bench.batch_sizes),
        carbon=carbon and {"country": carbon.country, "grams_per_kwh": carbon.grams_per_kwh},
    )
    elsewhere = _elsewhere(context, texts[: bench.rows])
    measured["hardware"]["cores"] = spec.student.resources.cpus or measured["hardware"]["cores"]
    student = measured | {
        "usd_per_million": usd_per_million(bench.price_per_hour, measured["texts_per_second"]),
        "price_per_hour": bench.price_per_hour,
    }
    label = (context.inputs["label"].done or {})["summary"]
    rate, price = label["rows_per_second"], spec.teacher.price_per_hour
    if price is None and _same_machine(spec):
        price = bench.price_per_hour
    teacher = {
        "rows_per_second": rate,
        "usd_per_million": usd_per_million(price, rate),
        "price_per_hour": price,
        "replicas": list(spec.teacher.resources.replicas),
    }
    result = {
        "student": student,
        "elsewhere": elsewhere,
        "teacher": teacher,
        "texts": bench.texts,
        "student_usd": _for_texts(student["usd_per_million"], bench.texts),
        "teacher_usd": _for_texts(teacher["usd_per_million"], bench.texts),
        "economics": _economics(context, student["usd_per_million"], teacher["usd_per_million"], price),
    }
    context.here.write_json("benchmark.json", result)
    return {"texts_per_second": student["texts_per_second"], "usd_per_million": student["usd_per_million"]}


def _timed(context: Context) -> list[str]:
    """The texts that the student is timed on: those of the test or, where nobody has labelled any, of train."""
    load = context.inputs["load"]
    test = load.read_table("test.parquet")
    texts: list[str] = (test if len(test) else load.read_table("train.parquet"))["text"].to_pylist()
    return texts


def _for_texts(usd_per_million: float | None, texts: int) -> float | None:
    return None if usd_per_million is None else usd_per_million * texts / 1e6


def _elsewhere(context: Context, texts: list[str]) -> list[dict[str, Any]]:
    """The student on the further machines of the spec, one after the other."""
    found, bench = [], context.spec.benchmark
    model = chosen_student(context.spec, context.inputs)
    for number, one in enumerate(bench.hardware):
        context.progress.say(f"{one.name} ({number + 1} of {len(bench.hardware)})", NAME)
        node_demand.ask(context.cluster, of_hardware(one), context.progress, NAME)
        measured = context.cluster.call(
            measure,
            Resources.of(one),
            fresh=True,
            # Exports are for processors.
            student=replace(model, runtime="torch", exports=None) if one.gpus else model,
            texts=texts,
            batch_sizes=list(bench.batch_sizes),
        )
        measured["hardware"]["cores"] = one.cpus or measured["hardware"]["cores"]
        usd = usd_per_million(one.price_per_hour, measured["texts_per_second"])
        found.append({"name": one.name, "price_per_hour": one.price_per_hour, "usd_per_million": usd} | measured)
    return found


def _review_usd(spec: Spec) -> float | None:
    """What people's time cost; None where they reviewed, and its length or its price is not known."""
    review, reviewed = spec.benchmark.review, spec.reviewed
    if review is None:
        return None if reviewed else 0.0
    if review.hours is not None:
        return review.hours * review.usd_per_hour
    if not reviewed:
        return 0.0
    return None if reviewed.seconds is None else reviewed.seconds / 3600 * review.usd_per_hour


def _economics(
    context: Context, student: float | None, teacher: float | None, teacher_price: float | None
) -> dict[str, Any]:
    """The one-off cost, what APIs would cost, and from how many texts on the student pays."""
    spec, bench, prices = context.spec, context.spec.benchmark, prices_of(context.spec)
    label, train = (context.inputs[name].done or {} for name in ("label", "train"))
    resources = spec.student.resources
    replicas, busy = spec.teacher.resources.replicas[0], label["summary"].get("seconds")
    elapsed = max(label["seconds"], label["summary"].get("elapsed") or 0)  # of this run's labelling, and of all runs'
    labelling, price = bench.labelling_usd, bench.price_per_hour
    one_off = OneOff(
        labelling=labelling_usd(teacher_price, busy, elapsed, replicas) if labelling is None else labelling,
        training=None if price is None else _training_seconds(train) / 3600 * resources.workers * price,
        review=_review_usd(spec),
    )
    asked = _asked(context, label["summary"])
    return work_out(one_off, student, teacher, asked, prices.apis) | {"published": asdict(prices)["published"]}


def _training_seconds(train: dict[str, Any]) -> float:
    """Of the stage, or of its epochs where they took longer: those before a run was stopped count as well."""
    epochs = (float(epoch["seconds"]) for epoch in train["summary"].get("history") or [])
    return max(float(train["seconds"]), sum(epochs))


def _asked(context: Context, label: dict[str, Any]) -> list[Asked]:
    """How an API would be asked, by the tokens of the teachers' own prompts and answers where there are any."""
    real: dict[str, Asked] = {}
    for spec, summary in zip(context.spec.teachers(), label.get("teachers") or [label], strict=True):
        if not summary.get("prompt_tokens"):
            continue
        kind, calls = spec.teacher.prompt, summary["replies"]
        per_call = (summary["prompt_tokens"] / calls, (summary["output_tokens"] or 0) / calls)
        real.setdefault(kind, Asked(kind, calls / summary["rows"], *per_call, COUNTED))
    if found := real.get("direct") or real.get("cot"):
        return [Asked("direct", 1, found.input, DIRECT_OUTPUT, found.counted), *(real[k] for k in real if k == "cot")]
    load = context.inputs["load"]
    texts = [text for split in ("train", "test") for text in load.read_table(f"{split}.parquet")["text"].to_pylist()]
    spec = context.spec
    asked = [_as_written(spec, "direct", texts)]
    if spec.teacher.reasons:
        asked.append(replace(_as_written(spec, "cot", texts), output=recorded_answer_tokens(spec)))
    return asked


def _as_written(spec: Spec, prompt: Literal["direct", "cot"], texts: list[str]) -> Asked:
    """How the spec would ask, where nothing was: the tokens of its prompt in that form, once for each recorded vote."""
    count = prompt_tokens(replace(spec, teacher=replace(spec.teacher, prompt=prompt)), texts)
    estimated = f"estimated {count.counted}, {CHARACTERS_PER_TOKEN} to a token"
    counted = f"counted {count.counted}" if count.exact else estimated
    calls = len(spec.teacher.reasons) if prompt == "cot" else 1
    return Asked(prompt, calls, count.fixed + count.per_row, DIRECT_OUTPUT, counted)
