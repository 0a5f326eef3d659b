"""What the rules of several sections have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from runner.models import catalog_names
from runner.spec.strict_yaml import KeyPath
from runner.system.accelerators import misspelt, unsupported
from runner.system.errors import did_you_mean

Found = Iterator[tuple[KeyPath, str, str]]
"""Where, the code and the message."""
Rule = Callable[[dict[str, Any]], Found]

# ${NAME} or ${NAME}/more; only names that belong to this program, so that a spec reads no other secret.
VARIABLE = re.compile(r"\$\{(TUTELAGE_[A-Z0-9_]+)\}(?=/|\Z)")
SECRET = (
    "no password, token or signature may stand in a spec: put the address into the environment, "
    "as in ${TUTELAGE_DATA}/train.csv"
)


def accelerator_has_gpus(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        resources = spec[part]["resources"]
        if resources["accelerator"] is not None and resources["gpus"] == 0:
            message = f"{resources['accelerator']} is asked for, but gpus is 0: set gpus to 1 or more"
            yield (part, "resources", "accelerator"), "spec.accelerator-without-gpus", message
        yield from accelerator_is_supported((part, "resources", "accelerator"), resources["accelerator"])

    return rule


def accelerator_is_supported(path: KeyPath, accelerator: str | None) -> Found:
    if accelerator is None:
        return
    if message := unsupported(accelerator) or misspelt(accelerator):
        yield path, "spec.accelerator-unknown", message


def catalog_knows(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        model = spec[part]["model"]
        yield from catalog_has((part, "model"), model)
        if model.startswith("catalog:") and spec[part]["revision"] is not None:
            yield (part, "revision"), "spec.catalog-revision", "a catalog model is pinned already: leave revision out"

    return rule


def catalog_has(at: KeyPath, model: str) -> Found:
    if not model.startswith("catalog:"):
        return
    known, name = catalog_names(), model.removeprefix("catalog:")
    if name not in known:
        hint = did_you_mean(name, known) or f" (it has: {', '.join(sorted(known))})"
        yield at, "spec.model-not-in-catalog", f"the catalog has no model {name!r}{hint}"
