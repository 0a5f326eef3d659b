"""The texts without content that calibration asks about, as lines of the label stage."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from runner.cluster.resources import Resources
from runner.data.reading import row_id
from runner.stages.contract import Context
from runner.teacher.open_engine import cut_words
from runner.teacher.random_texts import content_free_texts
from runner.teacher.request import STAGE, asks_content_free


def content_free_rows(context: Context, rows: pa.Table) -> pa.Table:
    spec = context.spec
    if not asks_content_free(spec):
        return rows.slice(0, 0)
    corpus = rows.filter(pc.equal(rows["split"], "train"))["text"].to_pylist()
    cut = None if spec.teacher.engine == "noop" else partial(_cut, context)
    texts = content_free_texts(corpus, cut, spec.teacher.seed)
    lines = [
        {"id": f"cf-{row_id(text)}", "kind": "content-free", "text": text, "split": "", "votes": None} for text in texts
    ]
    return pa.Table.from_pylist(lines, schema=rows.schema)


def _cut(context: Context, words: list[str]) -> list[list[str]]:
    """Words cut into the teacher's tokens, where its tokenizer is."""
    teacher, own = context.spec.teacher, context.spec.teacher.endpoint is None
    model, revision = context.model(teacher.model, teacher.revision, "teacher.model", STAGE, weights=own)
    where: dict[str, Any] = {"model": model, "revision": revision, "weights": own}
    pieces: list[list[str]] = context.cluster.call(cut_words, Resources(1), **where, words=words)
    return pieces
