"""Energy and CO2 of a piece of work: the one file that knows codecarbon, kept offline, quiet and without files.

codecarbon reads the processor's own energy counters (RAPL) and NVIDIA's; where RAPL may not be read it takes the
processor's design power times its load. Memory is always estimated from its size. It counts the whole machine.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from runner.system.errors import UserError

MISSING = "codecarbon is not installed: pip install 'tutelage[carbon]', or leave carbon out"
SAMPLE_SECONDS = 1.0
COUNTERS, DESIGN_POWER = "RAPL counters", "estimate: design power times load"


def countries() -> frozenset[str] | None:
    """The countries that codecarbon has figures for, as three letters; None where it is not installed."""
    found = importlib.util.find_spec("codecarbon")  # finds the package without running it
    if found is None or found.origin is None:
        return None
    table = Path(found.origin).parent / "data" / "private_infra" / "global_energy_mix.json"
    return frozenset(json.loads(table.read_text(encoding="utf-8")))


def energy_of(
    work: Callable[[], int], country: str | None = None, grams_per_kwh: float | None = None
) -> dict[str, Any]:
    """What ``work``, which returns the number of texts that it did, takes for a million texts.

    ``kwh`` with its parts ``cpu_kwh``, ``gpu_kwh`` and ``ram_kwh``, and ``kg_co2`` (None without a country or
    ``grams_per_kwh``), all for a million texts; ``grams_per_kwh`` and how it was measured.

    :raises UserError: when codecarbon is not there, measures nothing, or does not know the country.
    """
    tracker = _tracker(country, grams_per_kwh)
    tracker.start()
    start = time.perf_counter()
    try:
        texts = work()
    finally:
        seconds = time.perf_counter() - start
        tracker.stop()
    data = getattr(tracker, "final_emissions_data", None)  # codecarbon swallows its own errors
    if data is None or not data.energy_consumed > 0:
        raise UserError(
            "benchmark.nothing-measured",
            "benchmark.carbon: codecarbon measured nothing on this machine; leave carbon out",
        )
    if country is not None and not data.country_name:
        raise UserError("benchmark.country-unknown", f"benchmark.carbon.country: {no_figures(country)}")
    grams = 1000 * data.emissions / data.energy_consumed if country else grams_per_kwh
    million = 1e6 / texts
    kwh = data.energy_consumed * million
    return {
        "kwh": kwh,
        "cpu_kwh": data.cpu_energy * million,
        "gpu_kwh": data.gpu_energy * million,
        "ram_kwh": data.ram_energy * million,
        "kg_co2": None if grams is None else kwh * grams / 1000,
        "grams_per_kwh": grams,
        "country": country,
        "texts": texts,
        "seconds": seconds,
        "cpu_method": _cpu_method(),
        "tool": f"codecarbon {metadata.version('codecarbon')}",
    }


def no_figures(country: str) -> str:
    """What to say of a country that codecarbon does not know."""
    return f"codecarbon has no figures for {country!r}: give grams_per_kwh instead"


def _tracker(country: str | None, grams_per_kwh: float | None) -> Any:
    # Before the import: it logs to stderr on its own.
    logging.getLogger("codecarbon").disabled = True
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError as error:
        raise UserError("benchmark.codecarbon-missing", f"benchmark.carbon: {MISSING}") from error
    # Whatever is left out could come from its configuration files or CODECARBON_... variables: all that leads to a
    # network, a file or a log, or that changes a figure, is said here. Without a country any intensity does, as its
    # CO2 is not looked at.
    return OfflineEmissionsTracker(
        country_iso_code=country,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        country_2letter_iso_code=None,
        force_carbon_intensity_g_co2e_kwh=None if country else (grams_per_kwh or 0.0),
        electricitymaps_api_token="",
        emissions_endpoint=None,
        output_methods=[],
        output_handlers=[],
        output_dir=tempfile.gettempdir(),
        allow_multiple_runs=True,  # or it writes a lock file
        tracking_mode="machine",
        gpu_ids=None,  # those that CUDA_VISIBLE_DEVICES names, else all
        pue=1.0,
        wue=0.0,
        force_cpu_power=None,
        force_ram_power=None,
        force_mode_cpu_load=False,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
        measure_power_secs=SAMPLE_SECONDS,
        log_level="critical",
    )


def _cpu_method() -> str:
    from codecarbon.core.cpu import is_rapl_available

    return COUNTERS if sys.platform == "linux" and is_rapl_available() else DESIGN_POWER
