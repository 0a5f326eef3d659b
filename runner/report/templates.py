"""Jinja as every page and card of ours has it: what is put out passes a gate, and what is missing is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str, gate: Callable[[object], object], filters: Mapping[str, Any]) -> Environment:
    """The templates of ``package``, and those of the kinds of tasks that extend them.

    ``gate`` sees every value that is put out, before it is escaped.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("runner.tasks", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=gate,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made
