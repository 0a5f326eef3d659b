"""What the report, the terminal and the cards say: no more than the figures bear, legible at any width."""

import json
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_folders import RunFolder

sys.path[:0] = [str(Path(__file__).parents[2] / "bench")]

from runner.economics.arithmetic import Asked, OneOff, work_out  # noqa: E402
from runner.publish.cards import build_cards  # noqa: E402
from runner.report.build import show  # noqa: E402
from runner.report.gather import gather  # noqa: E402
from runner.report.result_table import result_table  # noqa: E402
from runner.report.summary import summarise  # noqa: E402
from runner.report.verdict import verdict  # noqa: E402
from runner.spec.prices import SHIPPED, load_prices  # noqa: E402
from runner.student import timing  # noqa: E402
from runner.tasks.single_label.wording import worse_by_at_most  # noqa: E402

REPORT_ASKED = Asked("direct", 1, 245.0, 3, "counted")
REPORT_PRICED = OneOff(0.02, 0.01, 0.0)


def report_run(tmp_path, student=0.27, teacher=65.36, one_off=REPORT_PRICED, **options):
    """A run folder with economics, not yet written; prices None: nobody gave one."""
    run = RunFolder(tmp_path / "run", **options)
    bench, table = run.benchmark, load_prices(SHIPPED)
    for who, usd in (("student", student), ("teacher", teacher)):
        bench[who] |= {"usd_per_million": usd, "price_per_hour": None if usd is None else 0.6}
        bench[f"{who}_usd"] = usd
    bench["economics"] = work_out(one_off, student, teacher, [REPORT_ASKED], table.apis)
    bench["economics"]["published"] = asdict(table)["published"]
    bench["student"]["hardware"] = {"cpu": "AMD EPYC 9R14", "cores": 2, "gpus": []}
    run.info["spec"] |= {"data": {}, "teacher": {"model": "catalog:qwen2.5-coder-1.5b-instruct"}, "student": {}}
    return run


def report_worse(run, every=4):
    """Have the teacher right everywhere, and the student wrong on each so-many-th row."""
    rows, labels = run.predictions, run.labels
    rows["teacher_label"] = list(rows["label"])
    wrong = [labels[(labels.index(label) + 1) % len(labels)] for label in rows["label"]]
    rows["student_label"] = [
        bad if k % every == 0 else good for k, (good, bad) in enumerate(zip(rows["label"], wrong, strict=True))
    ]
    return run


def report_shown(run):
    """(report.json, report.html, the terminal's table, the model card)"""
    run.write()
    gathered = gather(run.read, run.exists)
    report, page = show(gathered)
    return report, page, result_table(report), build_cards(gathered, report)["cards/model.md"]


def report_of(run):
    """report.json alone: the words are made from it."""
    run.write()
    return summarise(gather(run.read, run.exists))


def report_prose(page):
    """What the page says, without its tables, plots and style."""
    bare = re.sub(r"<(style|table|svg|pre)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


@pytest.mark.slow("long")
def test_02_a_student_that_is_worse_never_breaks_even_with_its_teacher(tmp_path):
    report, page, table, card = report_shown(report_worse(report_run(tmp_path)))
    row = report["benchmark"]["economics"]["rows"][0]
    assert (row["outcome"], row["break_even_texts"], row["student_is"]) == ("worse", None, "worse")
    assert "none: the student is significantly worse" in page
    said = verdict(report)
    assert (
        "The teacher is better, and that is statistically significant (McNemar p < 0.001), but the student is" in said
    )
    for text in (said, report_prose(page), table, card):
        assert "earns back" not in text and " pays" not in text
        assert not re.search(r"breaks even after [^.]* (with|against) its teacher", text)
    assert "against teacher" not in page


def test_02_as_good_a_student_breaks_even_in_the_sentence_that_says_so(tmp_path):
    report = report_of(report_run(tmp_path))
    assert report["benchmark"]["economics"]["rows"][0]["outcome"] == "pays"
    (sentence,) = [one for one in verdict(report).split(". ") if "earns back" in one]
    assert "not statistically significant" in sentence and "0.27 USD instead of 65.36 USD" in sentence


@pytest.mark.parametrize("every", [1, 4, 1000])
@pytest.mark.parametrize(("student", "teacher"), [(0.27, 65.36), (70.0, 65.36), (0.27, None), (0.0, 0.0)])
def test_02_each_sentence_on_money_has_quality_in_it(tmp_path, every, student, teacher):
    run = report_worse(report_run(tmp_path, student, teacher), every)
    sentences = verdict(report_of(run)).replace("its teacher on", "").split(". ")
    money = [one for one in sentences if "USD" in one or "breaks even" in one]
    assert money
    for one in money:
        assert "significant" in one or "exactly the same texts" in one or "quality was not measured" in one, one


@pytest.mark.parametrize("every", [4, 1000])
def test_02_without_a_price_no_money_is_told_of_student_and_teacher(tmp_path, every):
    run = report_worse(report_run(tmp_path, None, None, OneOff(None, None, 0.0)), every)
    report, page, table, card = report_shown(run)
    assert "USD" not in table and "USD" not in verdict(report) and "USD" not in card
    assert "USD" not in report_prose(page) and "Cost of a million" not in page
    assert "What the student cost once" not in page and "Total cost by number" not in page
    assert "no price for its machine" in page
    assert {row["outcome"] for row in report["benchmark"]["economics"]["rows"]} == {"unknown"}


def test_02_a_price_for_the_teacher_alone_says_nothing_of_the_students_cost(tmp_path):
    report, page, table, _ = report_shown(report_run(tmp_path, None, 65.36, OneOff(3.0, None, 0.0)))
    assert "USD" not in verdict(report)
    cost = next(line for line in table.splitlines() if line.startswith("USD per million"))
    assert cost.split()[-2:] == ["65.36", "–"]  # noqa: RUF001 (an en dash)
    assert "None" not in report_prose(page)


def test_02_no_difference_on_few_texts_says_how_much_worse_it_may_be(tmp_path):
    report = report_of(report_worse(report_run(tmp_path, test=20), every=5))
    assert report["evaluate"]["mcnemar"]["p"] == 0.125
    assert "with 95 % confidence the student is at most 33.6 points worse" in verdict(report)


@pytest.mark.parametrize(
    ("teacher", "student", "rows", "most"), [(0, 0, 100, 0.016), (50, 50, 1000, 0.0165), (0, 20, 100, 0.0)]
)
def test_02_the_bound_on_the_difference_is_that_of_agresti_and_min(teacher, student, rows, most):
    found = worse_by_at_most({"rows": rows, "only_a_right": teacher, "only_b_right": student})
    assert found == pytest.approx(most, abs=6e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epochs", [1, 24])
def test_04_the_plots_of_training_stand_above_a_table_with_room(tmp_path, epochs):
    run = report_run(tmp_path)
    history = run.summaries["train"]["history"]
    history = [{**history[k % 4], "epoch": k + 1} for k in range(epochs)]
    run.summaries["train"].update(history=history, best_epoch=1)
    page = report_shown(run)[1]
    assert ("Loss by epoch" in page, "Agreement with the teacher by epoch" in page) == (epochs > 1, epochs > 1)
    before = page[: page.index('aria-label="Training by epoch"')].rsplit("<div", 1)[0]
    opened = len(re.findall(r"<div\b", before[before.rindex("<h2>") :]))
    assert opened == before[before.rindex("<h2>") :].count("</div>"), "the table stands in no column of a grid"


def test_04_labels_that_begin_alike_are_told_apart_on_the_plots(tmp_path):
    labels = [f"card_payment_declined_{k}" for k in range(20)]
    page = report_shown(report_run(tmp_path, labels=labels, test=300))[1]
    names = re.findall(r">(card_…[^<]+|card_p[^<]*…)<", page)
    assert len({name for name in names if name.startswith("card_…")}) == 20
    assert "most frequent confusions" in page


@pytest.mark.slow("long")
@pytest.mark.filterwarnings("error")
def test_04_very_many_labels_make_no_plot_that_nobody_can_read(tmp_path):
    labels = [f"label {k}" for k in range(120)]
    _, page, *_ = report_shown(report_run(tmp_path, labels=labels, train=300, test=300))
    assert len(page) < 300_000
    assert "the classes that it confuses most often" in page and "right on the diagonal" not in page
    assert "120 labels: the figures show those that matter most" in page


@pytest.mark.slow("long")
def test_150_labels_are_told_by_their_pairs_and_by_a_folded_table_the_worst_first(tmp_path):
    labels = [f"label {k}" for k in range(150)]
    run = report_run(tmp_path, labels=labels, train=300, test=1200)
    report, page, *_ = report_shown(run)
    counted = Counter(zip(run.predictions["label"], run.predictions["student_label"], strict=True))
    texts = sorted((count for (truth, said), count in counted.items() if truth != said), reverse=True)[:30]
    pairs = page[page.index('aria-label="Most frequent confusions"') :].split("</table>")[0]
    shown = re.findall(
        r'<tr><th scope="row"><bdi>(.*?)</bdi>.*?<bdi>(.*?)</bdi>.*?data-label="Texts">(\d+)<', pairs, re.DOTALL
    )
    assert [int(count) for _, _, count in shown] == texts
    assert all(counted[truth, said] == int(count) for truth, said, count in shown)
    classes = page[page.index('aria-label="Figures by class"') :].split("</table>")[0]
    assert "<details>" in classes and "<details open" not in classes, "many classes are folded"
    named = re.findall(r'<tr><th scope="row"><bdi>(.*?)</bdi>', classes)
    figures = report["evaluate"]["student"]["per_class"]
    assert sorted(named) == sorted(label for label in labels if figures[label]["support"])
    assert [figures[name]["f1"] for name in named] == sorted(figures[name]["f1"] for name in named)


def test_up_to_20_labels_keep_their_matrix_and_an_open_table(tmp_path):
    labels = [f"label {k}" for k in range(20)]
    page = report_shown(report_run(tmp_path, labels=labels, train=300, test=300))[1]
    assert "right on the diagonal" in page
    assert "<details>" not in page[page.index('aria-label="Figures by class"') :].split("</table>")[0]


@pytest.mark.slow("long")
@pytest.mark.parametrize(
    ("p50", "p95", "again", "said"),
    [
        (10.0, 344.0, None, "one text in twenty took 34 times as long as the median"),
        (10.0, 344.0, 28.0, "the same text took up to 28 times as long"),
        (10.0, 80.0, 1.2, None),  # long texts on an idle machine
        (3.1, 4.1, None, None),
    ],
)
def test_04_a_busy_machine_is_said_in_terminal_and_report(tmp_path, p50, p95, again, said):
    run = report_run(tmp_path)
    run.benchmark["student"] |= {"latency_ms": {"p50": p50, "p95": p95, "p99": p95}, "latency_repeat_p95": again}
    _, page, table, card = report_shown(run)
    for text in (page, table, card):
        assert ("The machine was busy while speed was measured" in text) == (said is not None)
        assert said is None or said in text


@pytest.mark.parametrize(("pause", "busy"), [(0.0, False), (0.02, True)])
def test_04_the_same_text_is_timed_twice(monkeypatch, pause, busy):
    class Student:
        calls = 0

        def predict(self, texts):
            """Long texts take long, always; in the second pass one call in five waits for somebody else."""
            self.calls += 1
            clock[0] += 0.0005 * len(texts[0]) + (pause if self.calls % 5 == 0 and self.calls > 100 else 0)

    clock = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    found = timing._latency(Student(), ["a", "b" * 8] * 3)
    assert found["latency_runs"] == 200 and found["latency_ms"]["p95"] > 3
    assert found["latency_repeat_p95"] == (pytest.approx(41, rel=0.01) if busy else pytest.approx(1))


def test_26_a_share_of_the_matrix_rate_is_never_above_one():
    from share import share_of

    assert share_of(2.0, 100.0, [150.0, 400.0, 300.0]) == 0.5
    assert share_of(5.0, 100.0, [400.0, 300.0]) is None


def test_26_word_vectors_are_no_work_and_the_head_reads_one_token(tmp_path):
    from share import work_of

    config = {"vocab_size": 1000, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3}
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    attention = 4 * 3 * 8 * 10 * (20 + 5)
    assert work_of(tmp_path / "config.json", 9_000, 10, 20) == 2 * 1000 * 10 + 2 * 8000 + attention
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert work_of(tmp_path / "config.json", 17_000, 10, 20) == 2 * 1000 * 10 + 2 * 8000 + attention


def test_26_results_are_kept_by_machine_and_number_of_rows(tmp_path, monkeypatch):
    import common

    out = tmp_path / "teacher.json"
    result = {"name": "direct", "ours": 8.0, "peer": 1.6, "ratio": 5.0, "rounds": 3, "rows": 96}
    common.keep([result], out, {"direct": 3.0})
    common.keep([result | {"rows": 32}, result | {"name": "cot"}], out, {"direct": 3.0})
    common.keep([result | {"ours": 9.0}], out, {"direct": 3.0})
    monkeypatch.setattr(common, "machine_name", lambda: "another machine")
    common.keep([result], out, {"direct": 3.0})
    kept = json.loads(out.read_text())
    assert [(one["name"], one["rows"], one["ours"]) for one in kept] == [
        ("direct", 32, 8.0),
        ("cot", 96, 8.0),
        ("direct", 96, 9.0),
        ("direct", 96, 8.0),
    ]
    assert {"name", "ours", "peer", "ratio", "at_least", "rounds", "rows", "machine"} <= kept[0].keys()
    assert [one["at_least"] for one in kept] == [3.0, None, 3.0, 3.0] and "cores" in kept[0]["machine"]


def test_26_the_matrix_rate_is_measured_on_the_thread_that_computes(monkeypatch):
    import threading

    import share

    threads = []
    monkeypatch.setattr(
        share, "matrix_rate", lambda dtype: threads.append((threading.current_thread().name, dtype)) or 1.0
    )

    class Engine:
        """Computes on a thread of its own, as the engine does."""

        @staticmethod
        def tokenizer(text, add_special_tokens):
            return type("Encoded", (), {"input_ids": [5]})

        def submit(self, prompt, request, deliver):
            threading.Thread(target=deliver, args=(None,), name="vllm").start()

    import torch

    assert share.rate_in(Engine(), "float32") == 1.0
    assert threads == [("vllm", torch.float32)]
