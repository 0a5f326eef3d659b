"""How speed and cost are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.spec.sections.shared import VARIABLE, Found, accelerator_is_supported


@dataclass(frozen=True, kw_only=True)
class Review:
    """The time that people spend on checking labels; ``hours`` None: what `tutelage review` measured."""

    hours: float | None
    usd_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Carbon:
    """How CO2 follows from energy: by a country's electricity or by grams for each kWh; with neither, energy alone."""

    country: str | None
    grams_per_kwh: float | None


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A further machine on which the student is timed."""

    name: str
    price_per_hour: float
    accelerator: str | None
    gpus: int
    cpus: int | None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """How speed and cost are measured. ``prices`` is as written: ``prices_of`` reads it."""

    price_per_hour: float | None
    texts: int
    batch_sizes: tuple[int, ...]
    rows: int
    hardware: tuple[Hardware, ...]
    labelling_usd: float | None
    review: Review | None
    prices: str | None
    carbon: Carbon | None


def hardware_makes_sense(spec: dict[str, Any]) -> Found:
    seen: set[str] = set()
    for index, one in enumerate(spec["benchmark"]["hardware"]):
        path = ("benchmark", "hardware", index)
        if one["name"] in seen:
            yield (
                (*path, "name"),
                "spec.name-repeated",
                f"{one['name']!r} is there twice: the report could not tell them apart",
            )
        seen.add(one["name"])
        if one["accelerator"] is not None and one["gpus"] == 0:
            message = f"{one['accelerator']} is asked for, but gpus is 0: set gpus to 1 or more"
            yield (*path, "accelerator"), "spec.accelerator-without-gpus", message
        yield from accelerator_is_supported((*path, "accelerator"), one["accelerator"])


def carbon_is_one(spec: dict[str, Any]) -> Found:
    carbon = spec["benchmark"]["carbon"]
    if carbon and carbon["country"] is not None and carbon["grams_per_kwh"] is not None:
        yield (
            ("benchmark", "carbon", "grams_per_kwh"),
            "spec.carbon-twice",
            "country says this already: leave one of the two out",
        )


def prices_are_a_file(spec: dict[str, Any]) -> Found:
    path, at = spec["benchmark"]["prices"], ("benchmark", "prices")
    if path is None:
        return
    if "${" in path and not (VARIABLE.match(path) and path.count("${") == 1):
        yield (
            at,
            "spec.variable-form",
            "a variable is named TUTELAGE_... and stands first, as in ${TUTELAGE_DATA}/prices.yaml",
        )
    elif "://" in path:
        yield at, "spec.prices-not-local", "a price table is a file on this machine: fetch it first"
