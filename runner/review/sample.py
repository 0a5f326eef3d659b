"""The blind sample of a run: drawn once, with known probabilities, and kept beside the decisions.

``RUN/review/sample.parquet`` has every row that could be drawn, in the order in which they are asked: the audit's
findings at that time, and the ``weight`` that the probabilities follow from. The first ``rows`` of them (in the
table's metadata) are the sample's list, so that no row is asked in both lists.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from runner.review import draw
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.system.errors import DataError
from runner.system.sanitize import without_secrets

FOLDER, FILE = "review", "sample.parquet"

MOST = 0.5
"""The share of the rows that the sample may take: the others can be corrected."""


ABSTAINED = 0.5
"""How doubtful a row counts to the draw on which the teacher abstained: its own error there is certain, and tells
nothing, but the student's is not."""


@dataclass(frozen=True)
class DrawnSample:
    """The rows in the order in which they are asked, with the audit's ``findings`` on each; the first ``rows`` of them
    are the sample's list. ``weights`` has the shape ``(len(ids),)``."""

    findings: pa.Table
    rows: int

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all rows, in order."""
        found: list[str] = self.findings["id"].to_pylist()
        return found

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """What the probabilities are proportional to, nearly."""
        found: NDArray[np.float64] = self.findings["weight"].to_numpy()
        return found

    @property
    def name(self) -> str:
        """A short name: another draw has another one."""
        return fingerprint([self.ids, self.weights.tolist(), self.rows])


def drawn(run: Folder) -> DrawnSample | None:
    """The sample of a run; None where none was drawn. :raises DataError: when its file is damaged, or none of ours."""
    folder = run.child(FOLDER)
    if not folder.exists(FILE):
        return None
    try:
        table = pq.read_table(pa.BufferReader(folder.read(FILE)))
        rows = int(table.schema.metadata[b"rows"])
        table.select(["id", "weight"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(
            "review.sample-damaged",
            f"{without_secrets(folder.url)}/{FILE}: damaged, or not a sample that was drawn here; put back a copy, or "
            "remove this one file, and the sample is drawn anew: the same one, unless the audit has changed since. "
            "What people decided lies in the folder beside it, and stays",
        ) from error
    return DrawnSample(table, rows)


def draw_sample(run: Folder, spec: Spec, findings: pa.Table) -> DrawnSample:
    """Draw the sample from the rows of an audit (``queue.parquet``), and keep it."""
    plan = spec.review.audit
    doubt = findings["doubt"].to_numpy()
    weights = draw.weights(np.where(doubt >= 1, ABSTAINED, doubt))
    order = draw.order(findings["id"].to_pylist(), weights, plan.seed)
    rows = max(1, min(plan.rows, int(MOST * len(findings))))
    table = findings.append_column("weight", pa.array(weights)).take(order)
    table = table.replace_schema_metadata({"rows": str(rows)})
    run.child(FOLDER).write_table(FILE, table)
    return DrawnSample(table, rows)


def inclusion(sample: DrawnSample, decided: Collection[str]) -> dict[str, float]:
    """The probability with which each decided row of the sample came to be labelled.

    The rows up to the last decided one were drawn. Where some among them have no label, because they are unclear,
    skipped, or still to be asked, those that have one are taken to be a random part of them.
    """
    places = [place for place, id_ in enumerate(sample.ids) if id_ in decided]
    if not places:
        return {}
    drawn_rows = places[-1] + 1
    probability = draw.inclusion(sample.weights, drawn_rows) * (len(places) / drawn_rows)
    return {sample.ids[place]: float(probability[place]) for place in places}
