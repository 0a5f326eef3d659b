"""predict and the apply stage: every row of a corpus once, in parts that survive a stop, whatever the files hold."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.cluster.cluster import Cluster
from runner.commands.cli import main
from runner.commands.predict import labelled
from runner.commands.predict_files import PredictOptions, find_student, predict
from runner.data.reading import Source, count_rows
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.rundir.lock import locked
from runner.stages import apply
from runner.student import corpus as corpus_module
from runner.student import corpus_worker
from runner.system.errors import BusyError, DataError, ModelError, UserError

LABELS = ["negative", "neutral", "positive"]
WORDS = ["profit", "loss", "sales", "rose", "fell", "the plant", "in Turku", "makes", "paper", "again", "EUR", "a year"]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a random head: what it says is of no use, but always the same."""
    import torch

    from runner.student.load import load_tokenizer
    from runner.student.save import save_student
    from runner.tasks.single_label import learner

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("student") / "model"
    save_student(learner.fresh(tiny_model, LABELS), load_tokenizer(tiny_model), folder, max_length=16)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    one = Cluster()
    yield one
    one.stop()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files of three kinds, 900 rows; blanks, line ends, repeated texts and other alphabets among them."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(880)]
    texts += [
        "",
        "  \n",
        "one\ntwo",
        '"quoted", and more',
        "\U0001f600 \u0645\u0631\u062d\u0628\u0627",
        "[CLS] [SEP] <s>",
    ]
    texts += [texts[0]] * 14
    rng.shuffle(texts)
    rows = [{"id": f"r{n}", "text": text} for n, text in enumerate(texts)]
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, ["text", "id"])
        writer.writeheader()
        writer.writerows(rows[:300])
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[300:500]), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows[500:]), tmp_path / "c.parquet")
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    return tmp_path


def options(model: Path, corpus: Path, out: str = "out", **more: Any) -> PredictOptions:
    inputs = tuple(str(corpus / name) for name in ("a.csv", "b.jsonl", "c.parquet"))
    return PredictOptions(
        **{"student": str(model), "inputs": inputs, "out": str(corpus / out), "part_rows": 70, "cpus": 1} | more
    )


def silent() -> Progress:
    return Progress(sys.stderr, "quiet")


def written(out: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(out.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.slow("ray")
def test_every_row_gets_what_the_student_says(model: Path, corpus: Path, cluster: Cluster) -> None:
    from runner.student.predict import Student
    from runner.tasks.single_label import learner

    found = predict(options(model, corpus, keep=("id",), abstain_below=0.4), cluster, silent())
    rows, texts = written(corpus / "out"), json.loads((corpus / "texts.json").read_text())
    assert [row["id"] for row in rows] == [f"r{n}" for n in range(900)]
    assert [row["text"] for row in rows] == texts
    assert [row["row"] for row in rows] == [*range(1, 301), *range(1, 201), *range(1, 401)]
    expected = Student.load(learner, model).predict(texts)
    for row, chances in zip(rows, expected, strict=True):
        given = [row[f"probability_{label}"] for label in LABELS]
        if not row["text"].strip():
            assert (row["label"], row["probability"], given, row["abstain"]) == (None, None, [None] * 3, True)
            continue
        assert given == pytest.approx(chances.tolist(), abs=0.02)  # bf16 sums differ with the batch
        assert row["probability"] == max(given) and row["label"] == LABELS[int(np.argmax(given))]
        assert row["abstain"] == (np.float32(row["probability"]) < 0.4)
    assert found["rows"] == 900 and found["reused"] == 0
    assert found["labels"] == dict(Counter(row["label"] for row in rows if row["label"]))
    assert found["abstained"] == sum(row["abstain"] for row in rows)
    assert json.loads((corpus / "out" / "summary.json").read_text())["rows"] == 900


@pytest.mark.slow("ray")
def test_what_is_there_is_kept_and_what_is_not_is_done(model: Path, corpus: Path, cluster: Cluster) -> None:
    predict(options(model, corpus), cluster, silent())
    before = written(corpus / "out")
    parts = sorted((corpus / "out").glob("*.parquet"))
    parts[3].unlink()
    times = {part: part.stat().st_mtime_ns for part in parts if part.exists()}
    found = predict(options(model, corpus), cluster, silent())
    assert found["reused"] == 830 and found["rows"] == 900
    assert written(corpus / "out") == before
    assert all(part.stat().st_mtime_ns == when for part, when in times.items())


@pytest.mark.slow("ray")
def test_a_file_that_is_broken_in_the_middle_costs_no_part_that_was_done(
    model: Path, corpus: Path, cluster: Cluster
) -> None:
    lines = (corpus / "b.jsonl").read_text().splitlines(keepends=True)
    (corpus / "b.jsonl").write_text("".join(lines[:150]) + '{"id": "r1", "te')
    with pytest.raises(DataError, match=r"b\.jsonl:151: broken JSON"):
        predict(options(model, corpus), cluster, silent())
    done = {part.name for part in (corpus / "out").glob("*.parquet")}
    (corpus / "b.jsonl").write_text("".join(lines))
    found = predict(options(model, corpus), cluster, silent())
    assert found["rows"] == 900 and found["reused"] == sum(
        pq.read_metadata(corpus / "out" / name).num_rows for name in done
    )
    assert Counter(row["text"] for row in written(corpus / "out")) == Counter(
        json.loads((corpus / "texts.json").read_text())
    )


@pytest.mark.slow("ray")
def test_a_mended_row_replaces_its_part_and_no_other(model: Path, corpus: Path, cluster: Cluster) -> None:
    predict(options(model, corpus), cluster, silent())
    before = {part.name for part in (corpus / "out").glob("*.parquet")}
    lines = (corpus / "b.jsonl").read_text().splitlines(keepends=True)
    (corpus / "b.jsonl").write_text("".join([*lines[:-1], '{"text": "mended", "id": "x"}\n']))
    assert predict(options(model, corpus), cluster, silent())["reused"] == 840
    after = {part.name for part in (corpus / "out").glob("*.parquet")}
    assert len(before - after) == len(after - before) == 1
    texts = [row["text"] for row in written(corpus / "out")]
    assert len(texts) == 900 and "mended" in texts


@pytest.mark.slow("ray")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_one_file_has_all_rows_in_order_and_leaves_no_parts(
    model: Path, corpus: Path, cluster: Cluster, ending: str
) -> None:
    out = corpus / f"out.{ending}"
    predict(options(model, corpus, out.name, keep=("id",)), cluster, silent())
    if ending == "csv":
        with open(out, encoding="utf-8", newline="") as handle:
            rows: list[Any] = list(csv.DictReader(handle))
    else:
        lines = out.read_text().splitlines() if ending == "jsonl" else []
        rows = [json.loads(line) for line in lines] or pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == [f"r{n}" for n in range(900)]
    assert [row["text"] for row in rows] == json.loads((corpus / "texts.json").read_text())
    assert {"label", "probability", "probability_neutral", "abstain"} <= set(rows[0])
    assert sorted(path.name for path in corpus.iterdir() if "out" in path.name) == [out.name]
    with pytest.raises(UserError, match="already exists"):
        predict(options(model, corpus, out.name), cluster, silent())


@pytest.mark.slow("ray")
def test_another_job_never_writes_into_the_same_place(model: Path, corpus: Path, cluster: Cluster) -> None:
    predict(options(model, corpus), cluster, silent())
    before = written(corpus / "out")
    for other, what in (
        ({"keep": ("id",)}, "keep"),
        ({"abstain_below": 0.9}, "abstain_below"),
        ({"inputs": ("x",)}, "inputs"),
    ):
        with pytest.raises(UserError, match=f"a job with other {what}; remove it"):
            predict(
                options(model, corpus, **({"inputs": (str(corpus / "a.csv"),)} if what == "inputs" else other)),
                cluster,
                silent(),
            )
    (corpus / "mine").mkdir()
    (corpus / "mine" / "precious.txt").write_text("keep me")
    with pytest.raises(UserError, match="the folder is not empty"):
        predict(options(model, corpus, "mine"), cluster, silent())
    assert written(corpus / "out") == before


@pytest.mark.slow("ray")
def test_no_student_no_input_no_column(model: Path, corpus: Path, cluster: Cluster) -> None:
    with pytest.raises(UserError, match="neither a finished run"):
        find_student(options(corpus, corpus))
    (corpus / "pickled").mkdir()
    (corpus / "pickled" / "config.json").write_text("{}")
    (corpus / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ModelError, match="no safetensors weights"):
        find_student(options(corpus / "pickled", corpus))
    with pytest.raises(DataError, match="no such file"):
        predict(options(model, corpus, inputs=(str(corpus / "*.csv.gz"),)), cluster, silent())
    with pytest.raises(DataError, match=r"pickled: is a folder; say which files of it, such as .*pickled/\*\.csv"):
        predict(options(model, corpus, inputs=(str(corpus / "pickled"),)), cluster, silent())
    with pytest.raises(DataError, match=r"no column 'txt' \(did you mean 'text'\?\)"):
        predict(options(model, corpus, "o1", text="txt"), cluster, silent())
    with pytest.raises(UserError, match="--keep label: a column of that name is written anyway"):
        predict(options(model, corpus, keep=("label",)), cluster, silent())
    with pytest.raises(UserError, match="--keep probability_neutral: a column of that name"):
        predict(options(model, corpus, keep=("probability_neutral",)), cluster, silent())
    (corpus / "empty.csv").write_text("text\n")
    with pytest.raises(DataError, match="no row of data"):
        predict(options(model, corpus, "o2", inputs=(str(corpus / "empty.csv"),)), cluster, silent())


@pytest.mark.slow("ray")
def test_the_same_job_twice_at_once_is_refused(model: Path, corpus: Path, cluster: Cluster) -> None:
    job = options(model, corpus, "out.csv")
    with locked(Folder(str(corpus / "out.csv.parts"))), pytest.raises(BusyError):
        predict(job, cluster, silent())
    assert predict(job, cluster, silent())["rows"] == 900


@pytest.mark.slow("long")
def test_a_model_in_several_files_is_a_student(model: Path, tmp_path: Path, corpus: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(model, tmp_path / "large", ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForSequenceClassification.from_pretrained(model).save_pretrained(tmp_path / "large", max_shard_size="1MB")
    assert len(list((tmp_path / "large").glob("*.safetensors"))) > 1
    found, identity, _ = find_student(options(tmp_path / "large", corpus))
    texts = ["one", "two three"]
    assert found.open().predict(texts) == pytest.approx(find_student(options(model, corpus))[0].open().predict(texts))
    (tmp_path / "large" / "tokenizer_config.json").write_text("{}")
    assert find_student(options(tmp_path / "large", corpus))[1] != identity


def test_a_part_of_long_texts_has_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_worker, "PART_CHARACTERS", 1000)
    texts = ["x" * 10] * 5 + ["y" * 600] * 5 + ["z" * 2000]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    lines = pa.Table.from_pylist([{"file": 0, "source": json.dumps(asdict(Source(str(tmp_path / "a.parquet"))))}])
    parts = list(corpus_worker.Reader("text", (), 8, str(tmp_path / "out"), {})(lines))
    assert [part["rows"][0].as_py() for part in parts] == [7, 2, 2]
    read = [row for part in parts for row in pa.ipc.open_stream(part["table"][0].as_py()).read_all().to_pylist()]
    assert [row["text"] for row in read] == texts and [row["row"] for row in read] == list(range(1, 12))


@pytest.mark.slow("ray")
@pytest.mark.parametrize("cut", ["a.csv", "b.jsonl", "c.parquet", "a.csv.gz"])
def test_a_file_that_breaks_off_is_said_with_where(model: Path, corpus: Path, cluster: Cluster, cut: str) -> None:
    whole = corpus / cut
    if cut.endswith(".gz"):
        whole.write_bytes(gzip.compress((corpus / "a.csv").read_bytes()))
    damaged = corpus / f"cut-{cut}"
    content = whole.read_bytes()
    if cut == "a.csv":
        content = content.rstrip() + b'\n"never closed,'
    damaged.write_bytes(content if cut == "a.csv" else content[: len(content) * 2 // 3])
    with pytest.raises(
        DataError, match=rf"cut-{cut}:? ?(\d+: broken|.*cannot be read after cut-{cut}:\d+|broken parquet)"
    ):
        predict(options(model, corpus, f"out-{cut}", inputs=(str(damaged),)), cluster, silent())


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"id2label": 7}'])
def test_a_model_folder_without_labels_is_named(model: Path, corpus: Path, cluster: Cluster, config: str) -> None:
    copy = shutil.copytree(model, corpus / "copy")
    (copy / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"copy/config\.json: names no labels"):
        predict(options(copy, corpus), cluster, silent())


def test_what_was_never_trained_to_classify_is_no_student(tiny_model: Path, corpus: Path, cluster: Cluster) -> None:
    with pytest.raises(ModelError, match="an encoder that was not trained to classify"):
        predict(options(tiny_model, corpus), cluster, silent())


def test_the_total_is_known_where_it_can_be(corpus: Path) -> None:
    assert count_rows(Source(str(corpus / "b.jsonl"))) == 200
    assert count_rows(Source(str(corpus / "c.parquet"))) == 400
    assert count_rows(Source(str(corpus / "c.parquet"), limit=30)) == 30
    assert 300 <= (count_rows(Source(str(corpus / "a.csv"))) or 0) <= 330  # line ends inside of fields
    assert count_rows(Source("owner/name", "hub")) is None


def test_of_many_files_the_total_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(90):
        (tmp_path / f"{number:02}.jsonl").write_text('{"text": "a"}\n' * (number % 2 + 1), encoding="utf-8")
    opened: list[Source] = []
    monkeypatch.setattr(corpus_module, "count_rows", lambda source: opened.append(source) or count_rows(source))

    def total(pattern: str) -> int | None:
        opened.clear()
        sources = corpus_module.sources_of(Source(str(tmp_path / pattern)))
        return corpus_module._total(corpus_module.Corpus(sources, "text", (), 10))

    assert total("[0-3]?.jsonl") == 60 and len(opened) == 40
    assert 90 <= (total("*.jsonl") or 0) <= 180 and len(opened) <= corpus_module.COUNTED_FILES


@pytest.mark.slow("subprocess")
def test_the_command_says_what_it_did(model: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(model), str(corpus / "*.jsonl"), "-o", str(corpus / "out"), "--cpus", "1", "--json"]
    done = subprocess.run([sys.executable, "-m", "runner", *arguments], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["rows"] == 200 and said["out"] == str(corpus / "out") and sum(said["labels"].values()) <= 200
    assert main([*arguments, "--abstain-below", "7"]) == 2
    assert "expected a probability from 0 to 1, got '7'" in capsys.readouterr().err


def test_what_is_said_in_the_end_is_whole_without_labels_and_rate() -> None:
    blank: dict[str, Any] = {"rows": 2, "labels": {}, "abstained": 2, "reused": 0, "texts_per_second": None, "out": "o"}
    assert labelled(blank) == "2 texts: no label; 2 abstained\noutput: o"
    again = blank | {"rows": 2000, "labels": {"b": 1500, "a": 500}, "abstained": 0, "reused": 1000}
    assert labelled(again | {"texts_per_second": 9.96}) == (
        "2,000 texts: a 500, b 1,500; 0 abstained; 10.0 texts/s\n1,000 were labelled already\noutput: o"
    )


@pytest.mark.slow("subprocess")
def test_killed_at_a_random_moment_it_goes_on(model: Path, tmp_path: Path) -> None:
    texts = [f"Sales of unit {n} rose." for n in range(30_000)]
    (tmp_path / "big.csv").write_text("text\n" + "\n".join(texts) + "\n")
    command = [
        sys.executable,
        "-m",
        "runner",
        "predict",
        str(model),
        str(tmp_path / "big.csv"),
        "-o",
        str(tmp_path / "out"),
    ]
    command += ["--part-rows", "1000", "--cpus", "1", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list((tmp_path / "out").glob("*.parquet"))) < 3:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / "out").glob("*.parquet"))) >= 3
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 30_000 and found["reused"] >= 3000
    assert [row["text"] for row in written(tmp_path / "out")] == texts


def test_the_stage_forgets_what_it_replaces(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    for name, folder in ("one", "applied/a"), ("two", "applied/b"):
        run.child("apply", name).finish({"summary": {"folder": folder}})
    apply._unmark(run, "applied/a")
    assert run.child("apply", "one").done is None and run.child("apply", "two").done is not None


@pytest.mark.slow("ray")
def test_rows_are_counted_as_applied_or_as_reused(
    model: Path, corpus: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(Cluster, "count", lambda self, metric, amount, **labels: counted.update({metric: amount}))
    for applied, reused in ((900, 0), (900, 900)):
        predict(options(model, corpus), cluster, silent())
        assert counted["tutelage_rows_applied_total"] == applied
        assert counted["tutelage_rows_reused_total"] == reused
