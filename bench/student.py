"""The student against other ways to do the same: `make bench-student`.

    python bench/student.py [--only predict,train,...] [--model catalog:NAME] [--texts FILE.csv:COLUMN] [--rounds 3]

Both contenders get the same rows in the same process, in alternating rounds; the table has the medians of both rates
and of the rounds' ratios, since machines are noisy. Also written to bench/out/student.json.

    predict   Student.predict, bf16 where there is bf16  against  transformers.pipeline(batch_size=8)
    runtimes  onnx, onnx-int8 and openvino, exported     against  the same
    train     training.fit                               against  transformers.Trainer with its defaults, and with what
                                                                  a careful user sets: ours' batch size, bf16, batches
                                                                  of texts that are alike long
    shortcuts both of ours                               against  the same without student/shortcuts.py
    apply     `tutelage predict` over many rows          against  Student.predict on a sample, between rounds

``predict`` also says which share of the machine's matrix rate (bf16 where there is bf16) it reaches: multiply-adds of
the linear layers and of attention over the tokens that are there, padding not counted, per second, over those of a
large matrix product.
``apply`` shares its rows among the rounds, and also says what memory all its processes take in each quarter of one.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import keep, matrix_rate

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "student.json"
AT_LEAST = {"train": 3.0}
LABELS = ("negative", "neutral", "positive")
Round = Callable[[], Any]


def interleaved(name: str, ours: Round, peer: Round, count: int, rounds: int) -> dict[str, Any]:
    """Ours against one peer; see :func:`against`."""
    (result,) = against({name: peer}, ours, count, rounds)
    return result


def against(peers: Mapping[str, Round], ours: Round, count: int, rounds: int) -> list[dict[str, Any]]:
    """Medians of ``rounds`` of each side, ``count`` texts a round; one round of each goes before, uncounted."""
    sides = {"ours": ours, **peers}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides if number % 2 else [*sides][::-1]:
            start = time.perf_counter()
            sides[side]()
            rate = count / (time.perf_counter() - start)
            if number:
                rates[side].append(rate)
                print(
                    f"round {number}, {'ours' if side == 'ours' else f'{side}, peer'}: {rate:.1f} texts/s", flush=True
                )
    return [
        {
            "name": name,
            "ours": statistics.median(rates["ours"]),
            "peer": statistics.median(rates[name]),
            "ratio": statistics.median(o / p for o, p in zip(rates["ours"], rates[name], strict=True)),
            "rounds": rounds,
            "rows": count,
        }
        for name in peers
    ]


def trained(model: Path, folder: Path) -> Path:
    """A classifier with a random head: speed does not depend on what it says."""
    from runner.student.load import load_tokenizer
    from runner.student.save import save_student
    from runner.tasks.single_label import learner

    save_student(learner.fresh(model, LABELS), load_tokenizer(model), folder, 256)
    return folder


def predict(folder: Path, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Inference against a plain pipeline; with the share of the matrix rate."""
    from runner.student.predict import Student
    from runner.student.tokens import tokenize
    from runner.tasks.single_label import learner

    ours = Student.load(learner, folder)
    before = matrix_rate()
    result = interleaved("predict", lambda: ours.predict(texts), plain_pipeline(folder, texts), len(texts), rounds)
    lengths = [len(ids) for ids in tokenize(ours.tokenizer, texts, ours.max_length)]
    work = sum(map(flops(ours.logits.model), lengths)) / len(texts)
    result["share_of_matrix_rate"] = result["ours"] * work / max(before, matrix_rate())
    return result


def runtimes(folder: Path, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Every export against a plain pipeline; the head is random, so that labels say nothing here."""
    from runner.student.predict import Student
    from runner.student.runtimes.exported import export
    from runner.tasks.single_label import learner

    exports, results = folder.parent / "exports", []
    model = learner.trained(folder).eval()
    seen = Student.load(learner, folder).inputs(texts[:64])
    for form in ("onnx", "onnx-int8", "openvino"):
        export(model, form, exports, seen)  # type: ignore[arg-type]
        ours = Student.load(learner, folder, runtime=form, exports=exports)
        results.append(
            interleaved(form, lambda one=ours: one.predict(texts), plain_pipeline(folder, texts), len(texts), rounds)
        )
    return results


def plain_pipeline(folder: Path, texts: Sequence[str]) -> Round:
    """What the documentation of transformers shows, in batches of eight."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True)
    return lambda: classify(list(texts), batch_size=8)


def flops(model: Any) -> Callable[[int], float]:
    """Floating-point operations of one text by its tokens: two for each weight of a linear layer, and attention."""
    import torch

    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    return lambda tokens: 2.0 * weights * tokens + 4.0 * layers * width * tokens**2


def train(model: Path, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """One epoch of fine-tuning, loading and saving on all sides."""
    from runner.student import fit as training
    from runner.system import machine
    from runner.tasks.single_label import learner

    fit, rows, held_out = learning(model, texts)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            training.fit(learner, fit, rows, held_out, Path(scratch) / "student")

    labels = rows.targets.argmax(axis=1)
    careful = {
        "per_device_train_batch_size": fit.batch_size,
        "bf16": machine.has_bf16(),
        "train_sampling_strategy": "group_by_length",
    }
    peers = {
        "train": plain_trainer(model, texts, labels),
        "train, careful": plain_trainer(model, texts, labels, careful),
    }
    return against(peers, ours, len(texts), rounds)


def learning(model: Path, texts: Sequence[str]) -> tuple[Any, Any, Any]:
    """What :func:`runner.student.fit.fit` is given: settings, rows with labels in turn, and a few that are held out."""
    from runner.student.fit_config import Fit
    from runner.student.rows import Rows

    targets = np.eye(len(LABELS), dtype=np.float32)[np.arange(len(texts)) % len(LABELS)]
    fit = Fit(
        model=model,
        outputs=LABELS,
        epochs=1,
        learning_rate=5e-5,
        batch_size=16,
        max_length=256,
        precision="auto",
        seed=0,
    )
    return fit, Rows(texts, targets), Rows(texts[:8], targets[:8])


def shortcuts(model: Path, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """What the shortcuts are worth: a step of training, and prediction, with and without them."""
    from runner.student.fit_config import Worker
    from runner.student.loop import Loop
    from runner.student.predict import Student
    from runner.tasks.single_label import learner

    with tempfile.TemporaryDirectory() as scratch:
        folder = trained(model, Path(scratch) / "student")
        loops, students = {}, {}
        for side in ("ours", "peer"):
            with without_shortcuts(side == "peer"):
                loops[side] = Loop(learner, *learning(model, texts), Worker())
                students[side] = Student.load(learner, folder)

        def learn(loop: Any) -> Round:
            def epoch() -> None:
                loop.begin_epoch()
                for batch in loop.batches(0):
                    loop.learn(batch)

            return epoch

        def say(one: Any) -> Round:
            return lambda: one.predict(texts)

        return [
            interleaved("shortcuts, train", learn(loops["ours"]), learn(loops["peer"]), len(texts), rounds),
            interleaved("shortcuts, predict", say(students["ours"]), say(students["peer"]), len(texts), rounds),
        ]


@contextmanager
def without_shortcuts(without: bool) -> Iterator[None]:
    """Models that are loaded meanwhile take no shortcuts, if that is asked for."""
    from runner.student import shortcuts as real
    from runner.student.loop import Loop

    take, leave_out = real.apply_shortcuts, Loop._leave_out_unseen
    if without:
        real.apply_shortcuts = lambda model: False
        Loop._leave_out_unseen = lambda self: None  # type: ignore[method-assign]
    yield
    real.apply_shortcuts, Loop._leave_out_unseen = take, leave_out  # type: ignore[method-assign]


def plain_trainer(model: Path, texts: Sequence[str], labels: Any, options: Mapping[str, Any] | None = None) -> Round:
    """What the documentation of transformers shows: Trainer, its defaults but for ``options``, padding by the batch."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    encoded = tokenizer(list(texts), truncation=True, max_length=256)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": int(label)}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
    ]

    plain: dict[str, Any] = {"num_train_epochs": 1, "use_cpu": True, "report_to": "none", "disable_tqdm": True}

    def run() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(scratch, **plain | dict(options or {}))
            fresh = AutoModelForSequenceClassification.from_pretrained(
                model, local_files_only=True, num_labels=len(LABELS)
            )
            trainer = Trainer(fresh, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
            trainer.train()
            trainer.save_model(scratch)

    return run


def apply(folder: Path, texts: Sequence[str], count: int, rounds: int) -> dict[str, Any]:
    """A corpus through Ray, against the bare loop on a sample, and the memory of both together.

    Each round takes its share of the ``count`` rows, between two bare loops that have the machine to themselves.
    """
    from runner.student.predict import Student
    from runner.tasks.single_label import learner

    def numbered(number: int) -> str:
        return f"{texts[number % len(texts)]} ({number})"  # no two alike, or they would be predicted once

    share = count // rounds
    spread = max(1, share * rounds // 20_000)  # over all rows: a higher number has more tokens
    sample = [numbered(n) for n in range(0, share * rounds, spread)]
    bare = Student.load(learner, folder)

    def bare_rate() -> float:
        bare.predict(sample[:2000])
        start = time.perf_counter()
        bare.predict(sample)
        rate = len(sample) / (time.perf_counter() - start)
        print(f"apply, bare loop: {rate:.1f} texts/s", flush=True)
        return rate

    rates, peers, memory = [], [bare_rate()], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            corpus = Path(scratch) / "corpus.csv"
            with open(corpus, "w", encoding="utf-8", newline="") as handle:
                writer = csv.writer(handle)
                writer.writerow(["text"])
                writer.writerows([numbered(n)] for n in range(number * share, (number + 1) * share))
            rate, samples = applied(folder, corpus)
        rates.append(rate)
        memory.append([float(np.median(part)) for part in np.array_split(samples, 4) if len(part)])
        peers.append(bare_rate())
    ratio = statistics.median(
        ours / statistics.mean(around) for ours, around in zip(rates, pairwise(peers), strict=True)
    )
    ours, peer = statistics.median(rates), statistics.median(peers)
    result = {"name": "apply", "ours": ours, "peer": peer, "ratio": ratio, "rounds": rounds, "rows": share * rounds}
    quarters = min(map(len, memory))
    return result | {"memory_mib": [round(statistics.median(one[k] for one in memory)) for k in range(quarters)]}


def applied(folder: Path, corpus: Path) -> tuple[float, list[float]]:
    """Texts per second of ``tutelage predict``, and MiB of memory meanwhile."""
    from runner.cluster.cluster import Cluster
    from runner.commands.predict_files import PredictOptions
    from runner.commands.predict_files import predict as predict_files
    from runner.observe.progress import Progress

    cluster = Cluster()
    cluster.start()
    options = PredictOptions(str(folder), (str(corpus),), f"{corpus.parent}/out")
    with memory_of_all() as samples:
        found = predict_files(options, cluster, Progress(sys.stdout, "plain"))
    cluster.stop()
    return float(found["texts_per_second"]), samples


@contextmanager
def memory_of_all(every: float = 30.0) -> Iterator[list[float]]:
    """MiB of this process, Ray and its workers together, a sample now and then; shared pages count once."""
    samples: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every):
            found = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                with suppress(psutil.Error):
                    found += process.memory_full_info().pss
            samples.append(found / 2**20)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Run the comparisons and print the table."""
    names = ("predict", "runtimes", "train", "shortcuts", "apply")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default=",".join(names), help=f"comma-separated, of {', '.join(names)}")
    parser.add_argument("--model", default="catalog:all-mpnet-base-v2")
    parser.add_argument("--apply-model", default="catalog:all-minilm-l6-v2")
    parser.add_argument("--apply-rows", type=int, default=1_000_000)
    parser.add_argument("--texts", default=f"{ROOT / 'specs' / 'data' / 'company-news-train.csv'}:text")
    parser.add_argument("--rows", type=int, default=256, help="rows in each round of predict")
    parser.add_argument("--train-rows", type=int, default=512, help="rows in each round of train, the texts over again")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"there is no comparison {', '.join(sorted(unknown))}")
    if options.apply_rows < options.rounds:
        parser.error("--apply-rows must be at least one for each round")

    from runner import models

    path, _, column = options.texts.rpartition(":")
    with open(path, encoding="utf-8", newline="") as handle:
        texts = [row[column] for row in csv.DictReader(handle)]
    rows = texts[: options.rows]
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = trained(models.ensure(options.model), Path(scratch) / "student")
        if "predict" in wanted:
            results.append(predict(folder, rows, options.rounds))
        if "runtimes" in wanted:
            results += runtimes(folder, rows, options.rounds)
        if "train" in wanted:
            over_again = list(islice(cycle(texts), options.train_rows))
            results += train(models.ensure(options.model), over_again, options.rounds)
        if "shortcuts" in wanted:
            results += shortcuts(models.ensure(options.model), rows, options.rounds)
        if "apply" in wanted:
            folder = trained(models.ensure(options.apply_model), Path(scratch) / "applied")
            results.append(apply(folder, texts, options.apply_rows, options.rounds))
    print(f"\n{'texts/s':<20}{'ours':>10}{'peer':>10}{'ratio':>8}")
    for result in results:
        line = f"{result['name']:<20}{result['ours']:>10.1f}{result['peer']:>10.1f}{result['ratio']:>8.2f}"
        if (share := result.get("share_of_matrix_rate")) is not None:
            line += f"   {share:.0%} of the matrix rate"
        if found := result.get("memory_mib"):
            line += f"   memory in each quarter of the time: {', '.join(map(str, found))} MiB"
        print(line)
    keep(results, OUT, AT_LEAST)


if __name__ == "__main__":
    main()
