"""What ``tutelage try`` says of its rows: on a terminal, as plain lines, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import IO, Any

from runner.commands.output import on_terminal, put, put_table
from runner.planning.trial import Trial, Tried
from runner.planning.versions import FEWEST_APART, SIGNIFICANT, Comparison, compare
from runner.report.text import cut, flat, percent, probability
from runner.spec import Spec
from runner.tasks.kinds import task_of
from runner.tasks.shared.shown import Question

TEXT, REASON, ANSWER = 300, 400, 300
"""Characters that are shown of each."""
NO_VALUE = "(no value)"
CHANCES = 4
"""The likeliest values whose probabilities are shown."""


@dataclass(frozen=True)
class Shown:
    """A version of the spec and its rows; ``changed`` are the fields that are others than in the version before.

    ``first``: the same rows before calibration, which have been shown already.
    """

    spec: Spec
    trial: Trial
    comparison: Comparison | None
    changed: list[str]
    seconds: float
    first: Trial | None = None


def show(shown: Shown, as_json: bool, stream: IO[str]) -> None:
    """Say it all, or after a ``first`` look what calibration has changed."""
    if as_json:
        print(json.dumps(as_data(shown), ensure_ascii=False), file=stream, flush=True)
        return
    question = task_of(shown.spec).showing.question(shown.spec)
    rows, intro = shown.trial.rows, []
    was: dict[str, Any] = {}
    if shown.first:
        was = {row.id: old for row, old in compare(shown.spec, _values(shown.first), shown.trial).changed}
        rows = [row for row in rows if row.id in was]
        intro.append(f"calibrated: {len(was)} of {len(shown.trial.rows)} rows have another value")
    elif shown.comparison:
        was = {row.id: old for row, old in shown.comparison.changed}
        rows = sorted(rows, key=lambda row: row.id not in was)
        intro.append(f"changed: {', '.join(shown.changed)}" if shown.changed else "")
    for line in filter(None, intro):
        put(line)
    _put_rows(rows, was, question)
    put("\n".join(summary(shown)))


def _values(trial: Trial) -> dict[str, Any]:
    return {row.id: row.value for row in trial.rows}


def _put_rows(rows: list[Tried], was: dict[str, Any], question: Question) -> None:
    from runner.observe.tables import Column  # spares rich

    cells = []
    for row in rows:
        left, right = _said(row, was, question), _read(row, question)
        height = max(len(left), len(right))
        if on_terminal():
            cells.append(["\n".join(left), "\n".join(right) + "\n"])
        else:
            cells += [list(pair) for pair in zip(_padded(left, height), _padded(right, height), strict=True)]
    if cells:
        put_table([Column(""), Column("")], cells)


def _padded(lines: list[str], height: int) -> list[str]:
    return lines + [""] * (height - len(lines))


def _said(row: Tried, was: dict[str, Any], question: Question) -> list[str]:
    """The value, what it was, its probabilities, and the experts' value."""
    name = question.name_of
    lines = [NO_VALUE if row.value is None else name(row.value)]
    if row.id in was:
        lines.append(f"was {NO_VALUE if was[row.id] is None else name(was[row.id])}")
    lines += [f"  {chance:.2f} {value}" for value, chance in _ranked(row.probabilities, question)[:CHANCES]]
    if row.truth is not None:
        lines.append("expert: the same" if row.truth == row.value else f"expert: {name(row.truth)}")
    return lines


def _read(row: Tried, question: Question) -> list[str]:
    """The text, the teacher's reason, and its raw answers."""
    lines = [cut(flat(row.text), TEXT)]
    if row.why_not:
        lines.append(f"why: {cut(flat(row.why_not), REASON)}")
    if row.reason:
        lines.append(f"reason: {cut(flat(row.reason), REASON)}")
    lines += [f"answer: {cut(flat(answer), ANSWER)}" for answer in row.answers]
    if row.raw:
        raw = ", ".join(f"{value} {chance:.2f}" for value, chance in _ranked(row.raw, question)[:CHANCES])
        lines.append(f"answer: {raw}")
    return lines


def _ranked(chances: list[float] | None, question: Question) -> list[tuple[str, float]]:
    """Values with their probabilities, the likeliest first; none where they do not belong to the question's choices."""
    if not chances or len(chances) != len(question.choices):
        return []
    named = [(choice.name, chance) for choice, chance in zip(question.choices, chances, strict=True)]
    return sorted(named, key=lambda pair: -pair[1])


def summary(shown: Shown) -> list[str]:
    """What all rows come to, and how this version compares with the one before."""
    spec, trial = shown.spec, shown.trial
    question = task_of(spec).showing.question(spec)
    counts = Counter(NO_VALUE if row.value is None else question.name_of(row.value) for row in trial.rows)
    order = {choice.name: place for place, choice in enumerate(question.choices)}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], order.get(item[0], len(order))))
    values = ", ".join(f"{value} {count}" for value, count in ordered)
    note = f" ({trial.note})" if trial.note else ""
    asked = f"{trial.asked} asked now, in {shown.seconds:.1f} s" if trial.asked else "all were answered before"
    lines = [f"{len(trial.rows)} rows: {values}{note}; {asked}"]
    known = [row for row in trial.rows if row.truth is not None]
    if known:
        right = sum(row.value == row.truth for row in known)
        low, high = wilson(right, len(known))
        lines.append(
            f"right on {right} of {len(known)} rows that experts have labelled "
            f"({percent(right / len(known), 0)}; 95 % interval {percent(low, 0)} to {percent(high, 0)})"
        )
        if any(row.split == "test" for row in known):
            lines.append("  these rows are of data.test: a prompt that is fitted to them looks better there than it is")
    return lines + (_compared(shown.comparison) if shown.comparison else [])


def _compared(found: Comparison) -> list[str]:
    """This version against the one before, in words."""
    if not found.rows:
        return ["the version before had other rows: nothing to compare"]
    lines = [f"against the version before: {len(found.changed)} of {found.rows} rows have another value"]
    if found.p is None:
        return lines + (
            ["  experts' values were other ones there: it is not known which is better"] * bool(found.known)
        )
    apart = found.gained + found.lost
    told = f"  of {found.known} rows that experts have labelled {found.gained} became right and {found.lost} wrong"
    if not apart:
        return [*lines, told]
    test = f"{found.test}, {probability(found.p)}"
    if found.p < SIGNIFICANT:
        return [*lines, f"{told}: more than chance ({test})"]
    few = f"; under {FEWEST_APART} such rows it can never be more: try more rows (--rows)" * (apart < FEWEST_APART)
    return [*lines, f"{told}: no more than chance ({test}){few}"]


def wilson(right: int, rows: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share that was seen on so many rows (Wilson 1927)."""
    share, weight = right / rows, z * z / rows
    middle, half = share + weight / 2, z * ((share * (1 - share) + weight / 4) / rows) ** 0.5
    return max(0.0, (middle - half) / (1 + weight)), min(1.0, (middle + half) / (1 + weight))


def as_data(shown: Shown) -> dict[str, Any]:
    """All of it, JSON-able."""
    trial, found = shown.trial, shown.comparison
    compared = None
    if found is not None:
        changed = {row.id: old for row, old in found.changed}
        compared = {"rows": found.rows, "was": changed, "known": found.known}
        compared |= {"gained": found.gained, "lost": found.lost, "p": found.p}
    return {
        "event": "try",
        "spec": shown.spec.source,
        "version": trial.version,
        "changed": shown.changed,
        "seconds": round(shown.seconds, 3),
        "asked": trial.asked,
        "calibrated": not trial.note,
        "note": trial.note,
        "rows": [asdict(row) for row in trial.rows],
        "compared": compared,
    }
