"""Texts that are out of scope, in the report and on the model card, where the spec names a label for them."""

from __future__ import annotations

import html
import json
import re

from test_honest_report import report_run

from runner.publish.cards import build_cards
from runner.report.build import show
from runner.report.gather import gather


def test_how_well_they_are_found_is_shown(tmp_path):
    run = report_run(tmp_path)
    run.write()
    fingerprint = next(stage["fingerprint"] for stage in run.info["stages"] if stage["name"] == "evaluate")
    file = run.root / "evaluate" / fingerprint / "evaluate.json"
    evaluation = json.loads(file.read_text(encoding="utf-8"))
    name = evaluation["labels"][0]
    found = {"label": name, "rows": 30, "others": 110, "recall": 0.5, "false_alarms": 0.01, "accuracy_in_scope": 0.9}
    evaluation["teacher"]["out_of_scope"] = found | dict.fromkeys(("recall_at_5", "threshold", "auroc"))
    evaluation["student"]["out_of_scope"] = found | {"recall_at_5": 0.812, "threshold": 0.1, "auroc": 0.957}
    file.write_text(json.dumps(evaluation), encoding="utf-8")
    gathered = gather(run.read, run.exists)
    report, page = show(gathered)
    table = re.search(r'aria-label="Texts that are out of scope".*?</table>', page, re.DOTALL)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", table[0])).split())
    assert "30 of the test texts" in text
    assert (
        "teacher \N{EN DASH} 50.0 % 1.0 % \N{EN DASH} 90.0 %" in text
        and "student 81.2 % 50.0 % 1.0 % 0.957 90.0 %" in text
    )
    assert "| student | 81.2 % | 50.0 % | 1.0 % | 0.957 | 90.0 % |" in build_cards(gathered, report)["cards/model.md"]


def test_a_spec_without_such_a_label_shows_nothing_of_it(tmp_path):
    run = report_run(tmp_path)
    run.write()
    _, page = show(gather(run.read, run.exists))
    assert "out of scope" not in page
