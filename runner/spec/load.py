"""From a file to a ``Spec``: read, parse, override, check, fill in, build. Every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runner.spec import explain, rules, strict_yaml
from runner.spec.fields import fill
from runner.spec.located import located
from runner.spec.model import Spec, build
from runner.spec.overrides import apply
from runner.spec.positions import Places
from runner.spec.reviewed import Reviewed
from runner.spec.standin import whole
from runner.spec.strict_yaml import KeyPath, dotted
from runner.system.errors import Problem, SpecError
from runner.tasks.rules import rules_of
from runner.tasks.shared import label_list


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read the spec at ``path``, changed by ``overrides`` such as ``student.epochs=3``.

    Reads no other file: ``runner.planning.files`` does. Raises SpecError with every problem that could be found.
    """
    parsed = draft(str(path), overrides)
    if parsed.problems:
        raise SpecError(parsed.problems)
    return parsed.built()


@dataclass(frozen=True)
class Draft:
    """A spec on its way: complete where it is right, with stand-ins where it is not (``leave``: those fields)."""

    complete: dict[str, Any]
    places: Places
    text: str
    problems: list[Problem]
    leave: frozenset[str]

    def built(self) -> Spec:
        """The spec."""
        outside = {"source": self.places.file, "base": self.places.base, "text": self.text, "places": self.places}
        return build(Spec, self.complete, **outside, reviewed=Reviewed())


def draft(source: str, overrides: Sequence[str]) -> Draft:
    """Read and check the spec at ``source``, changed by ``overrides``. Raises SpecError where it is no spec at all."""
    raw = read_file(source)
    text = strict_yaml.decode(raw, source)
    document = strict_yaml.parse(text, source)
    places = Places(source, document.keys, document.values)
    data = _mapping(document, source)
    problems = [*document.problems, *apply(data, overrides, places)]
    found, broken = explain.check(data, places)
    complete = _with_ranges(fill(data))
    found += _with_labels(complete, places, broken)
    found += rules.check(complete, places, broken)
    leave = {dotted(path) for path in broken} | {problem.path for problem in found}
    if broken:
        complete, replaced = whole(complete, broken)
        leave |= {dotted(path) for path in replaced}
        _with_labels(complete, places, set())
    _with_own_values(complete)
    return Draft(complete, places, text, [*problems, *found], frozenset(leave))


def read_file(source: str) -> bytes:
    """The file's bytes, one more than the limit at most: enough to tell that there are too many. Raises SpecError."""
    try:
        with open(source, "rb") as stream:
            return stream.read(strict_yaml.MAX_BYTES + 1)
    except FileNotFoundError:
        code, message = "spec.not-found", f"there is no such file{_neighbour(Path(source))}"
    except IsADirectoryError:
        code, message = "spec.is-folder", "this is a folder: name the spec file in it"
    except PermissionError:
        code, message = "spec.no-permission", "this file may not be read: its permissions forbid it"
    except ValueError:
        code, message = "spec.name-impossible", "a file name cannot hold this character"
    except OSError as error:
        code, message = "spec.not-readable", f"this file cannot be read: {error.strerror or error}"
    raise SpecError([Problem(source, 0, 0, "", code, message)])


def _neighbour(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()][:10_000]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {str(path.with_name(close[0]))!r}?)" if close else ""


def _mapping(document: strict_yaml.Document, source: str) -> dict[str, Any]:
    """The spec's top level, which must be a mapping; raises SpecError with all problems so far."""
    if isinstance(document.data, dict):
        return document.data
    mark = document.values.get((), strict_yaml.Mark(1, 1))
    if document.data is None:
        code, message = (
            "spec.file-empty",
            "there is no spec in this file: 'tutelage init NAME' writes one to start from",
        )
    else:
        code, message = (
            "spec.not-a-mapping",
            f"a spec is a mapping that starts with version: 1, found {explain.found(document.data)}",
        )
    raise SpecError([*document.problems, Problem(source, mark.line, mark.column, "", code, message)])


def _with_labels(complete: dict[str, Any], places: Places, broken: set[KeyPath]) -> list[Problem]:
    """Bring the labels into their one form, unless they are ``broken``: as those of a file that is wrong are then."""
    at = label_list.AT
    if any(path[: len(at)] == at[: len(path)] for path in broken):
        return []
    try:
        wrong = label_list.expand(complete["task"], partial(located, base=places.base, places=places, at=(*at, "from")))
        problems = [places.problem((*at, "from"), code, message) for code, message in wrong]
    except SpecError as error:  # a variable that is not set
        problems = error.problems
    if problems:
        broken.add(at)
    return problems


def _with_own_values(complete: dict[str, Any]) -> None:
    """Examples carry their values as the task writes them: that is what the teacher is shown."""
    task = complete["task"]
    if task["out_of_scope"] is not None:
        task["out_of_scope"] = rules_of(task).example(task, task["out_of_scope"], "") or task["out_of_scope"]
    for example in task["examples"] if isinstance(task["examples"], list) else ():
        value = rules_of(task).example(task, example["label"], example["text"])
        example["label"] = example["label"] if value is None else value


def _with_ranges(complete: dict[str, Any]) -> dict[str, Any]:
    """``replicas: 2`` means exactly two: the range [2, 2]."""
    path: KeyPath = ("teacher", "resources", "replicas")
    node: Any = complete
    for part in path[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict) and isinstance(node.get(path[-1]), int):
        node[path[-1]] = [node[path[-1]]] * 2
    return complete
