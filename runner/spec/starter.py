"""The specs that ``tutelage init`` writes: the starter, and one for a data file. Knows their text, and no files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.spec.fields import SCHEMA_FILE, schema
from runner.spec.strict_yaml import NOT_TEXT
from runner.system.errors import Problem, SpecError

STARTER = """\
# yaml-language-server: $schema={schema}
# A spec for tutelage: a language model that you host labels your texts, and a small model learns from it.
#   tutelage validate {name}.yaml    finds mistakes, in the spec and in the data files it names
#   tutelage plan {name}.yaml        says what would run, how long and at what cost
#   tutelage run {name}.yaml         runs it
# Every field that is not here has a default; an editor with YAML support shows them all.
version: 1
name: "{name}"

task:
  # What each text is to be called. Two labels or more; put them in quotes if they look like numbers.
  labels: [negative, neutral, positive]
  # What you would tell a new colleague: who judges, from which point of view, what each label means.
  instructions: |
    You judge the opinion that a customer's review expresses.
    Choose neutral when a review gives no opinion, or as much praise as blame.
  # Best: one or two examples for each label, on the borderline rather than obvious.
  examples:
    - text: "The zip broke in the first week, and nobody answers my mails."
      label: negative
      reason: "A defect and no help are both complaints."
    - text: "Arrived on Tuesday in a brown box."
      label: neutral
      reason: "It says what happened, not what the customer thinks of it."
    - text: "Slow to warm up, but the best coffee that I have had at home."
      label: positive
      reason: "The praise outweighs the complaint."

data:
  # Texts to learn from. They need no labels; a few thousand are plenty. csv, jsonl or parquet.
  train: {path: data/train.csv, text: text}
  # Texts that people have labelled, where there are some: used to measure only, never to learn from. Where there are
  # none, `tutelage review runs/{name}` asks you for as many as a figure needs, once there are labels to check.
  # test: {path: data/test.csv, text: text, label: label}

teacher:
  # A name from the Hub (org/name), a folder, or one of the models that 'tutelage models' lists.
  model: catalog:qwen2.5-coder-1.5b-instruct
  # On GPUs, a larger model that reasons and votes labels better:
  # model: mistralai/Mixtral-8x7B-Instruct-v0.1
  # prompt: cot
  # votes: 3
  # resources: {accelerator: H100, gpus: 2, replicas: [1, 4]}

student:
  # The size of RoBERTa-base. catalog:all-minilm-l6-v2 has a fifth of its parameters and is several times as fast; it
  # needs more texts to be as good.
  model: catalog:all-mpnet-base-v2

# Costs are stated where there are prices: USD per hour for the machine that the student will run on.
# benchmark: {price_per_hour: 0.60}
"""


NO_TEST = """\
Experts' labels, where there are some, go here: test: {{path: ..., text: ..., label: ...}}. Without any,
`tutelage review runs/{name}` asks you for as many as a figure needs, once there are labels to check.
"""

INSTRUCTIONS = "Choose the one label that describes the TEXT best. Base it on the TEXT alone."

_PROPOSED = """\
# yaml-language-server: $schema={schema}
# A spec for tutelage: a language model that you host labels your texts, and a small model learns from it.
#   tutelage try {name}.yaml         labels a few rows and shows them; with --watch again after each change
#   tutelage validate {name}.yaml    finds mistakes, in the spec and in the data files it names
#   tutelage plan {name}.yaml        says what would run, how long and at what cost
#   tutelage run {name}.yaml         runs it
# Every field that is not here has a default; an editor with YAML support shows them all.
version: 1
name: "{name}"

task:
  labels: {labels}
  # What you would tell a new colleague: who judges, from which point of view, what each label means.
  instructions: {instructions}
  # Best: one or two examples for each label, on the borderline rather than obvious.
  # examples:
  #   - {text: "...", label: {label}, reason: "..."}

data:
{data}

teacher:
{teacher}

student:
{student}

# Costs are stated where there are prices: USD per hour for the machine that the student will run on.
# benchmark: {price_per_hour: 0.60}
"""


@dataclass(frozen=True)
class Chosen:
    """What a spec for a data file says besides the defaults.

    ``sections`` are the fields of ``data.train``, ``data.test`` (where there are experts' labels), ``teacher`` and
    ``student``; ``why`` has a comment for some of them, by the same names.
    """

    labels: Sequence[str]
    instructions: str
    sections: Mapping[str, Mapping[str, Any]]
    why: Mapping[str, str] = field(default_factory=dict)


def starter(name: str) -> str:
    """The starter spec for a job called ``name``. Raises SpecError when that is no name for a job."""
    check_name(name)
    return _filled(STARTER, {"schema": SCHEMA_FILE.as_uri(), "name": name})


def proposed(name: str, chosen: Chosen) -> str:
    """The spec for a data file. Raises SpecError when ``name`` is no name for a job."""
    check_name(name)
    why = {"data.test": NO_TEST.format(name=name)} | dict(chosen.why)
    data = [
        f"{_comment(why.get(f'data.{part}', ''))}  {part}: {flow(chosen.sections[f'data.{part}'])}"
        for part in ("train", "test")
        if f"data.{part}" in chosen.sections
    ]
    if "data.test" not in chosen.sections:
        data.append(_comment(why["data.test"]).rstrip("\n"))
    parts = {
        "schema": SCHEMA_FILE.as_uri(),
        "name": name,
        "labels": flow(list(chosen.labels)),
        "label": flow(chosen.labels[0]),
        "instructions": flow(chosen.instructions),
        "data": "\n".join(data),
        "teacher": _section(chosen, "teacher"),
        "student": _section(chosen, "student"),
    }
    return _filled(_PROPOSED, parts)


def check_name(name: str) -> None:
    """Raises SpecError when ``name`` is no name for a job."""
    rule = schema()["properties"]["name"]
    if not re.fullmatch(rule["pattern"].strip("^$"), name):
        message = f"expected {rule['x-expected']}, found {name[:120]!r}"
        raise SpecError([Problem("tutelage init", 0, 0, "name", "spec.wrong-form", message)])


def flow(value: Any) -> str:
    """A plain value as YAML on one line, all texts in quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return NOT_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def _section(chosen: Chosen, name: str) -> str:
    fields = "\n".join(f"  {key}: {flow(value)}" for key, value in chosen.sections[name].items())
    return _comment(chosen.why.get(name, "")) + fields


def _comment(words: str) -> str:
    """Words as lines of comment, whatever is in them."""
    return "".join(f"  # {NOT_TEXT.sub(' ', line)}\n" for line in words.splitlines() if line.strip())


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its parts, all at once: what is put in is not read again."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), template)
