"""``report.html``: well formed, self-contained, and deaf to what the data says."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from runner.report import training_plots
from runner.report.build import build_report
from runner.report.limits import limits
from runner.report.result_table import result_table
from runner.report.text import flat, moment, money, number, seconds
from runner.system.sanitize import clean

pytestmark = pytest.mark.slow("long")  # all of it together: seconds

VOID = {"meta", "link"}


class Page(HTMLParser):
    """Reads a page and notes what stands in it; fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.ids, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def all(self, *names):
        return [attrs for tag, attrs in self.tags if tag in names]


def page_of(run):
    html = build_report(run.read, run.exists)[1]
    return html, Page(html)


@pytest.fixture
def hostile_run(folder, hostile):
    run = folder(texts=hostile)
    run.info["spec_text"] += "\n# " + " ".join(hostile)
    run.summaries["label"]["failures_by_reason"] = {hostile[0]: 1}
    run.summaries["vote"]["abstained_by_reason"] = {hostile[1]: 3}
    run.summaries["load"]["warnings"] = hostile[:3]
    run.summaries["train"]["model"] = hostile[0]
    run.info["versions"] = {hostile[1]: hostile[0]}
    run.info["hardware"]["cpu"] = hostile[2]
    run.info["hardware"]["gpus"] = [{"name": hostile[0]}]
    return run.write()


@pytest.mark.slow("long")
@pytest.mark.parametrize("teacher", ["vllm", "recorded"])
def test_page_holds_every_part(folder, teacher):
    run = folder() if teacher == "vllm" else folder().recorded()
    _, page = page_of(run.write())
    for part in (
        "Quality",
        "Speed and cost",
        "Rows worth a look",
        "What these figures do not say",
        "The run",
    ):
        assert part in page.text
    says = [plot["aria-label"] for plot in page.all("svg")]
    starts = [
        "Confusion matrix of the teacher",
        "Confusion matrix of the student",
        "Reliability",
        "Class shares",
    ]
    starts += ["Cost of a million", "The student's texts per second", "Loss by epoch", "Agreement by epoch"]
    assert all(text.startswith(start) for text, start in zip(says, starts, strict=True)), says
    for shown in (
        "duplicate",
        "longer than the context",
        "unusable answer",
        "AMD EPYC 9R14",
        "2.60.0",
        "# A small run.",
    ):
        assert shown in page.text
    assert ("The longest texts" in page.text) == (teacher == "vllm")
    assert ("cost not known" in page.text) == (teacher == "recorded")


def test_page_is_self_contained(hostile_run):
    html, page = page_of(hostile_run)
    assert "<script" not in html.lower()
    assert "http://" not in re.sub(r"<bdi>.*?</bdi>", "", html, flags=re.S)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base"})
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "srcset", "action"):
            assert (attrs.get(name) or "#")[0] == "#" or attrs[name] == "data:,"
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    policy = next(attrs for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_hostile_texts_are_shown_as_text(hostile_run, hostile):
    html, page = page_of(hostile_run)
    assert hostile[0] in page.text and hostile[1] in page.text and "{{ 7 * 7 }}" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", html)
    assert "a NUL \u2400 and an escape \u241b[31m" in page.text
    for turned in re.finditer("\u202e", html):
        assert html.rfind("<bdi>", 0, turned.start()) > html.rfind("</bdi>", 0, turned.start())
    table, _, spec = html.partition("<pre")
    assert "w" * 300 + "…" in table and "w" * 301 not in table
    assert "w" * 100_000 in spec
    assert len(html.encode()) < 400_000


@pytest.mark.filterwarnings("error")
def test_labels_from_data_reach_the_plots_as_text(folder):
    labels = ["<script>alert(1)</script>", 'id="#0a0b0c" $x^2$ url(#a)', "\u202eleft", "日本語", "a" * 100]
    html, page = page_of(folder(labels=labels).write())
    assert "<script" not in html
    plots = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.S))
    assert "&lt;script&gt;" in plots and "日本語" in plots and 'id="#0a0b0c" $x' in plots
    assert "\u202e" not in plots
    assert len(page.all("svg")) == 8


@pytest.mark.filterwarnings("error")
def test_many_labels(folder):
    _, page = page_of(folder(labels=[f"class {k}" for k in range(50)], test=400).write())
    assert len(page.all("svg")) == 8


def test_page_is_accessible(folder):
    _, page = page_of(folder().write())
    assert len(page.ids) == len(set(page.ids))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in page.all("svg"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


@pytest.mark.slow("long")
def test_plots_follow_the_pages_colours_and_their_own_ids(folder):
    html, page = page_of(folder().write())
    plots = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    for plot in plots:
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", plot)) == set()
        assert "var(--ink)" in plot or "var(--muted)" in plot
        for target in re.findall(r'(?:href="|url\()#([^")]+)', plot):
            assert target in page.ids


@pytest.mark.slow("long")
def test_same_figures_same_bytes(folder):
    run = folder().write()
    assert build_report(run.read, run.exists) == build_report(run.read, run.exists)


def test_sparse_run(folder):
    """A run of one epoch with only what must be there."""
    run = folder()
    run.summaries["train"] = {"rows": 10, "held_out": 0, "history": [], "best_epoch": None}
    run.summaries["label"] = {"rows": 10, "failures": 0}
    run.summaries["vote"] = {"rows": 10, "abstained": 0}
    run.summaries["load"] = {"train": 300, "test": 140}
    run.benchmark["student"].update(throughput=[], peak_memory_mb=None, usd_per_million=0.0)
    run.benchmark["teacher"]["usd_per_million"] = 0.0
    run.info.update(versions={}, hardware={}, spec_text="")
    run.write()
    run.file("vote", "votes.parquet").unlink()
    run.file("evaluate", "predictions.parquet").unlink()
    _, page = page_of(run)
    assert "Nothing was dropped, nothing failed" in page.text
    assert len(page.all("svg")) == 5
    assert "most confident mistakes" not in page.text


def test_words_for_figures():
    assert [number(x) for x in (0, 0.01234, 2.55, 612.4, 1234.5, None)] == [
        "0",
        "0.0123",
        "2.55",
        "612",
        "1,234",
        "\u2013",
    ]
    assert [money(x) for x in (0.0, 0.0012, 0.272, 65.358, 1234.5)] == [
        "0.00",
        "0.0012",
        "0.27",
        "65.36",
        "1,234",
    ]
    assert [seconds(x) for x in (0.4, 59.97, 75.2, 3599.7, 7380)] == [
        "0.40 s",
        "1 min 0 s",
        "1 min 15 s",
        "1 h 0 min",
        "2 h 3 min",
    ]
    assert moment("2025-03-01T14:05:31+00:00") == "2025-03-01 14:05 UTC"
    assert moment("yesterday") == "yesterday"
    assert clean("a\x00\r\nb\tc\x85\ufffe\U0001ffff") == "a\u2400\nb\tc\ufffd\ufffd\ufffd"
    assert flat("a\n\u202eb\u2066") == "a \ufffdb\ufffd"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium on the PATH: apt-get install chromium")
@pytest.mark.parametrize("size", [(1200, 2200), (400, 2200)], ids=["desk", "phone"])
def test_browser_shows_it_without_complaint(hostile_run, tmp_path, size):
    html, _ = page_of(hostile_run)
    page, picture = tmp_path / "report.html", tmp_path / "shot.png"
    page.write_text(html, encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0"
    command = [
        "chromium",
        *options.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={picture}",
    ]
    command += [f"--window-size={size[0]},{size[1]}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Refused to" in line]
    assert done.returncode == 0 and not complaints, done.stderr[-3000:]
    pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
    assert pixels.shape == (size[1], size[0])
    # Something is drawn in every tenth of the page, and down to its last column no text runs out of it.
    assert all(band.std() > 3 for band in np.array_split(pixels, 10))
    assert pixels[:, -4:].std() < 3


WIDTHS = (400, 1200, 1900)
MEASURE = """
const report = document.querySelector("pre"), found = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, whole = page.documentElement;
  for (const box of [whole, ...page.querySelectorAll(".scroll, pre, .strip > div, .verdict, .hint, td.n, li")])
    if (box.scrollWidth > box.clientWidth + 1)
      found.push([frame.width, box.getAttribute("aria-label") || box.className || box.tagName, box.scrollWidth]);
}
report.textContent = JSON.stringify(found);
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium on the PATH: apt-get install chromium")
@pytest.mark.parametrize("labels", [3, 26], ids=["few labels", "many long ones"])
def test_nothing_is_cut_off_at_any_width(folder, tmp_path, labels):
    """No table, plot or line is wider than the card that it stands in; a screen of any width shows the last column."""
    names = [f"card_payment_that_was_declined_abroad_{k}" for k in range(labels)]
    run = folder(labels=names, test=200) if labels > 3 else folder()
    html, _ = page_of(run.write())
    html = re.sub(r"<meta http-equiv[^>]*>", "", html)  # the page's own policy allows no script, and this is one
    source = html.replace("&", "&amp;").replace('"', "&quot;")
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{source}"></iframe>' for width in WIDTHS)
    wrapper = tmp_path / "widths.html"
    script = f"<script>window.onload = () => {{ {MEASURE} }};</script>"
    wrapper.write_text(f"<!DOCTYPE html><pre>nothing</pre>{frames}{script}", encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = ["chromium", *options.split(), f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)[1] == "[]", done.stderr[-2000:]


def test_others_stand_beside_the_student_on_the_rows_that_they_have(folder):
    run = folder()
    truth = run.predictions["label"]
    run.others = {"GPT-4 <b>": truth[:90], "nobody": [None] * 40}
    run.write()
    report, html = build_report(run.read, run.exists)
    page = Page(html)
    assert "GPT-4 <b>90100.0 %100.0 to 100.0 %1.000" in page.text and "<b>" not in html
    assert "nobody400.0 %" in page.text
    student = report["evaluate"]["others"]["nobody"]["student"]["accuracy"]
    assert f"the student {100 * student:.1f} % there; the student is better (p < 0.001)" in result_table(report)


def test_published_figures_stand_beside_ours(folder):
    """Beside the annotator of their name, beside whom the spec names, or beside nobody; each note is said once."""
    run = folder()
    run.others = {"GPT-4": run.predictions["label"]}
    nothing = dict.fromkeys(("beside", "accuracy", "macro_f1", "texts_per_second", "latency_ms", "note", "source"))
    run.info["spec"]["evaluate"] = {
        "published": {
            "GPT-4": nothing | {"accuracy": 0.94, "source": "a paper"},
            "theirs <i>": nothing
            | {"beside": "student", "texts_per_second": 61, "latency_ms": 130, "note": "On a T4.", "source": "a paper"},
            "rate": nothing | {"beside": "teacher", "macro_f1": 0.9, "texts_per_second": 5},
            "GPT-5": nothing | {"accuracy": 0.96},
        }
    }
    run.write()
    report, html = build_report(run.read, run.exists)
    page, teacher = Page(html), report["evaluate"]["teacher"]
    rows = f", {len(run.predictions['label'])} texts"
    assert f"GPT-4accuracy94.0 %100.0 %the same{rows}" in page.text
    assert "theirs <i>texts per second61.0612studentOn a T4." in page.text and "<i>" not in html
    assert "theirs <i>latency, ms1303.12student" in page.text and page.text.count("On a T4.") == 1
    assert f"ratemacro F10.900{teacher['macro_f1']:.3f}teacher{rows}" in page.text
    assert "ratetexts per second5.002.55teacher" in page.text
    assert "GPT-5accuracy96.0 %–" in page.text  # noqa: RUF001 (an en dash)
    assert page.text.count("a paper") == 1
    assert (
        report["published"][0] | {"here": 1.0, "published": 0.94, "beside": "GPT-4", "rows": 140}
        == report["published"][0]
    )


def test_what_was_in_a_batch_is_shown(folder):
    """Also of a machine whose last batches hold as many texts as fit, beside a runtime that has no such batches."""
    run = folder()
    speed = run.benchmark["student"]
    speed["runtimes"] = [{"runtime": "onnx", "throughput": list(speed["throughput"])}]
    speed["throughput"] = [*speed["throughput"], {"batch_size": None, "texts_per_second": 9876.0}]
    for row in speed["throughput"]:
        row["batch"] = {"batches": 9, "rows": min(row["batch_size"] or 51.25, 51.25), "tokens": 2031.0}
    speed |= {
        "runtime": "torch",
        "texts_per_second": 9876.0,
        "batch": speed["throughput"][-1]["batch"],
        "tokens_per_batch": 2048,
    }
    speed["memory_ran_out"] = 2
    run.summaries["train"] |= {"steps": 800, "skipped_steps": 3}
    _, page = page_of(run.write())
    assert "as many as fit51.22,0319,876" in page.text and "12851.22,031585" in page.text
    assert "Its memory ran out 2 times, and batches were halved to 2,048 tokens." in page.text
    assert "The loss scaler skipped 3 of 800 steps, which overflowed." in page.text


def test_the_student_on_other_machines_and_in_other_runtimes(folder):
    run = folder()
    speed = run.benchmark["student"]
    speed |= {"runtime": "onnx-int8", "peak_gpu_memory_mb": None}
    speed["runtimes"] = [
        {"runtime": "torch", "throughput": [row | {"texts_per_second": 77.7} for row in speed["throughput"]]}
    ]
    card = {"hardware": {"gpus": ["Tesla T4"]}, "device": "cuda:0", "precision": "fp16", "runtime": "torch"}
    run.benchmark["elsewhere"] = [
        {**speed, **card, "name": "T4 <b>", "usd_per_million": 0.123, "peak_gpu_memory_mb": 812.0}
    ]
    _, page = page_of(run.write())
    assert "run by onnx-int8" in page.text
    assert page.text.count("77.7") == len(speed["throughput"])
    for said in ("T4 <b>", "Tesla T4, fp16, torch", "0.12", "GPU 812", "student.resources"):
        assert said in page.text, said


@pytest.mark.parametrize(("asked", "chosen"), [("auto", True), ("torch", False)])
def test_where_the_runtime_was_chosen_on_the_test_texts_the_report_says_so(folder, asked, chosen):
    run = folder().write()
    report = build_report(run.read, run.exists)[0]
    report["export"] = {"asked": asked, "runtime": "torch", "runtimes": []}
    assert any("runtime was chosen on the test texts" in said for said in limits(report)) == chosen


def test_without_published_figures_there_is_no_table_of_them(folder):
    run = folder().write()
    report, html = build_report(run.read, run.exists)
    assert report["published"] == [] and "As published" not in html


def test_without_others_nothing_is_said_of_them(folder):
    run = folder().write()
    report, html = build_report(run.read, run.exists)
    assert "Annotator" not in html and "there;" not in result_table(report)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The student was trained on 1 worker, 260 texts per second."),
        ({"workers": 2, "resumes": 1}, "on 2 workers, 260 texts per second; it was interrupted and resumed from a ch"),
        ({"workers": 2, "resumes": 3}, "resumed from a checkpoint 3 times."),
    ],
)
def test_training_is_said_with_its_workers_and_interruptions(folder, changes, said):
    run = folder()
    run.summaries["train"].update(changes)
    assert said in page_of(run.write())[1].text


AVERAGED = {"epochs": 4, "val_loss": 0.4, "val_accuracy": 0.931, "taken": True}
TRIALS = [
    {"settings": {"learning_rate_factor": 1.0, "lowest_rate": 0.2, "batch_size": 16}, "agreement": 0.90},
    {"settings": {"learning_rate_factor": 2.5, "lowest_rate": 0.1, "batch_size": 32}, "agreement": 0.95},
]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "best"}, "out-of-fold predictions of other students"),
        ({"averaged": AVERAGED}, "last 4 epochs, agree with the teacher on 93.1 % of the held-out texts and are kept"),
        (
            {"averaged": AVERAGED | {"taken": False}},
            "on 93.1 % of the held-out texts and agree less than those of the best epoch, so they are discarded",
        ),
        (
            {"search": {"trials": TRIALS, "chosen": 1, "standard_error": 0.02}},
            "2 trainings were tried with other settings; the one with learning rate factor 2.5, lowest rate 0.1, batch "
            "size 32 was better by more than a standard error, and is used (agreement 95.0 %, standard error 2.0 %)",
        ),
        ({"search": {"trials": TRIALS, "chosen": 0, "standard_error": 0.06}}, "so the spec's are used (agreement 90"),
    ],
)
def test_recipes_and_searches_are_said_with_what_came_of_them(folder, changes, said):
    run = folder()
    run.summaries["train"].update(changes)
    assert said in page_of(run.write())[1].text


def test_warnings_of_all_stages_are_shown(folder):
    run = folder()
    run.summaries["vote"]["warnings"] = ["the teacher labelled no train text <b>bad</b>"]
    run.summaries["train"]["warnings"] = ["the only 1 rows of worse are held out"]
    html, page = page_of(run.write())
    assert "<b>bad</b>" not in html
    for said in ("2 texts of train", "no train text <b>bad</b>", "the only 1 rows of worse"):
        assert said in page.text


def test_no_axis_goes_beyond_all() -> None:
    history = [{"epoch": 1, "val_accuracy": 0.66}, {"epoch": 2, "val_accuracy": 1.0}]
    shown = re.findall(r"(\d+)\s?%<", training_plots.agreement(history, 2))
    assert max(map(int, shown)) == 100
