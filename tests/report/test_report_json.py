"""``report.json``, the contract with machines, and the words and table made from it."""

import json

import pytest

from runner.report.build import build_report
from runner.report.gather import gather
from runner.report.limits import limits
from runner.report.result_table import result_table
from runner.report.verdict import paired, verdict
from runner.system.errors import DataError


def report_of(run):
    return build_report(run.read, run.exists)[0]


def test_contract(folder):
    run = folder().write()
    report = report_of(run)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["version"] == 1
    assert report["run"] == "company-news-ffffffff"
    assert report["name"] == "company-news"
    assert {key: report["rows"][key] for key in ("train", "test", "dropped")} == {
        "train": 300,
        "test": 140,
        "dropped": 6,
    }
    assert {key: report["label"][key] for key in ("rows", "seconds", "rows_per_second", "failures", "abstained")} == {
        "rows": 440,
        "seconds": 128.2,
        "rows_per_second": 2.55,
        "failures": 1,
        "abstained": 3,
    }
    evaluation = run.evaluation
    assert report["evaluate"]["teacher"] == evaluation["teacher"]
    assert report["evaluate"]["student"] == evaluation["student"]
    assert report["evaluate"]["mcnemar_p"] == evaluation["mcnemar"]["p"]
    assert report["benchmark"] == run.benchmark
    assert report["stages"][0] == {"name": "load", "fingerprint": "a" * 16, "seconds": 0.41, "cached": True}
    assert [stage["cached"] for stage in report["stages"]] == [True] * 3 + [False] * 3
    assert report["train"]["history"] == run.summaries["train"]["history"]
    assert report["versions"]["ray"] == "2.60.0"
    assert report["hardware"]["cores"] == 2


def test_says_no_path_of_the_machine(folder, tmp_path):
    report, html = build_report((run := folder().write()).read, run.exists)
    assert str(tmp_path) not in html
    assert str(tmp_path) not in json.dumps(report)


def test_figures_that_json_cannot_say_become_null(folder):
    run = folder()
    run.benchmark["student"]["peak_memory_mb"] = float("nan")
    run.summaries["load"]["warnings"] = ["half a pair \ud83d"]
    report = report_of(run.write())
    assert report["benchmark"]["student"]["peak_memory_mb"] is None
    assert json.dumps(report, ensure_ascii=False).encode()


def test_doubtful_and_mistaken_rows(folder, hostile):
    run = folder(texts=hostile).write()
    found = gather(run.read, run.exists)
    assert len(found.doubtful) == len(found.mistaken) == 10
    assert [row.figure for row in found.doubtful] == sorted(row.figure for row in found.doubtful)
    assert {row.text[:8] for row in found.doubtful[:7]} >= {"<script>", "w" * 8}
    assert found.doubtful[0].figure == pytest.approx(0.01)
    assert (found.doubtful[0].given, found.doubtful[0].reason) == (None, "tie")
    chances = found.doubtful[0].chances
    assert [chance for _, chance in chances] == sorted((chance for _, chance in chances), reverse=True)
    assert all(row.given != row.truth for row in found.mistaken)
    assert [row.figure for row in found.mistaken] == sorted((row.figure for row in found.mistaken), reverse=True)
    assert found.mistaken[3].teacher is None


def test_a_student_without_a_mistake_and_a_teacher_without_chances(folder):
    run = folder()
    run.predictions["student_label"] = list(run.predictions["label"])
    run.votes["probabilities"] = [[float("nan")] * 3] * len(run.votes["id"])
    found = gather((run := run.write()).read, run.exists)
    assert (found.doubtful, found.mistaken) == ([], [])


def test_test_rows_are_not_among_the_doubtful(folder):
    run = folder()
    run.votes["split"] = ["test"] * 299 + ["train"]
    run.votes["probabilities"][-1] = [0.2, 0.5, 0.3]
    run.write()
    (row,) = gather(run.read, run.exists).doubtful
    assert row.figure == pytest.approx(0.2)
    assert [label for label, _ in row.chances] == ["neutral", "positive", "negative"]


def test_verdict_says_the_outcome(folder):
    report = report_of(folder().write())
    scores = report["evaluate"]
    said = verdict(report)
    assert f"right on {100 * scores['student']['accuracy']:.1f} % of 140 expert-labelled texts" in said
    assert f"its teacher on {100 * scores['teacher']['accuracy']:.1f} %" in said
    assert said.endswith(
        "The difference is not statistically significant (McNemar p = 0.11), and the student is cheaper: "
        "a million texts cost 0.27 USD instead of 65.36 USD (240 times less)."
    )


@pytest.mark.parametrize(
    ("only_teacher", "only_student", "p", "words"),
    [
        (8, 17, 0.1078, "not statistically significant (McNemar p = 0.11)"),
        (2, 40, 0.00001, "The student is better, and that is statistically significant (McNemar p < 0.001)"),
        (20, 4, 0.0015, "The teacher is better, and that is statistically significant (McNemar p = 0.0015)"),
        (5, 5, 1.0, "not statistically significant (McNemar p = 1; with 95 % confidence the student is at most"),
        (0, 0, 1.0, "right and wrong on exactly the same texts"),
    ],
)
def test_mcnemar_in_words(only_teacher, only_student, p, words):
    test = {"only_a_right": only_teacher, "only_b_right": only_student, "p": p, "rows": 140}
    assert words in paired({"spec": {}, "evaluate": {"mcnemar": test}})


def test_table_is_aligned_and_safe_for_a_terminal(folder):
    run = folder()
    run.summaries["train"]["model"] = "evil\x1b[31m\u202emodel\nwith a second line" + "x" * 300
    table = result_table(report_of(run.write()))
    shown = [line for line in table.splitlines()[2:] if line][:12]
    assert len({len(line) for line in shown}) == 1
    assert not {"\x1b", "\u202e"} & set(table)
    assert "USD per million texts" in table and "65.36" in table
    assert "3.12 / 4.05 ms" in table
    assert "McNemar p" in table


def test_recorded_teacher(folder):
    report = report_of(folder().recorded().write())
    table = result_table(report)
    assert "teacher: 240" not in verdict(report)
    assert verdict(report).endswith("a million texts cost 0.27 USD with the student; with the teacher is not known.")
    cost = next(line for line in table.splitlines() if line.startswith("USD per million"))
    assert cost.split()[-2:] == ["–", "0.27"]  # noqa: RUF001
    assert any("recorded earlier" in limit for limit in limits(report))
    assert report["label"]["seconds"] is None


def test_not_a_run_folder(tmp_path):
    with pytest.raises(DataError, match="run folder"):
        build_report(lambda name: (tmp_path / name).read_bytes(), lambda name: (tmp_path / name).exists())


@pytest.mark.parametrize("stage", ["load", "label", "vote", "train", "evaluate", "benchmark"])
def test_unfinished_stage(folder, stage):
    run = folder().write()
    run.file(stage, "done.json").unlink()
    with pytest.raises(DataError, match=f"{stage}: this stage has not finished"):
        report_of(run)


@pytest.mark.parametrize(
    ("stage", "name", "data"),
    [
        ("evaluate", "evaluate.json", b'{"labels": ['),
        ("evaluate", "evaluate.json", b"[]"),
        ("vote", "votes.parquet", b"PAR1 no more"),
        ("benchmark", "benchmark.json", b"\xff\xfe"),
    ],
)
def test_broken_file(folder, stage, name, data):
    run = folder().write()
    run.file(stage, name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name}: broken"):
        report_of(run)
