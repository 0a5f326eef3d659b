"""The price table: the one that ships, one's own, and mistakes with their places."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from runner.planning.files import check_files
from runner.spec import load_spec
from runner.spec.prices import SHIPPED, load_prices, prices_of
from runner.system.errors import SpecError

SPEC = """version: 1
name: reviews
task: {labels: [good, bad]}
data:
  train: {path: train.csv}
  test: {path: test.csv, label: label}
teacher: {model: org/teacher}
benchmark: {prices: prices.yaml}
"""
ROW = "  - {name: A, input_usd: 0.5, output_usd: 2, date: 2026-01-02, source: their page}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC)
    Path("train.csv").write_text("text\nFine.\n")
    Path("test.csv").write_text("text,label\nFine.,good\nAwful.,bad\n")
    return tmp_path


def problems(table: str | None) -> list[str]:
    if table is not None:
        Path("prices.yaml").write_text(table)
    with pytest.raises(SpecError) as caught:
        check_files(load_spec("spec.yaml"))
    return [str(problem).replace(f"{Path.cwd()}/", "") for problem in caught.value.problems]


def test_the_table_that_ships_is_dated_and_sourced() -> None:
    table = load_prices(SHIPPED)
    assert len({price.name for price in table.apis}) == len(table.apis)
    for row in (*table.apis, *table.published):
        date.fromisoformat(row.date)
        assert "https://" in row.source
    student, gpt35, gpt4 = table.published
    assert (student.usd, gpt35.usd, gpt4.usd) == (2.7, 153, 3061)
    assert (student.kg_co2, gpt35.kg_co2, gpt4.kg_co2) == ((0.12,), None, (735, 1100))


def test_a_table_of_ones_own() -> None:
    Path("prices.yaml").write_text("apis:\n" + ROW)
    spec = load_spec("spec.yaml")
    check_files(spec)
    table = prices_of(spec)
    assert [(row.name, row.input_usd, row.output_usd) for row in table.apis] == [("A", 0.5, 2.0)]
    assert isinstance(table.apis[0].output_usd, float) and table.published == ()
    assert prices_of(load_spec("spec.yaml", ["benchmark.prices=null"])) == load_prices(SHIPPED)


def test_mistakes_have_their_place() -> None:
    assert problems("apis:\n  - {name: A, input_usd: -1, output: 2, date: today}\npublisched: []\n") == [
        "prices.yaml:2:5: apis.0: the key 'output_usd' is missing",
        "prices.yaml:2:5: apis.0: the key 'source' is missing",
        "prices.yaml:2:26: apis.0.input_usd: must be at least 0, found the number -1",
        "prices.yaml:2:30: apis.0: unknown key 'output' (did you mean 'output_usd'?)",
        "prices.yaml:2:47: apis.0.date: expected a day such as 2026-07-30, found the text 'today'",
        "prices.yaml:3:1: unknown key 'publisched' (did you mean 'published'?)",
    ]
    assert problems("published: []\n") == [
        "prices.yaml:1:1: the key 'apis' is missing: a list of rows with name, input_usd, output_usd, date and source"
    ]
    assert problems("apis: &all []\n") == ["prices.yaml:1:7: apis: the anchor '&all' is not allowed: write values out"]
    assert problems("[]") == ["prices.yaml:1:1: a price table is a mapping that starts with apis:, found an empty list"]
    assert problems("") == ["prices.yaml:1:1: a price table is a mapping that starts with apis:, found nothing"]


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = problems(None)
    assert only.startswith("prices.yaml: there is no such file")
    Path("spec.yaml").write_text(SPEC.replace("prices.yaml", "'${TUTELAGE_MONEY}/prices.yaml'"))
    monkeypatch.delenv("TUTELAGE_MONEY", raising=False)
    (only,) = problems(None)
    assert only.startswith("spec.yaml:8:21: benchmark.prices: the environment variable TUTELAGE_MONEY is not set")
    monkeypatch.setenv("TUTELAGE_MONEY", str(Path.cwd()))
    Path("prices.yaml").write_text("apis:\n" + ROW)
    check_files(load_spec("spec.yaml"))
