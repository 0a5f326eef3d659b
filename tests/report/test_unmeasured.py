"""Where nobody has labelled a text, nothing is claimed of quality, and the next step is named."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_honest_report import report_run, report_shown

from runner.publish.cards import build_cards
from runner.report.build import show
from runner.report.gather import gather

NUMBER_OF_QUALITY = re.compile(r"accuracy\W{1,40}\d|macro F1|95 % interval|McNemar|replaces its teacher", re.IGNORECASE)


def unmeasured(tmp_path: Path, held_out: int = 30):
    run = report_run(tmp_path)
    run.write()
    place = run.root / next(
        f"evaluate/{stage['fingerprint']}" for stage in run.info["stages"] if stage["name"] == "evaluate"
    )
    table = pq.read_table(place / "predictions.parquet")
    pq.write_table(table.slice(0, 0), place / "predictions.parquet")
    labels = run.labels
    evaluation = {"labels": labels, "rows": 0, "student_agrees_with_teacher": None, "others": {}}
    (place / "evaluate.json").write_text(
        json.dumps(evaluation | {"held_out": {"rows": held_out, "agree": held_out // 2}})
    )
    return run


@pytest.fixture
def shown(tmp_path: Path):
    run = unmeasured(tmp_path)
    gathered = gather(run.read, run.exists)
    report, page = show(gathered)
    return report, page, build_cards(gathered, report)


def test_nothing_is_said_of_how_often_anybody_is_right(shown, tmp_path):
    report, page, cards = shown
    from runner.report.result_table import result_table

    for text in (result_table(report), cards["cards/model.md"], cards["cards/data.md"]):
        assert not NUMBER_OF_QUALITY.search(text), NUMBER_OF_QUALITY.search(text)
    body = re.sub(r"<(style|svg).*?</\1>", "", page, flags=re.DOTALL)
    assert not NUMBER_OF_QUALITY.search(re.sub(r"<[^>]+>", " ", body))
    assert report["evaluate"]["rows"] == 0


def test_what_can_be_said_is_said_with_the_next_step(shown):
    report, page, _ = shown
    assert "not measured yet" in page and "tutelage review RUN" in page
    assert "gives its teacher's answer on 50.0 % of 30 held-out training texts" in html.unescape(page).replace(
        "\u00a0", " "
    )
    teacher = report["benchmark"]["economics"]["rows"][0]
    assert teacher["student_is"] is None and teacher["outcome"] == "unmeasured" and teacher["break_even_texts"] is None
    assert "A million texts cost" in html.unescape(page).replace("\u00a0", " "), "cost was measured"


def test_without_held_out_rows_there_is_no_agreement_to_tell(tmp_path):
    run = unmeasured(tmp_path, held_out=0)
    _, page = show(gather(run.read, run.exists))
    assert "nobody has labelled a text" in page and "agrees with the teacher on" not in page


def test_a_measured_run_is_as_it_was(tmp_path):
    report, page, table, card = report_shown(report_run(tmp_path))
    assert "95 % interval" in page and "McNemar" in table and "macro F1" in card
    assert report["review"] is None


def test_a_review_that_found_nothing_but_unclear_texts_leaves_the_report_as_it_was(tmp_path):
    """Before and after it nothing was measured: there is no score to compare."""
    run = unmeasured(tmp_path)
    fingerprint = next(stage["fingerprint"] for stage in run.info["stages"] if stage["name"] == "evaluate")
    info = json.loads((run.root / "run.json").read_text(encoding="utf-8"))
    (run.root / "run.json").write_text(json.dumps(info | {"before": {"evaluate": fingerprint}}), encoding="utf-8")
    correct = {"name": "correct", "fingerprint": "c" * 16, "summary": {"rows": 0}, "seconds": 0.0, "cached": False}
    gathered = gather(run.read, run.exists)
    assert gathered.before is not None
    gathered.summaries["correct"] = correct["summary"]
    report, page = show(gathered)
    assert report["review"]["before"] is None and "not measured yet" in page
