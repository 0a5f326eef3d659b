"""The teacher answers with a number."""

import re
from dataclasses import dataclass

from runner.teacher.conversation import counted, missing


@dataclass(frozen=True)
class Count:
    choices: tuple[str, ...] = ("0", "1", "2", "3")
    second_answer_tokens = 32

    meanings: tuple[str, ...] = ()

    def narrowed(self, numbers):
        return self

    def listed(self):
        return ", ".join(self.choices)

    def request(self, form):
        return "Answer with the number of vowels."

    def example(self, form, value, reason, text):
        return str(value)

    def made_up(self, number):
        return self.choices[number % len(self.choices)]

    def ask_again(self):
        return "How many vowels? Answer with a number."

    def schema(self, max_tokens):
        return '{"type": "integer"}'

    def read(self, answer):
        numbers = re.findall(r"\d+", answer)
        return int(numbers[0]) if len(numbers) == 1 else None

    def next_votes(self, votes, total, early_stop):
        return total - len(votes)

    def scorer(self, encode, ends):
        raise ValueError("a count is not one of a few answers: set teacher.prompt to cot")


def answer_format(task):
    return Count()


def scored(spec, encode):
    raise ValueError("teacher.prompt: a count is not one of a few answers: set it to cot")


def key(spec):
    return {"counts": "vowels"}


def probabilities_of(spec, cell):
    return None


def is_open(spec, records):
    return bool(missing(records, Count(), spec.teacher.votes, False))


def has_answer(spec, records):
    return any(vote is not None for vote in counted(records, Count(), spec.teacher.votes, False))


def reason_of(answer):
    return ""
