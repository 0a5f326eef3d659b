"""A count is a count, whatever the spec says."""

from runner.tasks.shared.columns import Columns

NAME = "vowels"
FIELDS = SCORES = ()
EXPECTED = "a count"
LISTS = False


def fields_fit(task):
    return iter(())


def label_columns(task, columns):
    return "a count stands in one column"


def wrong_out_of_scope(task, given):
    return "a count is never out of scope"


def shortlist(task, size):
    return "a count is not chosen from a list"


def example(task, given, text):
    return int(given) if isinstance(given, str) and given.isdigit() else None


def not_a_value(task, given, text):
    return f"{given!r} is no count"


def wrong(task, cell, text):
    return None if cell.strip().isdigit() else repr(cell)


def said(task, cell, text):
    return int(cell) if cell.strip().isdigit() else None


def columns(task, names):
    return Columns(names, lambda cell: cell.strip().isdigit(), repr, "a vote is a count")


def output_columns(task):
    return {"vowels"}
