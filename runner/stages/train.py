"""train: rows with label probabilities -> a fine-tuned student, under Ray Train.

A part of train (:mod:`runner.student.held_out`) is held out and picks the epoch and, with ``student.search``, the
settings; the test set is never looked at. Checkpoints lie beside the stages, in ``checkpoints/<fingerprint>/``, so that
a killed run goes on where it was; they are removed when the stage is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner import models
from runner.cluster.node_demand import Demand, of_student
from runner.cluster.resources import Resources
from runner.observe.metrics import Meter
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.spec import Spec
from runner.stages.contract import Context, always
from runner.student import held_out as held_out_rows
from runner.student import recipes, vocabulary
from runner.student.finite import Diverged
from runner.student.held_out import split_rows
from runner.student.schedule import TrainingPlan
from runner.system.errors import ModelError, UserError

if TYPE_CHECKING:
    from runner.student import fit as training

NAME = "train"
NEEDS = ("vote",)

CHECKPOINT_SECONDS = 60.0
"""From one checkpoint to the next, and as many again for each second that the last took. A short training has none."""

SPACE = {"learning_rate_factor": (0.25, 4.0), "lowest_rate": (0.05, 1.0)}
"""What a search tries besides batch sizes: from the least to the most, by ratio."""

FIRST = {"learning_rate_factor": 1.0, "lowest_rate": recipes.LOWEST_RATE}

TEXTS = "train texts"

NOT_LEARNT = ("resources", "export", "runtime", "max_disagreement")

VERSION = 10
"""Of training: recipes, learning rates, the rows held out, the choice of the epoch, dropout. A change trains anew."""

WRITES = {held_out_rows.FILE: held_out_rows.ROWS, "student/config.json": None}

wanted = always


def demands(spec: Spec) -> list[Demand]:
    """All workers at once."""
    return [of_student(spec, trains=True)]


def key(spec: Spec) -> dict[str, Any]:
    """The student's whole part of the spec but for its hardware and runtimes, which must not change the outcome.

    The number of workers does: each drops out units of its own.
    """
    student = {name: value for name, value in spec.to_dict()["student"].items() if name not in NOT_LEARNT}
    identity = models.identity(spec.student.model, spec.student.revision, spec.base)
    return {"recipe": VERSION, "student": student, "identity": identity, "workers": spec.student.resources.workers}


def run(context: Context) -> dict[str, Any]:
    """Train the student.

    :raises ModelError: when it cannot be had or is no encoder.
    :raises UserError: when the rows are too few for the recipe.
    """
    spec, student = context.spec, context.spec.student
    wanted = Resources.of(student.resources)
    rows = [
        row
        for row in context.inputs["vote"].read_table("votes.parquet").to_pylist()
        if row["split"] == "train" and row["label"] is not None
    ]
    held_out, kept = split_rows([row["label"] for row in rows], student.validation, student.seed)
    context.here.write_table(held_out_rows.FILE, held_out_rows.table(rows, held_out))
    if student.recipe == "best" and len(kept) < recipes.FOLDS:
        raise UserError(
            f"student.recipe: best parts the rows into {recipes.FOLDS}, and the teacher labelled {len(rows)} train "
            f"rows, of which {len(kept)} are left to learn from; set it to fast, or bring more texts (data.train)"
        )
    model, revision = context.model(student.model, student.revision, "student.model", NAME)
    unknown = vocabulary.warning(student.model, vocabulary.count_before(spec, [row["text"] for row in rows]), TEXTS)
    warnings = [said for said in (held_out_rows.warning(len(rows), len(held_out)), unknown) if said]
    context.progress.warn(warnings, NAME)
    given, judging = _Rows.of([rows[i] for i in kept]), _Rows.of([rows[i] for i in held_out or kept])
    plan = TrainingPlan(student, len(given), len({row["label"] for row in rows}), _parameters(spec))
    lessons = _Lessons(context, model, revision, wanted, judging, plan)
    found: dict[str, Any] = {}
    if student.search is not None:
        found["search"] = lessons.search(given)
    what = "a head on the encoder as it is" if plan.trainings == ("head",) else f"{plan.epochs} epochs"
    context.progress.say(f"{student.model}: {len(given)} rows, {len(held_out)} held out, {what}", NAME)
    context.progress.begin(NAME, plan.texts_learned, "texts")
    learned = lessons.second_opinion(given) if student.recipe == "best" else given
    result = lessons.student(learned)
    lessons.checkpoints.clear()  # those of trainings that were given up as well
    known = models.provenance(student.model, student.revision, spec.base)
    if result["truncated_rows"]:
        context.progress.say(
            f"{result['truncated_rows']} of {len(given)} texts are longer than student.max_length "
            f"({student.max_length} tokens): the student learned from their beginning",
            NAME,
        )
    if result["skipped_steps"]:
        context.progress.say(
            f"the loss scale left out {result['skipped_steps']} of {result['steps']} steps, whose gradients overflowed "
            f"in {result['precision']}",
            NAME,
        )
    later = [f"{student.model}: {why}; the student was trained in fp32 instead" for why in [result["fell_back"]] if why]
    counted = vocabulary.warning(student.model, vocabulary.Unknown(**result["unknown_tokens"]), TEXTS)
    later += [counted] if counted and not unknown else []
    context.progress.warn(later, NAME, before=len(warnings))
    warnings += later
    facts = {"rows": len(given), "held_out": len(held_out), "model": student.model, "warnings": warnings}
    if (said := _kept(plan, result)) is not None:
        context.progress.say(said, NAME)
    return facts | {"recipe": student.recipe, "rows_per_label": len(given) / plan.labels} | found | known | result


@dataclass(frozen=True)
class _Rows:
    """Texts and what is to be learned of each, shape ``(texts, labels)``."""

    texts: list[str]
    targets: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> _Rows:
        targets = np.array([row["probabilities"] for row in rows], dtype=np.float32)
        return cls([row["text"] for row in rows], targets)

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, mask: NDArray[np.bool_]) -> _Rows:
        return _Rows([self.texts[i] for i in np.flatnonzero(mask)], self.targets[mask])


@dataclass
class _Lessons:
    """The trainings of one run of the stage, one after the other, each with a folder for its checkpoints."""

    context: Context
    model: str
    revision: str | None
    wanted: Resources
    held_out: _Rows
    plan: TrainingPlan
    settings: dict[str, Any] = field(default_factory=dict)
    done: int = 0  # texts, of trainings that are over

    @property
    def checkpoints(self) -> Folder:
        return self.context.run.child("checkpoints")

    def _place(self, name: str) -> Folder:
        return self.checkpoints.child(self.context.here.name, name)

    def _config(self, rows: _Rows, epochs: int, **more: Any) -> dict[str, Any]:
        spec = self.context.spec
        return {
            "model": self.model,
            "revision": self.revision,
            "labels": list(spec.task.labels),
            "student": spec.to_dict()["student"] | {"epochs": epochs},
            "trainings": ["fast"],
            "settings": self.settings,
            "train": asdict(rows),
            "held_out": asdict(self.held_out),
            "checkpoint_seconds": CHECKPOINT_SECONDS,
        } | more

    def _train(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        progress, cluster = self.context.progress, self.context.cluster
        workers, price = self.context.spec.student.resources.workers, self.context.spec.benchmark.price_per_hour
        usd_per_hour = None if price is None else price * workers
        with Meter(cluster, progress, NAME, self.wanted.gpus * workers, usd_per_hour) as meter:
            telling = _Telling(progress, self.done, meter)
            result = cluster.train(train_loop, config, self.wanted, workers, self._place(name), telling)
        self.done += len(config["train"]["texts"]) * (
            1 if config["trainings"] == ["head"] else config["student"]["epochs"]
        )
        progress.at(self.done)
        return result

    def student(self, rows: _Rows) -> dict[str, Any]:
        """The one that is kept, trained on ``rows``, in the stage's folder."""
        plan = self.plan
        config = self._config(rows, plan.epochs, save_to=self.context.here.url, trainings=list(plan.trainings))
        return self._train("student", config)

    def search(self, rows: _Rows) -> dict[str, Any]:
        """Find settings by Ray Tune and keep to them; what was tried, for the report."""
        context, student = self.context, self.context.spec.student
        assert student.search is not None
        trials, answers = student.search.trials, self.checkpoints.child(context.here.name)
        if not answers.exists("search.json"):
            context.progress.say(f"{trials} trials, judged by {len(self.held_out)} held-out rows", NAME)
            context.progress.begin(NAME, trials, "trials")
            found = context.cluster.search(
                trial_loop,
                self._config(rows, self.plan.epochs),
                SPACE | {"batch_size": batch_sizes(student.batch_size)},
                FIRST | {"batch_size": student.batch_size},
                trials,
                self.wanted,
                self._place("search"),
                student.seed,
                context.progress.at,
            )
            answers.write_json("search.json", found)
        tried = answers.read_json("search.json")
        judged = recipes.worth(self.held_out.targets)
        chosen = recipes.chosen_trial([trial["agreement"] for trial in tried], judged)
        self.settings = tried[chosen]["settings"]
        error = recipes.standard_error(max(trial["agreement"] for trial in tried), judged)
        return {"trials": tried, "chosen": chosen, "standard_error": error}

    def second_opinion(self, rows: _Rows) -> _Rows:
        """The rows with what students say of them who did not see them; each of those is asked but once."""
        student = self.context.spec.student
        folds = recipes.fold_of(len(rows), student.seed)
        said = np.zeros_like(rows.targets)
        answers = self.checkpoints.child(self.context.here.name)
        for fold in range(folds.max() + 1):
            seen, unseen, name = rows.where(folds != fold), rows.where(folds == fold), f"fold-{fold}"
            epochs = self.plan.of(len(seen)).fold_epochs
            if not answers.exists(f"{name}.json"):
                result = self._train(name, self._config(seen, epochs, asked=unseen.texts))
                answers.write_json(f"{name}.json", result["probabilities"])
            else:
                self.done += len(seen) * epochs
            said[folds == fold] = answers.read_json(f"{name}.json")
        return _Rows(rows.texts, recipes.second_opinion(rows.targets, said))


class _Telling:
    """Shows how far the training is, after ``before`` texts of others, and says when it went on from a checkpoint."""

    def __init__(self, progress: Progress, before: int, meter: Meter) -> None:
        self._progress, self._before, self._meter, self._resumes = progress, before, meter, 0

    def __call__(self, found: dict[str, Any]) -> None:
        if found["resumes"] > self._resumes:
            done, total = found["done"], found["total"]
            words = f"going on from a checkpoint, at {done} of {total} texts"
            self._progress.tell("training_resumed", NAME, words, done=done, total=total)
        self._resumes = found["resumes"]
        self._progress.at(self._before + found["done"])
        self._meter.tick()


def _parameters(spec: Spec) -> int | None:
    """The encoder's size, where it is known."""
    return models.describe(spec.student.model, spec.student.revision, spec.base).parameters


def _kept(plan: TrainingPlan, result: dict[str, Any]) -> str | None:
    """What to say of the recipe that was kept, where the spec left it open."""
    if plan.student.recipe != "auto":
        return None
    figures = ", ".join(f"{tried['recipe']} {tried['val_accuracy']:.1%}" for tried in result["tried"])
    return f"recipe {result['kept']} is kept; agreement with the teacher on held-out rows: {figures}"


def batch_sizes(given: int) -> list[int]:
    """Those that a search tries around the one that is given."""
    return sorted({max(1, given // 2), given, given * 2})


def train_loop(config: dict[str, Any], report: Callable[[dict[str, Any]], None], **worker: Any) -> dict[str, Any]:
    """What one worker does; rank 0 saves the student to ``save_to``, or has it say what it thinks of texts ``asked``.

    ``worker`` holds the fields of :class:`runner.student.fit.Worker`.
    """
    from runner.student import fit as training
    from runner.student.predict import Student  # in the worker only: the driver needs no torch

    def tell(done: int, total: int, course: training.Course) -> None:
        report({"done": done, "total": total, "resumes": course.resumes})

    me, fits = training.Worker(**worker), _fits(config)
    with tempfile.TemporaryDirectory() as scratch:

        def one(name: str) -> dict[str, Any]:
            # A head is fitted again in seconds: checkpoints are those of the fine-tuning.
            now = me if fits[name].epochs else replace(me, keep=lambda write: None, restore=lambda read: None)
            told = tell if fits[name].epochs else _silent
            return training.fit(fits[name], *_rows(config), Path(scratch) / name, now, told)

        name, tried = try_recipes(list(fits), one, config["held_out"]["targets"])
        saved, result = Path(scratch) / name, tried[name]
        if me.rank == 0 and "save_to" in config:
            Folder(config["save_to"]).upload(saved, "student")
            result["size_mb"] = (saved / "model.safetensors").stat().st_size / 1e6
        if me.rank == 0 and "asked" in config:
            trained = Student.load(saved, fits[name].max_length, result["precision"])
            result["probabilities"] = trained.predict(config["asked"]).tolist()
    del result["right"]
    return result | {"kept": name, "tried": [recipe_figures(*each) for each in tried.items()]}


def try_recipes(
    names: Sequence[str], train: Callable[[str], dict[str, Any]], targets: NDArray[np.float32]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Train recipe after recipe; the one that is kept, and the result of each that was trained.

    Where a head alone is enough nothing else is trained. Else the last is kept, unless the held-out rows, whose
    ``targets`` are given, tell the head before it to be better. Only rank 0 knows what its rows tell.
    """
    tried: dict[str, dict[str, Any]] = {}
    for name in names:
        tried[name] = train(name)
        if name == "head" and tried[name]["head"]["cross_validated"] >= recipes.HEAD_IS_ENOUGH:
            break
    first, last = next(iter(tried)), name
    head, tuned = tried[first]["right"], tried[last]["right"]
    better = first != last and bool(head) and recipes.clearly_better(head, tuned, recipes.confidence(targets))
    return (first if better else last), tried


def trial_loop(config: dict[str, Any], settings: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """One trial of a search: a training that reports after each epoch how it stands, and leaves no student."""
    from runner.student import fit as training

    train, held_out = _rows(config)
    rows = recipes.worth(held_out.targets)

    def tell(done: int, total: int, course: training.Course) -> None:
        if not course.steps:  # an epoch is over
            chosen = training.chosen_epoch(course.history, rows)
            report({"agreement": chosen.val_accuracy, "epoch": chosen.epoch, "loss": chosen.val_loss})

    with tempfile.TemporaryDirectory() as scratch:
        try:
            training.fit(training.Fit(**_fit(config) | settings), train, held_out, Path(scratch), report=tell)
        except Diverged:  # with these settings: the others may do
            report({"agreement": 0.0, "epoch": 0, "loss": None})


def _fits(config: dict[str, Any]) -> dict[str, training.Fit]:
    """The trainings of a recipe by name, the one to keep in doubt last.

    :raises ModelError: when the recipe wants a head on an encoder of a kind that has none to fit.
    """
    from runner.student import fit as training
    from runner.student.load import can_pool

    names, fit = config["trainings"], training.Fit(**_fit(config))
    if not {"head", "lp-ft"}.intersection(names):
        return {names[0]: fit}
    if not can_pool(fit.model):
        if len(names) > 1:
            return {"fast": fit}
        raise ModelError(
            f"{config['model']}: student.recipe {names[0]} fits a head to the mean of an encoder's tokens, and knows "
            "encoders built like BERT, RoBERTa or MPNet; set it to auto or fast"
        )
    head = replace(fit, start="head")
    fits = {"head": replace(head, epochs=0), "lp-ft": head, "fast": fit}
    return {name: fits[name] for name in names}


def recipe_figures(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """How a training did on the held-out rows."""
    averaged, history = result["averaged"], result["history"]
    chosen = averaged if averaged and averaged["taken"] else result["head"]
    if history and chosen is not averaged:
        chosen = history[result["best_epoch"] - 1]
    seconds = sum(epoch["seconds"] for epoch in history) + (result["head"] or {}).get("seconds", 0.0)
    return {"recipe": name, "val_loss": chosen["val_loss"], "val_accuracy": chosen["val_accuracy"], "seconds": seconds}


def _silent(done: int, total: int, course: training.Course) -> None:
    """Tells nothing: a head is fitted within seconds."""


def _fit(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`runner.student.fit.Fit`."""
    names = ("epochs", "learning_rate", "batch_size", "max_length", "precision", "seed", "accumulate")
    return {
        **{name: config["student"][name] for name in names},
        **config["settings"],
        "model": models.ensure(config["model"], config["revision"], who="student.model"),
        "labels": tuple(config["labels"]),
        "checkpoint_seconds": config["checkpoint_seconds"],
    }


def _rows(config: dict[str, Any]) -> tuple[training.Rows, training.Rows]:
    from runner.student import fit as training

    train, held_out = (training.Rows(**config[part]) for part in ("train", "held_out"))
    return train, held_out
