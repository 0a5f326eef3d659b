"""What the report says of money: the verdict, the table, the plot, and what stays unknown."""

from dataclasses import asdict

import pytest

from runner.economics.arithmetic import Asked, OneOff, work_out
from runner.report.build import build_report
from runner.report.cost_plots import break_even
from runner.report.economics import about, lines, parts
from runner.report.limits import limits
from runner.report.verdict import verdict
from runner.spec.prices import SHIPPED, Price, load_prices

DIRECT = Asked("direct", 1, 245.0, 3, "counted by the teacher's tokenizer, over this run's own prompts and answers")
COT = Asked("cot", 2.1, 312.0, 61.0, DIRECT.counted)


def with_economics(run, one_off, teacher=65.36, asked=(DIRECT,), apis=None, energy=None):
    """The run folder's benchmark, with what the stage works out today."""
    table = load_prices(SHIPPED)
    student = run.benchmark["student"]
    found = work_out(one_off, student["usd_per_million"], teacher, asked, table.apis if apis is None else apis)
    run.benchmark["economics"] = found | {"published": asdict(table)["published"]}
    student["hardware"] = {"cpu": "AMD EPYC 9R14", "cores": 2, "gpus": []}
    student["energy"] = energy
    return build_report((run := run.write()).read, run.exists)


def test_an_older_report_says_nothing_of_it(folder):
    report, page = build_report((run := folder().write()).read, run.exists)
    assert (lines(report), parts(report), break_even(report)) == ([], [], None)
    assert "earns back" not in verdict(report) and "API" not in verdict(report)
    assert "What a million texts cost" not in page


def test_the_verdict_says_when_the_student_breaks_even(folder):
    report, page = with_economics(folder(), OneOff(0.021, 0.007, 180.0))
    quality, api = verdict(report).removesuffix(".").split(". ")[-2:]
    assert quality.startswith("The difference is not statistically significant (McNemar p = 0.11)")
    assert "(240 times less), which earns back what it cost to make (180 USD) after 2,800,000 texts" in quality
    assert "GPT-5.6 Luna, direct, 2026-07-30; its quality was not measured here" in verdict(report)
    assert api.endswith("the student breaks even after 3,500,000 texts")
    assert "Total cost by number of texts" in page and "What the student cost once" in page
    assert "The student breaks even after 71,000 texts against GPT-4 Turbo (0125-preview); " in page


def test_a_dear_student_never_breaks_even_and_that_is_said(folder):
    run = folder()
    run.benchmark["student"]["usd_per_million"] = 70.0
    cheap = Price(name="Cheap", input_usd=0.1, output_usd=0.1, date="2026-01-02", source="s")
    report, page = with_economics(run, OneOff(1.0, 1.0, 0.0), apis=[cheap])
    assert "the student is not cheaper: it never breaks even; a million texts cost 70.00 USD with" in verdict(report)
    assert "the student never breaks even: the API costs no more." in verdict(report)
    assert break_even(report) is None and "Total cost by number of texts" not in page
    never = "never: it costs no more"
    assert [line.pays for line in lines(report)][:4] == ["", never, never, "not known"]


def test_what_is_not_known_is_not_zero(folder):
    report, _ = with_economics(folder().recorded(), OneOff(None, 2.0, 0.0), teacher=None)
    assert "the student breaks even after at least 39,000 texts (making it cost at least 2.00 USD)." in verdict(report)
    assert "USD with the student; with the teacher is not known." in verdict(report)
    assert parts(report) == [
        ("labelling", "not known"),
        ("training", "2.00"),
        ("review by people", "0.00"),
        ("together", "at least 2.00"),
    ]
    teacher = lines(report)[1]
    assert (teacher.usd, teacher.note, teacher.pays) == ("–", "not measured", "not known")  # noqa: RUF001
    assert any("What labelling cost is not known" in limit for limit in limits(report))


def test_the_table_has_each_api_in_two_ways_and_the_published_figures(folder):
    energy = {
        "kwh": 0.0479,
        "kg_co2": 0.0182,
        "seconds": 10.04,
        "cpu_method": "estimate: design power times load",
        "tool": "codecarbon 3.3.2",
    }
    report, page = with_economics(folder(), OneOff(0.02, 0.01, 0.0), asked=(DIRECT, COT), energy=energy)
    student, _, *rest = lines(report)
    assert (student.note, student.kwh, student.co2) == ("AMD EPYC 9R14, 2 cores, 612 texts/s", "0.0479", "0.018")
    assert [line.note for line in rest[:2]] == [
        "direct: 245 tokens in, 3 out",
        "chain of thought: 2.10 x 312 tokens in, 61 out",
    ]
    assert [(line.name, line.usd, line.co2) for line in rest[-3:]] == [
        ("as published: RoBERTa-base student, T4", "2.70", "0.12"),
        ("as published: GPT-3.5", "153", "–"),  # noqa: RUF001
        ("as published: GPT-4", "3,061", "735 to 1,100"),
    ]
    assert "https://huggingface.co/blog/synthetic-data-save-costs" in page
    assert any(
        "codecarbon 3.3.2 over 10 s" in limit and "counts the whole machine" in limit for limit in limits(report)
    )


@pytest.mark.filterwarnings("error")
def test_foreign_names_stay_text_and_many_apis_fit(folder, hostile):
    apis = [
        Price(
            name=(hostile[k % 2] + str(k))[:80], input_usd=k + 1.0, output_usd=1.0, date="2026-01-02", source=hostile[0]
        )
        for k in range(50)
    ]
    report, page = with_economics(folder(), OneOff(1.0, 1.0, 0.0), apis=apis)
    assert "<script" not in page and "<img" not in page
    assert len(lines(report)) == 2 + 2 * 50 + 3
    assert break_even(report).count(" texts against ") == 5


@pytest.mark.parametrize(
    ("texts", "said"), [(0, "0"), (7, "7"), (99, "99"), (100, "100"), (431, "440"), (2_754_001, "2,800,000")]
)
def test_numbers_of_texts_are_rounded_up(texts, said):
    assert about(texts) == said
