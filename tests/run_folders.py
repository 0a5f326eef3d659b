"""A run folder as the stages leave it: realistic figures, and a text of each kind that could spoil a page."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.tasks.single_label.metrics import mcnemar, score

LABELS = ["negative", "neutral", "positive"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://evil.example/x.png onerror=alert(1)>',
    "a NUL \x00 and an escape \x1b[31m and a delete \x7f",
    "turned \u202egnp.exe and \u2066isolated",
    "half a pair \ud83d of surrogates",
    "{{ 7 * 7 }} {% raw %} ]]> --> </style></svg></bdi>",
    "w" * 100_000,
]
SPEC = """\
# A small run.
version: 1
name: company-news
task:
  labels: [negative, neutral, positive]
  instructions: |
    You label sentences about companies from an investor's point of view. <b>Say one word.</b>
data:
  train: {path: data/train.csv, text: text}
  test: {path: data/test.csv, text: text, label: label_experts}
teacher:
  model: catalog:qwen2.5-coder-1.5b-instruct
  prompt: direct
student:
  model: catalog:all-minilm-l6-v2
  epochs: 4
benchmark: {price_per_hour: 0.60, texts: 1000000}
"""
SENTENCES = [
    "Comparable store sales at Dollarella jumped 11%, more than twice what the market had been looking for.",
    "Employees may choose between a company bicycle and a public transport pass, says the new handbook.",
    "The mill in Osterby will stay closed for the rest of the quarter after the second fire in a year.",
    "Brandt & Lindqvist keeps its full-year outlook, although freight rates have nearly doubled since June.",
    "In Chile the same product is sold under the name Solarina.",
    "The lender set aside a further EUR 40 million for loans that it no longer expects to be repaid.",
]


class RunFolder:
    """A run folder on disk, and its figures to change before it is written."""

    def __init__(self, root, labels=LABELS, train=300, test=140, texts=()):
        self.root, self.labels, self.texts = root, labels, list(texts)
        rng = np.random.default_rng(7)
        self.votes = self._votes(rng, train)
        self.predictions = self._predictions(rng, test)
        names = ["load", "label", "vote", "train", "evaluate", "benchmark"]
        seconds = [0.41, 128.2, 0.22, 41.7, 1.9, 22.4]
        self.others = {}
        self.info = {
            "name": "company-news",
            "runner": "0.1.0",
            "started": "2025-03-01T14:02:10+00:00",
            "finished": "2025-03-01T14:05:31+00:00",
            "spec_text": SPEC,
            "spec": {"version": 1, "name": "company-news", "task": {"labels": labels}},
            "stages": [
                {"name": name, "fingerprint": f"{k + 10:x}" * 16, "seconds": spent, "cached": k < 3}
                for k, (name, spent) in enumerate(zip(names, seconds, strict=True))
            ],
            "versions": {"python": "3.11.9", "ray": "2.60.0", "vllm": "0.32.0", "torch": "2.13.0", "x": None},
            "hardware": {"cpu": "AMD EPYC 9R14", "cores": 2, "memory_gib": 7.6, "gpus": []},
        }
        self.summaries = self._summaries(train, test)
        self.benchmark = {
            "student": {
                "latency_ms": {"p50": 3.12, "p95": 4.05, "p99": 6.31},
                "texts_per_second": 612.4,
                "throughput": [
                    {"batch_size": size, "texts_per_second": speed}
                    for size, speed in [(1, 241.0), (8, 533.2), (32, 612.4), (128, 584.9)]
                ],
                "peak_memory_mb": 612.0,
                "usd_per_million": 0.272,
                "price_per_hour": 0.6,
                "device": "cpu",
                "precision": "bf16",
                "latency_runs": 200,
            },
            "teacher": {
                "rows_per_second": 2.55,
                "usd_per_million": 65.36,
                "price_per_hour": 0.6,
                "replicas": 1,
            },
            "texts": 1_000_000,
            "student_usd": 0.272,
            "teacher_usd": 65.36,
        }

    def _text(self, k):
        if k < len(self.texts):
            return self.texts[k].encode("utf-8", "replace").decode()  # parquet holds whole code points only
        return f"{SENTENCES[k % len(SENTENCES)]} ({k})"

    def _chances(self, rng, rows, sure):
        return rng.dirichlet([sure] + [0.25] * (len(self.labels) - 1), size=rows)

    def _votes(self, rng, rows):
        chances = self._chances(rng, rows, 2.0)
        chances[: len(self.texts)] = np.array([0.34, 0.33] + [0.33 / (len(self.labels) - 2)] * (len(self.labels) - 2))
        order = rng.permuted(np.tile(np.arange(len(self.labels)), (rows, 1)), axis=1)
        chances = np.take_along_axis(chances, order, axis=1)
        given = [self.labels[k] for k in chances.argmax(axis=1)]
        given[-1] = given[0] = None
        lists = chances.tolist()
        lists[-1] = None
        return {
            "id": [f"{k:016x}" for k in range(rows)],
            "split": ["train"] * rows,
            "text": [self._text(k) for k in range(rows)],
            "label": given,
            "probabilities": lists,
            "agreement": [1.0] * rows,
            "votes": [[label or "none"] for label in given],
            "reason": ["tie"] + [None] * (rows - 2) + ["unusable answer"],
        }

    def _predictions(self, rng, rows):
        width = len(self.labels)
        truth = rng.choice(width, size=rows, p=np.array([2] + [5] + [3] * (width - 2)) / (7 + 3 * (width - 2)))

        def system(right):
            chances = np.sort(self._chances(rng, rows, 3.0), axis=1)[:, ::-1]
            guess = np.where(rng.random(rows) < right, truth, rng.integers(0, width, rows))
            others = [[k for k in range(width) if k != g] for g in guess]
            table = np.empty_like(chances)
            for row in range(rows):
                table[row, [guess[row], *others[row]]] = chances[row]
            return [self.labels[k] for k in guess], table

        teacher, teacher_chances = system(0.84)
        student, student_chances = system(0.9)
        for k in range(len(self.texts)):
            student[k] = self.labels[(truth[k] + 1) % width]
            student_chances[k] = np.eye(width)[(truth[k] + 1) % width]
        teacher[3] = None
        return {
            "id": [f"{k:016x}" for k in range(rows)],
            "text": [self._text(k) for k in range(rows)],
            "label": [self.labels[k] for k in truth],
            "teacher_label": teacher,
            "teacher_probabilities": teacher_chances.tolist(),
            "student_label": student,
            "student_probabilities": student_chances.tolist(),
        }

    def _summaries(self, train, test):
        given = [label for label in self.votes["label"] if label]
        return {
            "load": {
                "train": train,
                "test": test,
                "read": {"train": train + 5, "test": test + 1},
                "dropped": {"train": {"duplicate": 3, "leak": 2}, "test": {"empty": 1}},
                "warnings": ["2 texts of train also stand in test; they were taken out of train"],
            },
            "label": {
                "rows": train + test,
                "generated": train + test - 12,
                "reused": 12,
                "failures": 1,
                "failures_by_reason": {"longer than the context": 1},
                "seconds": 128.2,
                "rows_per_second": 2.55,
                "prompt_tokens": 107_800,
                "output_tokens": train + test,
                "engine": "vllm",
                "model": "catalog:qwen2.5-coder-1.5b-instruct",
                "longest": [{"text": self._text(k), "tokens": 900 - k} for k in range(8)],
            },
            "vote": {
                "rows": train + test,
                "abstained": 3,
                "abstained_by_reason": {"tie": 2, "unusable answer": 1},
                "class_shares": {label: given.count(label) / len(given) for label in self.labels},
                "mean_agreement": 1.0,
                "calibration": "content-free",
            },
            "train": {
                "rows": train - 2,
                "held_out": 30,
                "history": [
                    {
                        "epoch": k + 1,
                        "train_loss": loss,
                        "val_loss": held_out,
                        "val_accuracy": 0.8 + k / 40,
                        "seconds": 10.2 + k / 9,
                        "texts_per_second": 260.0,
                    }
                    for k, (loss, held_out) in enumerate([(0.91, 0.74), (0.62, 0.58), (0.47, 0.52), (0.41, 0.53)])
                ],
                "best_epoch": 3,
                "learning_rate": 5e-5,
                "precision": "bf16",
                "device": "cpu",
                "workers": 1,
                "parameters": 22_714_755,
                "truncated_rows": 1,
                "model": "catalog:all-minilm-l6-v2",
                "size_mb": 90.9,
            },
            "evaluate": {},
            "benchmark": {},
        }

    @property
    def evaluation(self):
        rows = self.predictions
        truth, teacher, student = rows["label"], rows["teacher_label"], rows["student_label"]
        return {
            "labels": self.labels,
            "rows": len(truth),
            "teacher": score(self.labels, truth, teacher, np.array(rows["teacher_probabilities"])),
            "student": score(self.labels, truth, student, np.array(rows["student_probabilities"])),
            "mcnemar": mcnemar(truth, teacher, student),
            "student_agrees_with_teacher": float(np.mean([a == b for a, b in zip(teacher, student, strict=True)])),
            "others": {name: self._other(given) for name, given in self.others.items()},
        }

    def _other(self, given):
        """An annotator of the first rows, as ``evaluate`` writes it."""
        rows, size = self.predictions, len(given)
        truth = rows["label"][:size]
        said = {who: rows[f"{who}_label"][:size] for who in ("teacher", "student")}
        return {
            "rows": size,
            "missing": len(rows["label"]) - size,
            "conflicting": 0,
            "annotator": score(self.labels, truth, given, None),
            **{who: {"accuracy": score(self.labels, truth, said[who], None)["accuracy"]} for who in said},
            "mcnemar": {who: mcnemar(truth, given, said[who]) for who in said},
        }

    def recorded(self):
        """Make the teacher one that replays labels: no time, no cost."""
        unknown = {"rows_per_second": None, "usd_per_million": None, "price_per_hour": None}
        self.benchmark.update(teacher={**unknown, "replicas": 1}, teacher_usd=None)
        nothing = dict.fromkeys(("seconds", "rows_per_second", "prompt_tokens", "output_tokens"))
        self.summaries["label"].update(engine="recorded", longest=[], **nothing)
        return self

    def write(self):
        """Put it all on disk, as the stages do."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "run.json").write_text(json.dumps(self.info))
        for stage in self.info["stages"]:
            name = stage["name"]
            folder = self.root / name / stage["fingerprint"]
            folder.mkdir(parents=True)
            (folder / "done.json").write_text(json.dumps({**stage, "summary": self.summaries[name]}))
            if name == "vote":
                (folder / "votes.parquet").write_bytes(parquet(self.votes))
            if name == "evaluate":
                (folder / "evaluate.json").write_text(json.dumps(self.evaluation))
                (folder / "predictions.parquet").write_bytes(parquet(self.predictions))
            if name == "benchmark":
                (folder / "benchmark.json").write_text(json.dumps(self.benchmark))
        return self

    def read(self, name):
        return (self.root / name).read_bytes()

    def exists(self, name):
        return (self.root / name).exists()

    def file(self, stage, name):
        """Where a stage's file lies."""
        return next((self.root / stage).iterdir()) / name


def parquet(columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Makes a run folder; it is on disk after ``write()``."""
    return lambda **options: RunFolder(tmp_path / "run", **options)


@pytest.fixture(scope="session")
def run_folder():
    """The class, for fixtures that many tests share."""
    return RunFolder


@pytest.fixture
def hostile():
    return HOSTILE
