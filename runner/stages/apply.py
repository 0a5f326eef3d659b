"""apply: a corpus -> the student's label for every text of it, in parts that are kept as they are done.

:mod:`runner.student.corpus` does it; ``tutelage predict`` has it do the same with a student and files by themselves.
"""

from __future__ import annotations

from typing import Any

from runner.cluster.resources import Resources
from runner.data.sources import source_key, source_of
from runner.rundir.folder import Folder, fingerprint
from runner.spec import Spec
from runner.stages.contract import Context, one_student, versioned
from runner.student.corpus import Corpus, predict_corpus, sources_of
from runner.student.trained import chosen_student

NAME = "apply"
NEEDS = ("train", "export")
VERSION = 1
WRITES: dict[str, None] = {}  # its parts lie beside the stages, where a run that is started again finds them

demands = one_student


def wanted(spec: Spec) -> bool:
    """Where the spec names a corpus."""
    return spec.data.corpus is not None


def key(spec: Spec) -> dict[str, Any]:
    """The corpus's content, and how it is cut and written."""
    assert spec.data.corpus is not None
    return {"corpus": source_key(spec, spec.data.corpus), "apply": spec.to_dict()["apply"], **versioned(VERSION)}


def run(context: Context) -> dict[str, Any]:
    """Label the spec's corpus. The parts lie in ``applied/`` of the run folder, where a killed run finds them."""
    spec, apply, student = context.spec, context.spec.apply, context.spec.student
    assert spec.data.corpus is not None
    source = source_of(spec, spec.data.corpus)
    corpus = Corpus(sources_of(source), spec.data.corpus.text, apply.keep, apply.part_rows)
    model = chosen_student(spec, context.inputs)
    # Not by the corpus's content: with a file mended or added, the other parts are still good.
    folder = "applied/" + fingerprint(
        [model.identity(), source.known(), spec.data.corpus.text, spec.to_dict()["apply"]]
    )
    _unmark(context.run, folder)
    found = predict_corpus(
        context.cluster,
        context.progress,
        model,
        corpus,
        apply.abstain_below,
        context.run.child(folder),
        Resources.of(student.resources),
        (1, student.resources.workers),
        spec.benchmark.price_per_hour,
    )
    return {name: value for name, value in found.items() if name != "parts"} | {"folder": folder}


def _unmark(run: Folder, folder: str) -> None:
    """Forget earlier runs over another content of the same corpus: their parts are about to be replaced."""
    for name in run.child(NAME).folders():
        if ((run.child(NAME, name).done or {}).get("summary") or {}).get("folder") == folder:
            run.child(NAME, name).clear()
