"""The specs whose fingerprints are kept, with small data of their own: nothing is fetched and nothing computed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from runner.spec import Spec, load_spec

SPECS = Path(__file__).parents[2] / "specs"
ENDPOINT = "http://10.1.2.3:8000/v1"
SHIPPED = "financial-sentiment.yaml"
VOTES = ("sc_iter1", "sc_iter2", "sc_iter3", "label_llm")


@dataclass(frozen=True)
class Case:
    """A shipped spec, as `--set` changes it."""

    spec: str
    changes: tuple[str, ...] = ()


CASES = {
    **{path.stem: Case(path.name) for path in sorted(SPECS.glob("*.yaml"))},
    "also": Case(SHIPPED, ("teacher.also=[{model: Qwen/Qwen2.5-7B-Instruct}]",)),
    "examples": Case(
        SHIPPED, ("task.examples={from: pool.csv, select: similar, k: 2}", "teacher.prompt=direct", "teacher.votes=1")
    ),
    "endpoint": Case(SHIPPED, (f"teacher.endpoint={ENDPOINT}", "teacher.resources={}")),
    "corpus": Case(SHIPPED, ("data.corpus={path: corpus.csv}",)),
    "export": Case(SHIPPED, ("student.export=[onnx, openvino]",)),
    "search": Case(SHIPPED, ("student.search={trials: 4}",)),
}


@contextmanager
def loaded(folder: Path) -> Iterator[dict[str, Spec]]:
    """All cases in ``folder``, which gets the data that they name."""
    data = folder / "financial_phrasebank"
    data.mkdir()
    for split in ("train", "test"):
        _write(data / f"{split}.csv", _rows(split))
    for name in ("pool", "corpus"):
        _write(folder / f"{name}.csv", _rows(name))
    (folder / "data").symlink_to(SPECS / "data")
    with mock.patch.dict(os.environ, {"TUTELAGE_DATA": str(folder)}):
        yield {name: load_spec(_copied(folder, case.spec), list(case.changes)) for name, case in CASES.items()}


def _copied(folder: Path, name: str) -> Path:
    copy = folder / name
    copy.write_bytes((SPECS / name).read_bytes())
    return copy


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(rows)


def _rows(of: str) -> list[Sequence[str]]:
    """Twelve texts with all columns that a shipped spec names."""
    header, labels = ("text", "label", "label_experts", *VOTES), ("negative", "neutral", "positive")
    return [header, *((f"{of} sentence {n}.", *[labels[n % 3]] * (len(header) - 1)) for n in range(12))]
