"""The blind sample of a run: drawn once, with known probabilities, and kept beside the decisions.

``RUN/review/sample.parquet`` has every row that could be drawn, in the order in which they are asked, each with its
``weight`` and its ``guide``. The first ``rows`` of them (in the table's metadata) are the sample's list, so that no
row is asked in both lists; how many of those are labelled decides the probabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from runner.review import draw
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec

FOLDER, FILE = "review", "sample.parquet"

MOST = 0.5
"""The share of the rows that the sample may take: the others can be corrected."""


@dataclass(frozen=True)
class DrawnSample:
    """The rows in the order in which they are asked; ``guide``: the estimated probability that the teacher is right.

    ``weights`` and ``guide`` have the shape ``(len(ids),)``. ``rows`` is the length of the sample's list.
    """

    ids: Sequence[str]
    weights: NDArray[np.float64]
    guide: NDArray[np.float64]
    rows: int

    @property
    def name(self) -> str:
        """A short name: another draw has another one."""
        return fingerprint([list(self.ids), self.weights.tolist(), self.guide.tolist(), self.rows])


def drawn(run: Folder) -> DrawnSample | None:
    """The sample of a run; None where none was drawn. :raises DataError: when its file is damaged."""
    folder = run.child(FOLDER)
    if not folder.exists(FILE):
        return None
    table = folder.read_table(FILE)
    weights, guide = (table[name].to_numpy() for name in ("weight", "guide"))
    return DrawnSample(table["id"].to_pylist(), weights, guide, int(table.schema.metadata[b"rows"]))


def draw_sample(run: Folder, spec: Spec, ids: Sequence[str], doubt: NDArray[np.float64]) -> DrawnSample:
    """Draw the sample from rows whose teacher's value is wrong with probability ``doubt``, and keep it."""
    plan = spec.review.audit
    weights = draw.weights(doubt)
    order = draw.order(ids, weights, plan.seed)
    rows = max(1, min(plan.rows, int(MOST * len(ids))))
    sample = DrawnSample([ids[place] for place in order], weights[order], 1 - doubt[order], rows)
    table = pa.table({"id": sample.ids, "weight": sample.weights, "guide": sample.guide})
    run.child(FOLDER).write_table(FILE, table.replace_schema_metadata({"rows": str(rows)}))
    return sample


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
