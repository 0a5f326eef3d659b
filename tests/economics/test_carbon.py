"""Energy by codecarbon: real figures, no network, no file, no word."""

from __future__ import annotations

import logging
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.economics import carbon
from runner.planning.files import check_files
from runner.system.errors import SpecError, UserError


def busy() -> int:
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        pass
    return 500


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No network, an empty working folder, and settings that would send, write and say everything."""
    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    settings = {
        "EMISSIONS_ENDPOINT": "http://127.0.0.1:9",
        "ELECTRICITYMAPS_API_TOKEN": "token",
        "OUTPUT_METHODS": "csv,api",
        "LOG_LEVEL": "debug",
        "PUE": "7",
        "ALLOW_MULTIPLE_RUNS": "False",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"CODECARBON_{name}", value)
    return asked


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(
    ("given", "grams"),
    [({}, None), ({"grams_per_kwh": 400.0}, 400.0), ({"country": "DEU"}, 380.95)],
)
def test_energy_and_co2_of_a_million_texts(
    given: dict[str, Any],
    grams: float | None,
    cut_off: list[Any],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        found = carbon.energy_of(busy, **given)
    assert not cut_off and not list(Path.cwd().iterdir())
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
    assert found["kwh"] > 0
    assert found["kwh"] == pytest.approx(found["cpu_kwh"] + found["gpu_kwh"] + found["ram_kwh"])
    # A machine of 1 W to 10 kW, at work for 0.3 s or a little more, on 500 texts.
    watts = found["kwh"] * 3.6e6 * found["texts"] / 1e6 / found["seconds"]
    assert 1 < watts < 10_000
    assert found["texts"] == 500 and found["seconds"] >= 0.3
    assert found["cpu_method"] in (carbon.COUNTERS, carbon.DESIGN_POWER)
    if grams is None:
        assert found["kg_co2"] is None and found["grams_per_kwh"] is None
    else:
        assert found["grams_per_kwh"] == pytest.approx(grams, rel=0.2)  # a newer codecarbon may have newer figures
        assert found["kg_co2"] == pytest.approx(found["kwh"] * found["grams_per_kwh"] / 1000)


@pytest.mark.slow("subprocess")
def test_work_that_fails_ends_the_watch() -> None:
    def fail() -> int:
        raise UserError("benchmark.nothing-measured", "broken")

    with pytest.raises(UserError, match="broken"):
        carbon.energy_of(fail)


@pytest.mark.slow("subprocess")
def test_a_country_without_figures_is_said_before_anything_runs(job: Any) -> None:
    check_files(job.spec("benchmark.carbon.country=DEU"))
    check_files(job.spec("benchmark.carbon={}"))
    with pytest.raises(SpecError) as caught:
        check_files(job.spec("benchmark.carbon.country=DEX"))
    assert "codecarbon has no figures for 'DEX': give grams_per_kwh instead" in str(caught.value)
    with pytest.raises(UserError, match="no figures for 'DEX'"):
        carbon.energy_of(busy, country="DEX")


def test_codecarbon_that_is_not_installed(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    check_files(job.spec())
    with pytest.raises(SpecError, match=r"carbon: codecarbon is not installed: pip install 'tutelage\[carbon"):
        check_files(job.spec("benchmark.carbon={grams_per_kwh: 1}"))
    with pytest.raises(UserError, match="codecarbon is not installed"):
        carbon.energy_of(busy)
