"""How the test results are worked out, and who else is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.spec.sections.data import LabelledSource, labelled_file, path_is_clear, text_is_readable
from runner.spec.sections.shared import Found
from runner.spec.strict_yaml import KeyPath
from runner.tasks.rules import RULES


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Where the labels stand that somebody else gave to the test texts."""

    path: str
    encoding: str | None
    delimiter: str | None
    text: str
    label: str

    @property
    def source(self) -> LabelledSource:
        """The file as any other labelled source."""
        return labelled_file(self.path, self.text, self.label, self.encoding, self.delimiter)


SCORES = tuple(dict.fromkeys(score for kind in RULES.values() for score in kind.SCORES))
"""What others publish of how good a system is: each is over a number of texts."""


FIGURES = (*SCORES, "texts_per_second", "latency_ms")
"""What others publish of a system that a run measures as well."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What others published of one system, and whose figures of this run stand beside them."""

    beside: str | None
    accuracy: float | None
    macro_f1: float | None
    texts_per_second: float | None
    latency_ms: float | None
    note: str | None
    source: str | None


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How the test results are worked out, who else is compared on the same rows, and what others published."""

    resamples: int
    seed: int
    compare: dict[str, Annotator]
    published: dict[str, Published]


def others_have_a_test(spec: dict[str, Any]) -> Found:
    if spec["evaluate"]["compare"] and spec["data"]["test"] is None:
        yield (
            ("evaluate", "compare"),
            "spec.compare-without-test",
            "others are compared on the texts of data.test, which is not given: add it, or leave this out",
        )


def others_are_clear(spec: dict[str, Any]) -> Found:
    for name, other in spec["evaluate"]["compare"].items():
        at: KeyPath = ("evaluate", "compare", name)
        yield from path_is_clear((*at, "path"), other["path"], "auto")
        yield from text_is_readable(at, other)
        if name.casefold() in ("teacher", "student"):
            yield at, "spec.name-taken", f"{name!r} is one of the two that are compared anyway: choose another name"


def published_stands_beside_something(spec: dict[str, Any]) -> Found:
    known = ["teacher", "student", *spec["evaluate"]["compare"]]
    for name, found in spec["evaluate"]["published"].items():
        at: KeyPath = ("evaluate", "published", name)
        if found["beside"] is not None and found["beside"] not in known:
            yield (
                (*at, "beside"),
                "spec.not-compared",
                f"there is no {found['beside']!r}: it may be one of {', '.join(known)}",
            )
        if all(found[figure] is None for figure in FIGURES):
            yield at, "spec.figure-missing", f"no figure was given: {', '.join(FIGURES[:-1])} or {FIGURES[-1]}"
