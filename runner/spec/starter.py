"""The spec that ``tutelage init NAME`` writes. Knows its text, and nothing about files."""

from __future__ import annotations

import re

from runner.spec.fields import SCHEMA_FILE, schema
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
  # Texts that people have labelled: a hundred are a start. Used to measure only, never to learn from.
  test: {path: data/test.csv, text: text, label: label}

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


def starter(name: str) -> str:
    """The starter spec for a job called ``name``. Raises SpecError when that is no name for a job."""
    rule = schema()["properties"]["name"]
    if not re.fullmatch(rule["pattern"].strip("^$"), name):
        message = f"expected {rule['x-expected']}, found {name[:120]!r}"
        raise SpecError([Problem("tutelage init", 0, 0, "name", message)])
    return STARTER.replace("{schema}", SCHEMA_FILE.as_uri()).replace("{name}", name)
