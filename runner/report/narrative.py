"""What the figures say, in words: the result table, and the limits of what was measured.

All of it reads ``report.json`` alone, so that a machine's copy of the report can be shown again anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.report import economics
from runner.report.quality import SIGNIFICANT
from runner.report.text import NOTHING, cut, flat, interval, money, number, percent, probability, seconds
from runner.report.verdict import paired
from runner.student.vocabulary import Unknown
from runner.tasks.shared.labels import listed

BUSY = 5.0
"""From this ratio of p95 to the median on, one text's latency says that the machine had other work."""
BUSY_AGAIN = 3.0
"""The same where the same text was timed twice: its length explains nothing of that."""
CONFUSED = 15
RARE = 20
FEW_ROWS = 30
"""A class with fewer test rows than this gets a warning: one row moves its recall by 3 points or more."""


_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", percent),
    "macro_f1": ("macro F1", "{:.3f}".format),
    "texts_per_second": ("texts per second", number),
    "latency_ms": ("latency, ms", number),
}


@dataclass(frozen=True)
class Line:
    """One line of the result table; ``note`` says how to read it."""

    what: str
    teacher: str
    student: str
    note: str = ""


def lines(report: dict[str, Any]) -> list[Line]:
    """The result table, teacher against student."""
    scores = report["evaluate"]
    speed, price = report["benchmark"]["student"], report["benchmark"]["teacher"]

    def both(what: str, say: Callable[[dict[str, Any]], str], note: str = "") -> Line:
        return Line(what, say(scores["teacher"]), say(scores["student"]), note)

    latency = speed.get("latency_ms") or {}
    costs = price.get("usd_per_million"), speed.get("usd_per_million")
    return [
        both("accuracy", lambda s: percent(s["accuracy"])),
        both("95 % interval", lambda s: interval(*s["ci95"]["accuracy"])),
        both("macro F1", lambda s: f"{s['macro_f1']:.3f}"),
        both("balanced accuracy", lambda s: percent(s["balanced_accuracy"])),
        both("calibration error (ECE)", lambda s: percent(s.get("ece")), "0 is best"),
        both("abstained", lambda s: f"{s.get('abstained', 0):,}", "counted as wrong"),
        Line("texts per second", number(price.get("rows_per_second")), number(speed.get("texts_per_second"))),
        Line(
            "latency p50 / p95",
            NOTHING,
            f"{number(latency.get('p50'))} / {number(latency.get('p95'))} ms",
            "one text at a time",
        ),
        *([Line("USD per million texts", *map(money, costs))] if costs != (None, None) else []),
    ]


def busy(speed: dict[str, Any]) -> str:
    """A warning where latency scatters as it does on a machine with other work; nothing where it does not."""
    latency = speed.get("latency_ms") or {}
    p50, p95, again = latency.get("p50"), latency.get("p95"), speed.get("latency_repeat_p95")
    if again is not None and again >= BUSY_AGAIN:
        reason = f"the same text took up to {number(again, 2)} times as long when it was timed again"
    elif again is None and p50 and p95 and p95 >= BUSY * p50:
        reason = f"one text in twenty took {number(p95 / p50, 2)} times as long as the median, or longer"
    else:
        return ""
    return (
        f"The machine was busy while speed was measured: {reason}. Latency, throughput and what follows from them are "
        "those of a shared machine; measure again on an idle one."
    )


@dataclass(frozen=True)
class Confusion:
    """How often the student takes one class for another, and its teacher does."""

    truth: str
    given: str
    texts: int
    share: float
    teacher: int


def confused(evaluation: dict[str, Any]) -> list[Confusion]:
    """The student's most frequent confusions, the most frequent first."""
    labels, teacher = evaluation["labels"], evaluation["teacher"]["confusion"]
    pairs = [
        Confusion(truth, given, count, count / max(1, sum(counts)), teacher[row][column])
        for row, (truth, counts) in enumerate(zip(labels, evaluation["student"]["confusion"], strict=True))
        for column, (given, count) in enumerate(zip(labels, counts, strict=True))
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair.texts)[:CONFUSED]


@dataclass(frozen=True)
class Other:
    """One recorded annotator beside the student, on the rows that it has."""

    name: str
    rows: int
    accuracy: str
    interval: str
    macro_f1: str
    student: str
    paired: str


def others(report: dict[str, Any]) -> list[Other]:
    """Everybody whose labels were recorded, each with the student's accuracy on exactly the same rows."""
    return [
        Other(
            name=name,
            rows=found["rows"],
            accuracy=percent(found["annotator"]["accuracy"]),
            interval=interval(*found["annotator"]["ci95"]["accuracy"]),
            macro_f1=f"{found['annotator']['macro_f1']:.3f}",
            student=percent(found["student"]["accuracy"]),
            paired=_against(found["mcnemar"]["student"]),
        )
        for name, found in (report["evaluate"].get("others") or {}).items()
    ]


@dataclass(frozen=True)
class Published:
    """One figure as others published it, and ours."""

    name: str
    figure: str
    published: str
    here: str
    beside: str
    note: str


def published(report: dict[str, Any]) -> list[Published]:
    """What others published beside what was measured here."""
    lines = []
    for line in report.get("published") or []:
        words, write = _FIGURES[line["figure"]]
        here = NOTHING if line["here"] is None else write(line["here"])
        beside = "the same" if line["beside"] == line["name"] else line["beside"] or ""
        beside += f", {line['rows']:,} texts" if beside and line.get("rows") else ""
        lines.append(Published(line["name"], words, write(line["published"]), here, beside, line["note"] or ""))
    return lines


def _against(test: dict[str, Any]) -> str:
    """McNemar's test of another (a) and the student (b), in a few words."""
    if not test["only_a_right"] + test["only_b_right"]:
        return "the same texts right"
    if test["p"] >= SIGNIFICANT:
        return f"no significant difference ({probability(test['p'])})"
    better = "the student" if test["only_b_right"] > test["only_a_right"] else "it"
    return f"{better} is better ({probability(test['p'])})"


def models(report: dict[str, Any]) -> tuple[str, str]:
    """The teacher's and the student's model, fit to show."""
    teacher = report["label"].get("model") or report["label"].get("engine") or ""
    return flat(str(teacher)), flat(str(report["train"].get("model") or ""))


def device(name: object) -> str:
    """What something ran on: ``cpu`` is written as people write it."""
    return "CPU" if name in (None, "cpu") else flat(str(name))


def result_table(report: dict[str, Any]) -> str:
    """The result as an aligned table for a terminal: teacher against student, and McNemar's test in words."""
    teacher, student = (cut(name, 34) for name in models(report))
    head = [("", "teacher", "student"), ("", teacher, student)]
    rows = head + [(line.what, line.teacher, line.student) for line in lines(report)]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    rows.insert(2, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    table = "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
    compared = [
        f"{flat(cut(other.name, 60))}: {other.accuracy} ({other.interval}) on {other.rows:,} of them, "
        f"the student {other.student} there; {other.paired}"
        for other in others(report)
    ]
    measured = f"Measured on {report['evaluate']['rows']:,} expert-labelled test texts. {paired(report)}"
    warning = busy(report["benchmark"]["student"])
    return "\n".join([f"{report['name']}\n\n{table}\n\n{measured}", *compared, *filter(None, [warning])]) + "\n"


def removed(report: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(where, why, how many) of everything that did not go all the way."""
    rows = [
        (f"{split} rows dropped", reason, count)
        for split, reasons in report["rows"]["dropped_by_reason"].items()
        for reason, count in reasons.items()
    ]
    label = report["label"]
    rows += [("teacher failed", reason, count) for reason, count in label["failures_by_reason"].items()]
    rows += [("teacher abstained", reason, count) for reason, count in label["abstained_by_reason"].items()]
    return [row for row in rows if row[2]]


def training(train: dict[str, Any]) -> str:
    """How fast the student learned, on how many workers, and what came in between."""
    workers, resumes = train.get("workers") or 1, train.get("resumes") or 0
    rates = [epoch["texts_per_second"] for epoch in train.get("history") or [] if epoch.get("texts_per_second")]
    said = f"The student learned on {workers} worker{'s' if workers > 1 else ''}"
    if rates:
        said += f", {number(sum(rates) / len(rates))} texts a second"
    if resumes:
        said += f"; it was interrupted, and went on from a checkpoint {resumes} time{'s' if resumes > 1 else ''}"
    skipped = train.get("skipped_steps")
    left_out = f"Its loss scale left out {skipped:,} of {train['steps']:,} steps, which overflowed." if skipped else ""
    return " ".join([f"{said}.", *([left_out] if left_out else []), *_recipe(train)])


def _recipe(train: dict[str, Any]) -> list[str]:
    """What it was told to learn, which of its weights were kept, and what was tried before."""
    said = []
    if train.get("recipe") == "best":
        said.append("It learned the mean of what the teacher says and of what students say that did not see the text.")
    if train.get("recipe") == "auto" and train.get("tried"):
        said.append(_tried(train))
    if averaged := train.get("averaged"):
        kept = "are what is kept" if averaged["taken"] else "agree less, and are not kept"
        said.append(
            f"Its weights, averaged over the last {averaged['epochs']} epochs, agree with the teacher on "
            f"{percent(averaged['val_accuracy'])} of the held-out texts and {kept}."
        )
    if search := train.get("search"):
        found = search["trials"][search["chosen"]]
        better = f"the one with {_settings(found)} was better by more than a standard error, and is used"
        said.append(
            f"{len(search['trials'])} trainings were tried with other settings; "
            + (better if search["chosen"] else "none was better by more than a standard error, so the spec's are used")
            + f" (agreement {percent(found['agreement'])}, standard error {percent(search['standard_error'])})."
        )
    return said


RECIPES = {
    "head": "a linear head on the encoder as it is",
    "lp-ft": "the encoder fine-tuned from that head",
    "fast": "the encoder fine-tuned with a new head",
}


def _tried(train: dict[str, Any]) -> str:
    """What recipe ``auto`` tried, and what it kept."""
    each = [
        f"{RECIPES[tried['recipe']]} ({tried['recipe']}) agreed with the teacher on "
        f"{percent(tried['val_accuracy'])} of the held-out texts after {seconds(tried['seconds'])}"
        for tried in train["tried"]
    ]
    enough = ", which was enough: nothing was fine-tuned" if len(each) == 1 and train["kept"] == "head" else ""
    return f"Tried: {'; '.join(each)}. Kept: {train['kept']}{enough}."


def _settings(trial: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in trial["settings"].items())


def limits(report: dict[str, Any]) -> list[str]:
    """What these figures do not say."""
    scores, speed = report["evaluate"], report["benchmark"]["student"]
    low, high = scores["student"]["ci95"]["accuracy"]
    said = [
        f"The interval is about {100 * (high - low):.0f} points wide: that is how much the choice of these "
        f"{scores['rows']:,} test texts matters. It says nothing of other seeds, or of texts of another kind "
        "or from another time.",
        "The experts' labels are taken as the truth. Where the experts err or could disagree, so does every "
        "figure here.",
    ]
    rare = [
        f"{label} ({row['support']})"
        for label, row in scores["student"]["per_class"].items()
        if row["support"] < FEW_ROWS
    ]
    if rare:
        said.append(
            f"Some classes have fewer than {FEW_ROWS} test texts, and their own figures are rough: "
            f"{flat(listed(rare))}."
        )
    export = report.get("export") or {}
    chose = export.get("asked") == "auto" and not any("judged" in one for one in export["runtimes"])
    measured = (
        "The student's runtime was chosen on the test texts; for all else they were used to measure only."
        if chose  # by a version that did so
        else "The test texts were used to measure only."
    )
    said.append(
        f"{measured} The epoch was chosen on {_judges(report['train'])}, judged by the teacher's labels, each counted "
        "by the teacher's confidence in it: where the teacher is regularly wrong, the student learns it."
    )
    said.append(_speed_and_cost(speed))
    if warning := busy(speed):
        said.append(warning)
    return _runtime_limits(export) + said + economics.limits(report) + _teacher_limits(report)


def _speed_and_cost(speed: dict[str, Any]) -> str:
    """Where speed was measured, and what the cost rests on: nothing is said of money that no price was given for."""
    said = f"Speed was measured on one machine ({device(speed.get('device'))}, one process)"
    if speed.get("price_per_hour") is None:
        return f"{said}. The student's cost is not known: the spec gives no price for its machine."
    return (
        f"{said}, cost follows from it at {money(speed['price_per_hour'])} USD an hour with the machine fully busy. "
        "An idle machine costs as much."
    )


def _judges(train: dict[str, Any]) -> str:
    """The texts that the epoch was chosen on."""
    held_out = train.get("held_out")
    if held_out == 0:
        return "the training texts that the student learned from, which were too few to hold any out"
    return "held-out training texts" if held_out is None else f"{held_out:,} training texts that were held out"


def original(report: dict[str, Any]) -> dict[str, Any] | None:
    """The student as torch runs it, where the figures are of another runtime: what was measured of it there."""
    export = report.get("export") or {}
    if export.get("runtime", "torch") == "torch":
        return None
    return next((one for one in export["runtimes"] if one["runtime"] == "torch"), None)


def _runtime_limits(export: dict[str, Any]) -> list[str]:
    """What to know of figures that are of an export."""
    plain = original({"export": export})
    if plain is None:
        return []
    used = next(one for one in export["runtimes"] if one["runtime"] == export["runtime"])
    said = (
        f"The student's figures, quality and speed, are of its {export['runtime']} export. Its safetensors, as torch "
        f"reads them, were right on {percent(plain['accuracy'])} of the test texts, at "
        f"{number(plain['texts_per_second'])} texts a second."
    )
    if judged := used.get("judged"):
        said += (
            f" The export gives their label on {percent(used['agreement'])} of the test texts; it is used because it "
            f"does so on {percent(judged['agreement'])} of the {judged['rows']:,} training texts that judged it."
        )
    return [said]


def _teacher_limits(report: dict[str, Any]) -> list[str]:
    label, price = report["label"], report["benchmark"]["teacher"]
    said = []
    if label.get("engine") == "recorded":
        said.append("The teacher's answers were recorded earlier: neither its speed nor its cost was measured here.")
    elif price.get("usd_per_million") is None:
        said.append("The teacher's cost is not known: the spec gives no price for its machine.")
    if label.get("abstained"):
        said.append(
            f"The teacher abstained on {label['abstained']:,} of {label['rows']:,} texts. The student never "
            "saw those of them that are training texts; in the test each counts as wrong for the teacher."
        )
    if together := label.get("teachers"):
        weights = ", ".join(
            f"{model} {weight:.2f}" for model, weight in zip(together["models"], together["weights"], strict=True)
        )
        alpha = together["krippendorff_alpha"]
        agreement = "unknown" if alpha is None else f"{alpha:.2f}"
        said.append(
            f"{len(together['models'])} teachers were pooled ({together['method']}; weights {weights}). Their labels "
            f"agree with a Krippendorff's alpha of {agreement} (1 is full agreement). "
            "Weights are estimated without gold labels, and too kind to teachers that err together."
        )
    if (unknown := report["train"].get("unknown_tokens")) and (found := Unknown(**unknown)).too_many:
        said.append(
            f"The student's vocabulary does not have {found.words('training texts')}: what stands there is all alike "
            "to it. A multilingual student may do much better."
        )
    if report["train"].get("truncated_rows"):
        said.append(
            "Of training texts longer than the student reads, it saw the beginning only: "
            f"{report['train']['truncated_rows']:,} of {report['train']['rows']:,}."
        )
    return said
