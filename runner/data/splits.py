"""The splits of a spec's data, train and test: read, and cleaned of what may not be in them. Writes nothing.

A row's id is the hash of its text. Exact duplicates are merged, texts of train that also stand in test or
among the few-shot examples are taken out of train, and every row that is dropped keeps its reason: rows in = rows out +
rows dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.data.examples import vote_columns
from runner.data.reading import read_rows, row_id, without_rows
from runner.data.sources import normalised, source_of
from runner.spec import Spec
from runner.spec.model import LabelledSource, TextSource
from runner.system.errors import DataError
from runner.tasks.kinds import task_of
from runner.tasks.rules import rules_of

LEAK = "leak: also in test"


@dataclass
class Split:
    """The rows of one split on their way in; ``skipped`` are its files that have none."""

    name: str
    read: int = 0
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def drop(self, reason: str, place: str, row_id: str) -> None:
        """Keep a record of a row that does not go on."""
        self.dropped.append({"split": self.name, "id": row_id, "place": place, "reason": reason})

    def drop_known(self, row_id: str, reason: str) -> None:
        """Take out a row that was accepted, and its duplicates' count with it."""
        row = self.rows.pop(row_id)
        self.drop(reason, row["place"], row_id)


def read_splits(spec: Spec) -> tuple[Split, Split, list[str]]:
    """Train, test (empty where the spec has none), and warnings of what looks wrong.

    :raises DataError: when a file is broken, no row is left, or a test label is unknown.
    """
    train = read_split(spec, "train", spec.data.train)
    test = read_split(spec, "test", spec.data.test) if spec.data.test else Split("test")
    warnings = _part(train, test, spec)
    for split in (train, test) if spec.data.test else (train,):
        if split.skipped and split.read:
            warnings.append(f"data.{split.name}: {without_rows(split.skipped)}")
        if not split.rows:
            raise DataError(
                "data.no-rows-left",
                f"data.{split.name}: none of {split.read} rows is left: "
                f"{_counted(split.dropped) or 'the file has no rows'}{_first(split.dropped)}",
            )
        if split.read != len(split.rows) + len(split.dropped):
            raise RuntimeError(f"a row of data.{split.name} was lost")
    return train, test, warnings


def examples_of(spec: Spec) -> list[dict[str, Any]]:
    """The few-shot examples of the spec, or the whole pool from which they are chosen: rows of ``examples.parquet``.

    :raises DataError: when a text of the pool has no label that the task knows, or there are too few.
    """
    pool = spec.task.pool
    if pool is None:
        return [{"text": one.text, "label": one.label, "reason": one.reason} for one in spec.task.written]
    columns = [pool.text, pool.label, *([pool.reason] if pool.reason else [])]
    found: dict[str, dict[str, Any]] = {}
    lists = rules_of(vars(spec.task)).LISTS
    for row in read_rows(source_of(spec, pool.source), columns, [pool.label] if lists else (), lists=lists):
        text = row.values[pool.text]
        if not text.strip():
            continue
        label = task_of(spec).gold.value_of(spec, pool.source, row, "an example must be right: correct the file")
        reason = row.values[pool.reason] if pool.reason else ""
        found.setdefault(normalised(text), {"text": text, "label": label, "reason": reason})
    if len(found) < pool.k:
        raise DataError(
            "data.too-few-examples",
            f"task.examples.from: {pool.k} examples are to be chosen, and the file has {len(found)}",
        )
    return list(found.values())


def read_split(spec: Spec, name: str, source: TextSource) -> Split:
    """The rows of one source with their gold values, duplicates merged.

    :raises DataError: when a file cannot be read, or a cell is no value of the task.
    """
    split = Split(name)
    voted, lists = vote_columns(spec), rules_of(vars(spec.task)).LISTS
    experts = source.columns if isinstance(source, LabelledSource) else ()
    structured = [*voted, *(experts if lists else ())]
    conflicting: set[str] = set()
    columns = [source.text, *experts, *voted]
    for row in read_rows(source_of(spec, source), columns, structured, split.skipped.append, lists):
        split.read += 1
        text = row.values[source.text]
        identity = row_id(text)
        if not text.strip():
            split.drop("empty", row.place, identity)
            continue
        label = None
        if isinstance(source, LabelledSource):
            label = task_of(spec).gold.value_of(spec, source, row, "correct the file or add the label")
        if identity in split.rows:
            conflicting.update({identity} if split.rows[identity]["label"] != label else ())
            split.drop("duplicate", row.place, identity)
        else:
            votes = [task_of(spec).gold.recorded_answer(spec, row, column, text) for column in voted]
            split.rows[identity] = {
                "id": identity,
                "text": text,
                "label": label,
                "votes": votes,
                "place": row.place,
            }
    for identity in conflicting:
        split.drop_known(identity, "conflicting labels")
    return split


def _part(train: Split, test: Split, spec: Spec) -> list[str]:
    """Take out of train what stands in test or among the examples; say what else looks wrong."""
    warnings: list[str] = []
    test_texts = {normalised(row["text"]) for row in test.rows.values()}
    examples = {normalised(example["text"]) for example in examples_of(spec)}
    if spec.task.pool and (shown := examples & test_texts):
        raise DataError(
            "data.examples-in-test",
            f"task.examples.from: {len(shown)} of its texts also stand in data.test, so that the teacher would be "
            f"shown the answers; take them out: {sorted(shown)[0][:80]!r}",
        )
    known = {identity: normalised(row["text"]) for identity, row in train.rows.items()}
    for identity, text in known.items():
        if text in test_texts:
            train.drop_known(identity, LEAK)
        elif text in examples:
            train.drop_known(identity, "leak: also a few-shot example")
    if leaked := [row["place"] for row in train.dropped if row["reason"] == LEAK]:
        said = f"{len(leaked)} texts of train also stand in test; they were taken out of train"
        if test_texts <= set(known.values()):
            said += f". Every test text was among them (the first: {leaked[0]}), so see that the test is a test"
        warnings.append(said)
    if shown := examples & test_texts:
        warnings.append(
            f"{len(shown)} few-shot examples also stand in test, so the teacher's test result is too good; "
            f"replace them: {sorted(shown)[0][:80]!r}"
        )
    warnings += task_of(spec).gold.unfit(spec, test.rows.values()) if test.rows else []
    return warnings


def _counted(dropped: Sequence[dict[str, str]]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(r["reason"] for r in dropped).most_common())


def _first(dropped: Sequence[dict[str, str]]) -> str:
    """The first row that is not there any more, and what to do if it stands in test."""
    if not dropped:
        return ""
    leaks = any(row["reason"] == LEAK for row in dropped)
    return f" (the first: {dropped[0]['place']})" + ("; learn from texts that are not in data.test" if leaks else "")
