"""``tutelage predict``: a trained student over files, into a folder of parts or into one file.

The student is a run's, or any folder that holds a sequence classifier with safetensors weights. A job that was
stopped goes on where it stood when the same command is given again; another job in the same place is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from runner.cluster.cluster import Cluster
from runner.cluster.resources import Resources
from runner.data.reading import Source
from runner.data.writing import form_of, write_file
from runner.observe.progress import Progress
from runner.rundir.folder import Folder, fingerprint
from runner.rundir.lock import locked
from runner.spec.sections.apply import WRITTEN
from runner.stages import export, train
from runner.student.corpus import Corpus, predict_corpus, sources_of
from runner.student.trained import StudentRef, student_of_run
from runner.system import machine
from runner.system.errors import ModelError, UserError
from runner.system.sanitize import without_secrets
from runner.tasks.kinds import TASKS, kind_of_model

JOB, SUMMARY = "job.json", "summary.json"


@dataclass(frozen=True)
class PredictOptions:
    """What the command line asks for; ``cpus`` and ``gpus`` None mean: what the run's spec, or the machine, has."""

    student: str
    inputs: tuple[str, ...]
    out: str
    text: str = "text"
    keep: tuple[str, ...] = ()
    abstain_below: float = 0.0
    part_rows: int = 10_000
    cpus: int | None = None
    gpus: int | None = None
    replicas: int = 1
    format: str = "auto"
    encoding: str | None = None
    delimiter: str | None = None

    def source(self, path: str) -> Source:
        """One of the inputs."""
        return Source(path, self.format, encoding=self.encoding, delimiter=self.delimiter, by=self.text)


def predict(options: PredictOptions, cluster: Cluster, progress: Progress) -> dict[str, Any]:
    """Do it; returns the summary of :func:`runner.student.corpus.predict_corpus` and where the output is.

    :raises UserError: when there is no student, no input, or something else in the place of the output.
    """
    model, identity, wanted = find_student(options)
    if repeated := [path for path in options.inputs if options.inputs.count(path) > 1]:
        raise UserError("predict.input-repeated", f"{repeated[0]}: is given twice")
    if taken := (WRITTEN | TASKS[model.kind].predictions.written(_labels(model))).intersection(options.keep):
        raise UserError(
            "predict.keep-conflict", f"--keep {', '.join(sorted(taken))}: a column of that name is written anyway"
        )
    sources = tuple(dict.fromkeys(source for path in options.inputs for source in sources_of(options.source(path))))
    corpus = Corpus(sources, options.text, options.keep, options.part_rows)
    form = form_of(options.out)
    parts = Folder(options.out + ".parts" if form else options.out.rstrip("/"))
    job = _job(identity, options)
    _check_place(parts, job, options, form)  # before a lock, or anything else, is put there
    cluster.require(wanted, "the student")
    with locked(parts, progress.say):  # the same command twice at once would write the same files
        _check_place(parts, job, options, form)
        parts.write_json(JOB, job)
        summary = predict_corpus(
            cluster, progress, model, corpus, options.abstain_below, parts, wanted, (1, options.replicas)
        )
        names = summary.pop("parts")
        if form:
            tables = (parts.read_table(name).replace_schema_metadata(None) for name in names)
            write_file(tables, options.out, form)
            parts.clear()
        else:
            parts.write_json(SUMMARY, summary)
    return summary | {"out": options.out}


def find_student(options: PredictOptions) -> tuple[StudentRef, str, Resources]:
    """The student, what it is known by, and what it runs on.

    :raises UserError: when nothing is there, or the run has no student yet.
    """
    place = Folder(options.student)
    if place.exists("run.json"):
        record = place.read_json("run.json")
        model = student_of_run(place, record)
        resources = record["spec"]["student"]["resources"]
        wanted = Resources(resources["cpus"], resources["gpus"], resources["accelerator"])
        prints = {stage["name"]: stage["fingerprint"] for stage in record["stages"]}
        exported = prints[export.NAME] if model.exports else None
        return model, _identity(model, prints[train.NAME], exported), _asked(options, wanted)
    if not place.exists("config.json"):
        raise UserError(
            "predict.no-student",
            f"{options.student}: neither a finished run (run.json) nor a model folder (config.json) is there; "
            "give the folder that `tutelage run` printed, or one with a trained classifier",
        )
    weights = [name for name in place.names() if name.endswith((".safetensors", ".safetensors.index.json"))]
    if not weights:
        raise ModelError(
            "model.no-safetensors",
            f"{options.student}: no safetensors weights are there; weights in other formats (pickle) are not loaded, "
            "save them with save_pretrained of transformers",
        )
    parent, _, name = place.url.rstrip("/").rpartition("/")
    wanted = Resources(gpus=min(1, len(machine.gpu_names())))
    read = ["config.json", *weights, *(name for name in place.names() if name.startswith(("tokenizer", "vocab")))]
    model = StudentRef(parent, name, None, "auto", kind=_kind(place))
    return model, _identity(model, place.state(*read)), _asked(options, wanted)


def _identity(model: StudentRef, *prints: str | None) -> str:
    """What decides what is said of a text: the student's content, by ``prints``, and what computes it."""
    return fingerprint([*prints, model.max_length, model.precision, model.runtime])


def _kind(place: Folder) -> str:
    """The kind of task whose student a model folder holds; a configuration that is none is refused where it is read."""
    try:
        config = place.read_json("config.json")
    except ValueError:
        config = None
    return kind_of_model(config if isinstance(config, dict) else {})


def _labels(model: StudentRef) -> list[str]:
    """The labels as the model folder names them. :raises ModelError: when it does not."""
    try:
        return list(Folder(model.folder).read_json(f"{model.name}/config.json")["id2label"].values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            "model.no-labels",
            f"{model.folder}/{model.name}/config.json: names no labels (id2label): "
            "an encoder that was not trained to classify, or no model; train it first (`tutelage run`)",
        ) from error


def _asked(options: PredictOptions, wanted: Resources) -> Resources:
    gpus = wanted.gpus if options.gpus is None else options.gpus
    return replace(
        wanted, cpus=options.cpus or wanted.cpus, gpus=gpus, accelerator=wanted.accelerator if gpus else None
    )


def _job(identity: str, options: PredictOptions) -> dict[str, Any]:
    """What decides what the parts hold."""
    inputs = [without_secrets(path) for path in options.inputs]
    job: dict[str, Any] = {"student": identity, "inputs": inputs, "text": options.text, "keep": list(options.keep)}
    job |= {"abstain_below": options.abstain_below, "part_rows": options.part_rows}
    said = {"format": options.format, "encoding": options.encoding, "delimiter": options.delimiter}
    return job | {name: value for name, value in said.items() if value not in (None, "auto")}


def _check_place(parts: Folder, job: dict[str, Any], options: PredictOptions, form: str | None) -> None:
    """:raises UserError: when ``parts``, or what they become, is not this job's."""
    folder, _, name = options.out.rpartition("/")
    if form and Folder(folder).exists(name):
        raise UserError("file.already-exists", f"{options.out}: already exists; remove it or choose another name")
    if parts.exists(JOB):
        known = parts.read_json(JOB)
        # A job that stopped before its first part has no claim.
        other = [name for name in job if known.get(name) != job[name]] if parts.names(".parquet") else []
        if other:
            raise UserError(
                "predict.output-differs",
                f"{parts.url}: holds the output of a job with other {', '.join(other)}; "
                "remove it or choose another place",
            )
    elif parts.names() or parts.folders():
        raise UserError("predict.output-not-empty", f"{parts.url}: the folder is not empty; choose another place")
