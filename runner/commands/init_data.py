"""``tutelage init --data``: a spec for the texts of a file and for this machine."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.commands.init_files import write_new
from runner.commands.output import on_terminal, put, put_table
from runner.data.file_kinds import stored_as
from runner.data.preview import shown_path
from runner.planning.files import check_spec
from runner.planning.inspection import Inspection, Texts, inspect, look_at_texts
from runner.planning.labelled_rows import Parts, part
from runner.planning.propose import Machine, Proposal, propose
from runner.spec.starter import INSTRUCTIONS, Chosen, check_name, proposed
from runner.system.errors import Problem, SpecError, UserError, did_you_mean
from runner.tasks.shared.labels import listed

NAMED = 8
"""Values of a column that are shown."""


@dataclass(frozen=True)
class Wishes:
    """What the options say; None where they do not."""

    text: str | None = None
    labels: str | None = None
    label: str | None = None
    instructions: str | None = None
    encoding: str | None = None
    delimiter: str | None = None


def init_for_data(name: str, data: str, wishes: Wishes) -> int:
    """Write ``NAME.yaml``, and with ``--label`` the two files of its data; none of them is there yet."""
    check_name(name)
    path = f"{name}.yaml"
    if os.path.lexists(path):
        raise UserError("file.already-exists", f"{path}: already exists; choose another name")
    found = inspect(data, wishes.encoding, wishes.delimiter)
    _show_file(found)
    text = _text_column(found, wishes)
    texts = look_at_texts(found, text)
    _show_texts(found, text, texts)
    experts = _label_column(found, text, wishes)
    labels = _labels(found, experts, text, wishes)
    instructions = wishes.instructions or _asked("What would you tell a new colleague who labels them?", INSTRUCTIONS)
    parts = part(found, text, experts, labels) if experts else None
    chosen = propose(texts, Machine.here())
    files = {path: proposed(name, _chosen(name, found, text, labels, instructions, chosen, parts))}
    if parts:
        files |= _data_files(name, parts)
    write_new(files, lambda: check_spec(path))
    _show_proposal(chosen)
    _show_end(path, files, parts, wishes.instructions)
    return 0


def _wrong(option: str, code: str, message: str) -> SpecError:
    """The error for an option that is missing, or is not right."""
    return SpecError([Problem("tutelage init", 0, 0, option, code, message)])


def _asks() -> bool:
    return on_terminal() and sys.stdin.isatty()


def _asked(question: str, default: str = "") -> str:
    """The answer of whoever sits at the terminal; ``default`` where nobody does, or nothing is answered."""
    if not _asks():
        return default
    put(f"{question}{f' [{default}]' if default else ''}")
    try:
        return input("> ").strip() or default
    except EOFError:
        return default


def _column(found: Inspection, name: str, option: str) -> str:
    if found.column(name):
        return name
    where = shown_path(found.source.path)
    if reason := found.left_out.get(name):
        raise _wrong(option, "data.column-not-text", f"the column {name!r} of {where} cannot be read as text: {reason}")
    names = [column.name for column in found.columns]
    raise _wrong(
        option,
        "data.column-missing",
        f"{where} has no column {name!r}{did_you_mean(name, names)}; it has {listed(names)}",
    )


def _text_column(found: Inspection, wishes: Wishes) -> str:
    if wishes.text is not None:
        return _column(found, wishes.text, "--text")
    names = [column.name for column in found.columns]
    if guessed := found.text_column:
        return _column(found, _asked("Which column holds the texts?", guessed), "--text")
    if answer := _asked(f"Which column holds the texts: {listed(names)}?"):
        return _column(found, answer, "--text")
    raise _wrong(
        "--text",
        "init.text-column",
        f"say which column holds the texts: {shown_path(found.source.path)} has {listed(names)}",
    )


def _label_column(found: Inspection, text: str, wishes: Wishes) -> str | None:
    name = wishes.label
    if name is None and (may := found.label_columns(text)):
        names = listed([column.name for column in may])
        name = _asked(f"Has an expert labelled the texts, in one of the columns {names}? Which one (none: Enter)?")
    if not name:
        return None
    if name == text:
        raise _wrong("--label", "init.label-column", f"{name!r} is the column with the texts")
    return _column(found, name, "--label")


def _labels(found: Inspection, experts: str | None, text: str, wishes: Wishes) -> list[str]:
    given = wishes.labels
    column = found.column(experts) if experts else None
    if given is None and column and column.values:
        return sorted(value for value, _ in column.values)
    if given is None:
        given = _asked("What is each text to be called? Two labels or more, with commas between them.")
    labels = [label.strip() for label in next(csv.reader([given]), []) if label.strip()]
    if len(labels) >= 2:
        return labels
    may = found.label_columns(text)
    hint = f"; the column {may[0].name!r} has {listed([value for value, _ in may[0].values], NAMED)}" if may else ""
    raise _wrong(
        "--labels",
        "init.labels-missing",
        f"name what each text is to be called, two labels at least: --labels good,bad{hint}",
    )


def _chosen(
    name: str,
    found: Inspection,
    text: str,
    labels: Sequence[str],
    instructions: str,
    choice: Proposal,
    parts: Parts | None,
) -> Chosen:
    """What the spec says."""
    source = found.source
    where = shown_path(source.path)
    train: dict[str, Any] = {"path": where, "text": text}
    train |= {key: value for key in ("encoding", "delimiter") if (value := getattr(source, key)) is not None}
    why = dict(choice.why)
    sections: dict[str, Mapping[str, Any]] = {"teacher": choice.teacher, "student": choice.student}
    if parts:
        train = {"path": f"{name}-train.jsonl", "text": "text"}
        sections["data.test"] = {"path": f"{name}-test.jsonl", "text": "text", "label": "label"}
        why["data.test"] = f"{len(parts.test)} texts of {where} that experts have labelled: to measure, never to learn."
    if choice.limit is not None and (parts is None or choice.limit < len(parts.train)):
        train["limit"] = choice.limit
        why["data.train"] = f"limit: {choice.why['limit']}; leave it out for all."
    sections["data.train"] = train
    why["student"] = "; ".join(why[part] for part in ("student", "languages") if part in why)
    return Chosen(labels, instructions, sections, why)


def _data_files(name: str, parts: Parts) -> dict[str, str]:
    train = ({"text": text} for text in parts.train)
    test = ({"text": text, "label": label} for text, label in parts.test)
    return {
        f"{name}-{split}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for split, rows in (("train", train), ("test", test))
    }


def _show_file(found: Inspection) -> None:
    from runner.observe.tables import Column  # spares rich

    source = found.source
    marks = f", columns between {source.delimiter!r}" if source.delimiter else ""
    most = "" if found.whole else "; a large file, of which only these were read"
    put(f"{shown_path(source.path)}: {found.rows:,} rows, {stored_as(source.path)}{marks}{most}\n")
    rows = []
    for column in found.columns:
        values = listed([f"{value} {count:,}" for value, count in column.values], NAMED) if column.may_be_labels else ""
        filled = f"{column.filled:,}" + ("" if column.filled == found.rows else f" of {found.rows:,}")
        rows.append([column.name, filled, f"{column.distinct:,}", f"{column.mean_characters:.0f}", values])
    names = ("column", "filled", "distinct", "characters", "may be labels")
    put_table(
        [Column(header, right=0 < n < 4) for n, header in enumerate(names)], [list(names), *rows][on_terminal() :]
    )
    for name, reason in found.left_out.items():
        put(f"left out: column {name!r}: {reason}")


def _show_texts(found: Inspection, text: str, texts: Texts) -> None:
    counts = f"{texts.texts:,} different texts, {texts.duplicates:,} duplicates, {texts.empty:,} empty"
    lengths = f"{texts.median:,} characters in the middle, 95 % up to {texts.p95:,}, the longest {texts.longest:,}"
    languages = ", ".join(f"{language} {share:.0%}" for language, share in texts.languages.items() if share >= 0.01)
    put(f"\ncolumn {text!r}: {counts}\n  {lengths}\n  language (a guess by frequent words and scripts): {languages}\n")


def _show_proposal(choice: Proposal) -> None:
    put(f"teacher: {choice.teacher['model']} ({choice.why['teacher']})")
    put(f"student: {choice.student['model']} ({choice.why['student']})")
    if choice.limit is not None:
        put(f"texts to label: {choice.limit:,} ({choice.why['limit']})")
    if choice.teacher.get("truncate"):
        put("long texts are cut for the teacher (teacher.truncate)")
    if "languages" in choice.why:
        put(f"note: {choice.why['languages']}")


def _show_end(path: str, files: Mapping[str, str], parts: Parts | None, instructions: str | None) -> None:
    for name in files:
        if parts and Path(name).suffix == ".jsonl":
            texts = len(parts.test) if name.endswith("-test.jsonl") else len(parts.train)
            put(f"{name}: written, {texts:,} texts")
    if parts and parts.dropped:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in parts.dropped.most_common())
        put(f"left out of both: {dropped}")
    edit = "" if instructions else "say in task.instructions what each label means, then "
    put(f"{path}: written; {edit}`tutelage try {path}` shows what the teacher makes of a few rows")
