"""What one field demands of another. Each rule names the fields that it reads, and is skipped while one
of them is broken by itself, so that a rule never meets a value of the wrong type. No rule reads a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unicodedata import normalize

from runner.data.file_kinds import READABLE, is_encoding, stored_as
from runner.spec.model import FIGURES, prompt_and_votes
from runner.spec.paths import VARIABLE
from runner.spec.positions import Places
from runner.spec.strict_yaml import KeyPath
from runner.system.errors import Problem, did_you_mean
from runner.system.sanitize import has_secret
from runner.tasks.shared.labels import find, plain

Found = Iterator[tuple[KeyPath, str]]
Rule = Callable[[dict[str, Any]], Found]

SECRET = (
    "no password, token or signature may stand in a spec: put the address into the environment, "
    "as in ${TUTELAGE_DATA}/train.csv"
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def check(spec: dict[str, Any], places: Places, broken: set[KeyPath]) -> list[Problem]:
    """The problems between fields of ``spec``, which has its defaults; ``broken`` paths are not read."""
    problems = []
    for rule, reads in RULES:
        if not any(_touches(path, bad) for path in reads for bad in broken):
            problems += [places.problem(path, message) for path, message in rule(spec)]
    return problems


def _touches(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _labels_differ(spec: dict[str, Any]) -> Found:
    """No two labels are the same (:mod:`runner.tasks.shared.labels`), nor but for a blank within them."""
    seen: dict[str, str] = {}
    for index, label in enumerate(spec["task"]["labels"]):
        first = seen.setdefault(plain(label).replace(" ", ""), label)
        if first == label:
            continue
        message = f"{label!r} is {first!r} but for capitals and blanks"
        if normalize("NFC", label) == normalize("NFC", first):
            message = f"{label!a} is {first!a} but for how its characters are composed"
        yield ("task", "labels", index), message


def _examples_fit(spec: dict[str, Any]) -> Found:
    labels, examples = spec["task"]["labels"], spec["task"]["examples"]
    if isinstance(examples, dict):
        return
    seen: dict[str, int] = {}
    for index, example in enumerate(examples):
        path: KeyPath = ("task", "examples", index)
        if find(example["label"], labels) is None:
            message = f"{example['label']!r} is not in task.labels{did_you_mean(example['label'], labels)}"
            yield (*path, "label"), message
        text = " ".join(example["text"].split())
        if seen.setdefault(text, index) != index:
            yield (*path, "text"), f"this is the text of example {seen[text]} again"


def _pool_is_clear(spec: dict[str, Any]) -> Found:
    pool, at = spec["task"]["examples"], ("task", "examples")
    if not isinstance(pool, dict):
        return
    yield from _path_is_clear((*at, "from"), pool["from"], "auto")
    yield from _text_is_readable(at, pool)
    yield from _catalog_has((*at, "model"), pool["model"])
    if pool["from"] in (spec["data"]["train"]["path"], spec["data"]["test"]["path"]):
        yield (*at, "from"), "these texts are in data already: choose examples from a file of their own"
    template = spec["teacher"]["template"]
    if template is not None and "{examples}" not in template:
        yield at, "teacher.template has no {examples}, so that none would be shown: put it in, or leave these out"


def _votes_make_sense(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    votes, path = teacher["votes"], ("teacher", "votes")
    if votes % 2 == 0:
        yield path, f"votes must be odd, so that two labels cannot tie, found {votes}"
    if votes == 1:
        return
    if teacher["engine"] == "recorded":
        if teacher["columns"] and votes != len(teacher["columns"]):
            yield path, f"{votes} votes, but {len(teacher['columns'])} recorded columns: leave votes out"
    elif teacher["prompt"] == "direct":
        yield path, "prompt: direct gives the same answer every time: use prompt: cot, or votes: 1"
    elif teacher["temperature"] == 0:
        yield path, "at temperature 0 every vote is the same: raise the temperature, or use votes: 1"


def _engine_has_columns(spec: dict[str, Any]) -> Found:
    engine, columns = spec["teacher"]["engine"], spec["teacher"]["columns"]
    path = ("teacher", "columns")
    if engine == "recorded" and not columns:
        yield path, "engine: recorded needs at least one column that holds labels"
    if engine != "recorded" and columns:
        yield (
            path,
            f"engine: {engine} reads no columns: use engine: recorded, or leave them out",
        )


def _reasons_go_with_columns(spec: dict[str, Any]) -> Found:
    reasons, columns = spec["teacher"]["reasons"], spec["teacher"]["columns"]
    if reasons and len(reasons) != len(columns):
        yield (
            ("teacher", "reasons"),
            f"{len(reasons)} columns of reasons for {len(columns)} columns of votes: name one for each, or none",
        )


def _template_is_whole(spec: dict[str, Any]) -> Found:
    template, path = spec["teacher"]["template"], ("teacher", "template")
    if template is None:
        return
    from runner.teacher.prompt import PLACEHOLDER, PLACEHOLDERS

    used = PLACEHOLDER.findall(template)
    if used.count("text") != 1:
        yield path, f"{{text}} must stand in it once, found {used.count('text')} times"
    for name in dict.fromkeys(used):
        if name not in PLACEHOLDERS:
            hint = did_you_mean(name, PLACEHOLDERS) or f" (it knows {', '.join(PLACEHOLDERS)})"
            yield path, f"{{{name}}} is no placeholder{hint}"


def _options_exist(spec: dict[str, Any]) -> Found:
    options, path = spec["teacher"]["engine_options"], ("teacher", "engine_options")
    if not options or spec["teacher"]["engine"] == "noop":
        return
    from runner.spec.engine_options import known_options, ours, refused

    known = known_options()
    for name in options:
        if name in ours:
            yield (*path, name), f"the runner sets {name} itself: {ours[name]}"
        elif name in refused:
            yield (*path, name), f"this option is not taken: {refused[name]}"
        elif known and name not in known:
            yield (*path, name), f"vLLM has no option {name!r}{did_you_mean(name, sorted(known))}"


def _options_are_possible(spec: dict[str, Any]) -> Found:
    """The values that this program computes with, whichever engine they are for: a wrong one never gets further."""
    options, path = spec["teacher"]["engine_options"], ("teacher", "engine_options")
    if not options:
        return
    from runner.spec.engine_options import wrong_value

    for name, value in options.items():
        if message := wrong_value(name, value):
            yield (*path, name), message


def _endpoint_stands_alone(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    path = ("teacher", "endpoint")
    if teacher["endpoint"] is None:
        return
    if teacher["engine"] != "vllm":
        yield path, f"engine: {teacher['engine']} asks no server: leave one of the two out"
    if "@" in teacher["endpoint"]:
        yield path, "no user or password may stand in a spec: set TUTELAGE_ENDPOINT_TOKEN in the environment"
    if teacher["engine_options"]:
        yield ("teacher", "engine_options"), "the server has its own options: leave these out"
    if teacher["resources"]["gpus"]:
        yield ("teacher", "resources", "gpus"), "the server has the GPUs, the runner needs none: leave them out"


def _budget_has_a_price(spec: dict[str, Any]) -> Found:
    if spec["teacher"]["budget"]["usd"] is not None and not spec["teacher"]["price_per_hour"]:
        message = "a budget in USD needs teacher.price_per_hour, or nobody knows when it is spent: set it, or use hours"
        yield ("teacher", "budget", "usd"), message


def _answer_fits(spec: dict[str, Any]) -> Found:
    teacher = spec["teacher"]
    if teacher["prompt"] == "cot" and teacher["max_tokens"] >= teacher["max_context"]:
        yield (
            ("teacher", "max_tokens"),
            (
                f"an answer of {teacher['max_tokens']} tokens leaves no room for the prompt in max_context, "
                f"which is {teacher['max_context']}"
            ),
        )


def _others_make_sense(spec: dict[str, Any]) -> Found:
    """Each further teacher by the rules of a teacher."""
    first = spec["teacher"]
    for index, other in enumerate(first["also"]):
        prompt, votes = prompt_and_votes((first["prompt"], first["votes"]), (other["prompt"], other["votes"]))
        teacher = {**first, **other, "prompt": prompt, "votes": votes}
        for rule in (_votes_make_sense, _engine_has_columns, _endpoint_stands_alone, _catalog_knows("teacher")):
            for path, message in rule({**spec, "teacher": teacher}):
                yield ("teacher", "also", index, path[-1]), message


def _structured_has_a_form(spec: dict[str, Any]) -> Found:
    teacher, path = spec["teacher"], ("teacher", "structured")
    if not teacher["structured"]:
        return
    if teacher["prompt"] == "direct":
        yield path, "prompt: direct reads probabilities and no text: leave it out, or use prompt: cot"
    if teacher["max_tokens"] < 40:
        yield ("teacher", "max_tokens"), f"{teacher['max_tokens']} tokens hold no reason and label in JSON: at least 40"


def _replicas_grow(spec: dict[str, Any]) -> Found:
    least, most = spec["teacher"]["resources"]["replicas"]
    if most < least:
        yield ("teacher", "resources", "replicas"), f"the most ({most}) is less than the least ({least})"


def _batches_can_be_shared(spec: dict[str, Any]) -> Found:
    student = spec["student"]
    size, parts, workers = student["batch_size"], student["accumulate"], student["resources"]["workers"]
    if parts * workers > size:
        path: KeyPath = ("student", "accumulate") if parts > 1 else ("student", "resources", "workers")
        shares = " times ".join(
            f"{count} {name}" for count, name in ((workers, "workers"), (parts, "parts")) if count > 1
        )
        yield path, f"{shares} is more than the {size} texts of a step (batch_size)"


def _accelerator_has_gpus(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        resources = spec[part]["resources"]
        if resources["accelerator"] is not None and resources["gpus"] == 0:
            message = f"{resources['accelerator']} is asked for, but gpus is 0: set gpus to 1 or more"
            yield (part, "resources", "accelerator"), message
        yield from _accelerator_is_supported((part, "resources", "accelerator"), resources["accelerator"])

    return rule


def _accelerator_is_supported(path: KeyPath, accelerator: str | None) -> Found:
    if accelerator is None:
        return
    from runner.planning.hardware.accelerators import misspelt, unsupported  # only now: most specs name none

    if message := unsupported(accelerator) or misspelt(accelerator):
        yield path, message


def _hardware_makes_sense(spec: dict[str, Any]) -> Found:
    seen: set[str] = set()
    for index, one in enumerate(spec["benchmark"]["hardware"]):
        path = ("benchmark", "hardware", index)
        if one["name"] in seen:
            yield (*path, "name"), f"{one['name']!r} is there twice: the report could not tell them apart"
        seen.add(one["name"])
        if one["accelerator"] is not None and one["gpus"] == 0:
            message = f"{one['accelerator']} is asked for, but gpus is 0: set gpus to 1 or more"
            yield (*path, "accelerator"), message
        yield from _accelerator_is_supported((*path, "accelerator"), one["accelerator"])


def _catalog_knows(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        model = spec[part]["model"]
        yield from _catalog_has((part, "model"), model)
        if model.startswith("catalog:") and spec[part]["revision"] is not None:
            yield (part, "revision"), "a catalog model is pinned already: leave revision out"

    return rule


def _catalog_has(at: KeyPath, model: str) -> Found:
    if not model.startswith("catalog:"):
        return
    from runner.models import catalog_names  # only now: most specs need no catalog

    known, name = catalog_names(), model.removeprefix("catalog:")
    if name not in known:
        hint = did_you_mean(name, known) or f" (it has: {', '.join(sorted(known))})"
        yield at, f"the catalog has no model {name!r}{hint}"


def _paths_are_clear(part: str) -> Rule:
    def rule(spec: dict[str, Any]) -> Found:
        source, at = spec["data"][part], ("data", part)
        if source is None:
            return
        yield from _path_is_clear((*at, "path"), source["path"], source["format"])
        yield from _text_is_readable(at, source)
        if stored_as(source["path"], source["format"]) != "hub":
            for name, default in (("split", "train"), ("revision", None)):
                if source[name] != default:
                    yield (*at, name), f"only format: hub has a {name}: leave it out"

    return rule


def _text_is_readable(at: KeyPath, source: dict[str, Any]) -> Found:
    """What is said of how text is written must be possible, and said of text."""
    kind = stored_as(source.get("path") or source["from"], source.get("format", "auto"))
    encoding = source["encoding"]
    if encoding is not None and not is_encoding(encoding):
        yield (*at, "encoding"), f"there is no character set {encoding!r}: name one such as cp1252, latin-1 or gb18030"
    if encoding is not None and kind in ("parquet", "xlsx", "hub"):
        yield (*at, "encoding"), f"{kind} says itself how its text is written: leave encoding out"
    if source["delimiter"] is not None and kind not in ("csv", "tsv", None):
        yield (*at, "delimiter"), f"only csv has a delimiter, and this is {kind}: leave it out"


def _path_is_clear(at: KeyPath, path: str, form: str) -> Found:
    kind = stored_as(path, form)
    if "${" in path and not (VARIABLE.match(path) and path.count("${") == 1):
        yield at, "a variable is named TUTELAGE_... and stands first, as in ${TUTELAGE_DATA}/train.csv"
    elif has_secret(path):
        yield at, SECRET
    elif kind is None:
        advice = (
            f"let it end in {READABLE}, or set format (hub: a data set of the Hub)"
            if at[0] == "data"
            else f"it must be {READABLE}"
        )
        yield at, f"the ending of {path!r} does not tell how the rows are stored: {advice}"
    elif kind == "hub" and not _HUB_NAME.fullmatch(path):
        yield at, f"format: hub expects a data set's name (owner/name), found {path!r}"


def _others_are_clear(spec: dict[str, Any]) -> Found:
    for name, other in spec["evaluate"]["compare"].items():
        at: KeyPath = ("evaluate", "compare", name)
        yield from _path_is_clear((*at, "path"), other["path"], "auto")
        yield from _text_is_readable(at, other)
        if name.casefold() in ("teacher", "student"):
            yield at, f"{name!r} is one of the two that are compared anyway: choose another name"


def _published_stands_beside_something(spec: dict[str, Any]) -> Found:
    known = ["teacher", "student", *spec["evaluate"]["compare"]]
    for name, found in spec["evaluate"]["published"].items():
        at: KeyPath = ("evaluate", "published", name)
        if found["beside"] is not None and found["beside"] not in known:
            yield (*at, "beside"), f"there is no {found['beside']!r}: it may be one of {', '.join(known)}"
        if all(found[figure] is None for figure in FIGURES):
            yield at, f"no figure was given: {', '.join(FIGURES[:-1])} or {FIGURES[-1]}"


def _test_is_apart(spec: dict[str, Any]) -> Found:
    train, test = spec["data"]["train"], spec["data"]["test"]
    if all(train[name] == test[name] for name in ("path", "format", "split", "revision")):
        yield (
            ("data", "test", "path"),
            "train and test are the same data: then nothing is left to learn from",
        )


def _runtime_is_exported(spec: dict[str, Any]) -> Found:
    student = spec["student"]
    if student["runtime"] not in ("auto", "torch", *student["export"]):
        yield ("student", "runtime"), f"{student['runtime']} is not in student.export: put it there, or use auto"
    if student["resources"]["gpus"] and student["runtime"] not in ("auto", "torch"):
        yield ("student", "runtime"), f"{student['runtime']} runs on processors: use torch where gpus are asked for"


def written_columns(labels: Iterable[str]) -> set[str]:
    """The columns that labelling a corpus writes: none of its own may be called so."""
    return {"file", "row", "text", "label", "probability", "abstain", *(f"probability_{label}" for label in labels)}


def _kept_columns_are_apart(spec: dict[str, Any]) -> Found:
    written = written_columns(spec["task"]["labels"])
    for index, column in enumerate(spec["apply"]["keep"]):
        if column in written:
            yield ("apply", "keep", index), f"a column {column!r} is written anyway: rename it in the corpus"


def _carbon_is_one(spec: dict[str, Any]) -> Found:
    carbon = spec["benchmark"]["carbon"]
    if carbon and carbon["country"] is not None and carbon["grams_per_kwh"] is not None:
        yield ("benchmark", "carbon", "grams_per_kwh"), "country says this already: leave one of the two out"


def _prices_are_a_file(spec: dict[str, Any]) -> Found:
    path, at = spec["benchmark"]["prices"], ("benchmark", "prices")
    if path is None:
        return
    if "${" in path and not (VARIABLE.match(path) and path.count("${") == 1):
        yield at, "a variable is named TUTELAGE_... and stands first, as in ${TUTELAGE_DATA}/prices.yaml"
    elif "://" in path:
        yield at, "a price table is a file on this machine: fetch it first"


def _fields(part: str, *names: str) -> tuple[KeyPath, ...]:
    return tuple((part, *name.split(".")) for name in names)


_RESOURCES = ("resources.accelerator", "resources.gpus")

# Each rule with the fields that it reads.
RULES: tuple[tuple[Rule, tuple[KeyPath, ...]], ...] = (
    (_labels_differ, _fields("task", "labels")),
    (_examples_fit, _fields("task", "labels", "examples")),
    (
        _pool_is_clear,
        (*_fields("task", "examples"), *_fields("data", "train.path", "test.path"), *_fields("teacher", "template")),
    ),
    (_paths_are_clear("train"), _fields("data", "train")),
    (_paths_are_clear("test"), _fields("data", "test")),
    (_paths_are_clear("corpus"), _fields("data", "corpus")),
    (_runtime_is_exported, _fields("student", "export", "runtime", "resources.gpus")),
    (_kept_columns_are_apart, (*_fields("task", "labels"), *_fields("apply", "keep"))),
    (_test_is_apart, _fields("data", "train", "test")),
    (_others_are_clear, _fields("evaluate", "compare")),
    (_published_stands_beside_something, _fields("evaluate", "compare", "published")),
    (_votes_make_sense, _fields("teacher", "votes", "engine", "columns", "prompt", "temperature")),
    (_engine_has_columns, _fields("teacher", "engine", "columns")),
    (_reasons_go_with_columns, _fields("teacher", "columns", "reasons")),
    (_template_is_whole, _fields("teacher", "template")),
    (_options_exist, _fields("teacher", "engine", "engine_options")),
    (_options_are_possible, _fields("teacher", "engine_options")),
    (
        _endpoint_stands_alone,
        _fields("teacher", "endpoint", "engine", "engine_options", "resources.gpus"),
    ),
    (_budget_has_a_price, _fields("teacher", "budget", "price_per_hour")),
    (_others_make_sense, _fields("teacher", "also", "engine", "prompt", "votes", "temperature", "engine_options")),
    (_structured_has_a_form, _fields("teacher", "structured", "prompt", "max_tokens")),
    (_answer_fits, _fields("teacher", "prompt", "max_tokens", "max_context")),
    (_replicas_grow, _fields("teacher", "resources.replicas")),
    (_accelerator_has_gpus("teacher"), _fields("teacher", *_RESOURCES)),
    (_accelerator_has_gpus("student"), _fields("student", *_RESOURCES)),
    (_batches_can_be_shared, _fields("student", "batch_size", "accumulate", "resources.workers")),
    (_catalog_knows("teacher"), _fields("teacher", "model", "revision")),
    (_catalog_knows("student"), _fields("student", "model", "revision")),
    (_carbon_is_one, _fields("benchmark", "carbon")),
    (_hardware_makes_sense, _fields("benchmark", "hardware")),
    (_prices_are_a_file, _fields("benchmark", "prices")),
)
