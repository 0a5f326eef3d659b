"""The price table: what APIs charge for tokens, each row with its date and source. Ships beside this module.

Read by the rules of a spec, so that a mistake is said as file:line:col.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.spec import explain, strict_yaml
from runner.spec.fields import fill
from runner.spec.load import read_file
from runner.spec.model import Spec, build
from runner.spec.paths import resolve_path
from runner.spec.positions import Places
from runner.system.errors import Problem, SpecError

SHIPPED = Path(__file__).with_name("prices.yaml")
RULES = Path(__file__).with_name("prices.schema.json")


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an API charges, in USD for a million tokens, on a day."""

    name: str
    input_usd: float
    output_usd: float
    date: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """What somebody published for a million texts: USD, kg of CO2 (one figure, or the least and the most)."""

    name: str
    usd: float | None
    kg_co2: tuple[float, ...] | None
    note: str
    date: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The table."""

    apis: tuple[Price, ...]
    published: tuple[Published, ...]


def prices_of(spec: Spec) -> Prices:
    """The table that the spec names, or the one that ships. Raises SpecError with every problem in it."""
    path = spec.benchmark.prices
    return load_prices(SHIPPED if path is None else Path(resolve_path(spec, path)))


def load_prices(path: Path) -> Prices:
    """The table at ``path``. Raises SpecError with every problem that could be found."""
    source = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    document = strict_yaml.parse(strict_yaml.decode(read_file(str(path)), source), source)
    rules: dict[str, Any] = json.loads(RULES.read_text(encoding="utf-8"))
    if not isinstance(document.data, dict):
        message = f"a price table is a mapping that starts with apis:, found {explain.found(document.data)}"
        raise SpecError([*document.problems, Problem(source, 1, 1, "", "spec.not-a-mapping", message)])
    found, _ = explain.check(document.data, Places(source, document.keys, document.values), rules)
    if problems := document.problems + found:
        raise SpecError(problems)
    return build(Prices, fill(document.data, rules))
