"""What many tests share: a small recorded job in a folder of its own, and the real data where it is."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

from runner import pipeline
from runner.cluster import Cluster
from runner.progress import Progress
from runner.spec import Spec, load_spec
from runner.stage import Context
from runner.store import Folder

REPOSITORY = Path(__file__).parents[1]

# A test must not fail because the machine is busy; those that guard against slowness count processor time.
hypothesis.settings.register_profile("tutelage", deadline=None)
hypothesis.settings.load_profile("tutelage")

SPEC = """\
version: 1
name: small
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence.
  examples:
    - {text: Sales doubled., label: positive, reason: More sales.}
data:
  train: {path: train.csv, text: text}
  test: {path: test.csv, text: text, label: label}
teacher: {engine: recorded, model: three people, columns: [anna, ben, carl]}
student: {model: "catalog:all-minilm-l6-v2"}
"""
HEADER = ("text", "label", "anna", "ben", "carl")
TRAIN = (
    ("Profit fell by half.", "negative", "negative", "negative", "negative"),
    ("The plant is in Turku.", "neutral", "neutral", "neutral", "positive"),
    ("Orders grew again.", "positive", "positive", "positive", "positive"),
    ("Costs rose sharply.", "negative", "neutral", "negative", "negative"),
)
TEST = (
    ("A loss was posted.", "negative", "negative", "negative", "neutral"),
    ("It makes paper.", "neutral", "neutral", "neutral", "neutral"),
    ("A record year.", "positive", "positive", "positive", "positive"),
)


class Job:
    """A recorded job: its spec and data files, and its run folder; the first three stages need no Ray."""

    def __init__(self, root: Path) -> None:
        self.root, self.path, self.runs_dir = root, root / "spec.yaml", root / "runs"
        self.run = Folder(str(self.runs_dir / "small"))
        self.said = io.StringIO()
        self.path.write_text(SPEC, encoding="utf-8")
        self.csv("train.csv", TRAIN)
        self.csv("test.csv", TEST)

    def csv(self, name: str, rows: Iterable[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
        """Write a csv file beside the spec."""
        with open(self.root / name, "w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([header, *rows])
        return self.root / name

    def spec(self, *overrides: str) -> Spec:
        return load_spec(self.path, overrides)

    def context(self, stage: str, spec: Spec | None = None) -> Context:
        """What ``stage`` would be given; its inputs need not be there."""
        spec = spec or self.spec()
        step = next(step for step in pipeline.steps(spec, self.run) if stage == step.stage.NAME)
        progress = Progress(self.said, "plain")
        return Context(spec, self.run, step.folder, step.inputs, Cluster(), progress)

    def do(self, last: str, *overrides: str) -> Folder:
        """Run the stages up to ``last`` as the pipeline does; the folder of ``last``."""
        spec = self.spec(*overrides)
        for step in pipeline.steps(spec, self.run):
            context = self.context(step.stage.NAME, spec)
            if not step.cached:
                pipeline.run_step(step, context)
            assert not context.cluster._started
            if last == step.stage.NAME:
                return step.folder
        raise AssertionError(f"no stage {last}")

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the run folder but the lock, with its content."""
        files = (path for path in sorted(self.runs_dir.rglob("*")) if path.is_file() and path.name != ".lock")
        return {str(path.relative_to(self.runs_dir)): path.read_bytes() for path in files}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture(scope="session")
def job_in() -> type[Job]:
    """Makes a job in a folder, for fixtures that many tests share."""
    return Job


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data, which is not part of this repository."""
    given = os.environ.get("TUTELAGE_DATA")
    for folder in (Path(given) if given else None, REPOSITORY.parent / "shared" / "data"):
        if folder and (folder / "financial_phrasebank" / "test.csv").exists():
            return folder
    pytest.skip("the real data is not here: set TUTELAGE_DATA to the folder that holds financial_phrasebank/")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny models lose more by waiting for a second thread than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of two small layers, with all-MiniLM-L6-v2's tokenizer: trains in a second."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from runner import models

    tokenizer = AutoTokenizer.from_pretrained(models.ensure("catalog:all-minilm-l6-v2"), local_files_only=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-model")
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
