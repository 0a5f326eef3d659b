"""A cell is a count."""

import pyarrow as pa

from runner.system.errors import DataError

VALUE = pa.int64()


def key(spec):
    return {"counts": "vowels"}


def value_of(spec, source, row, advice):
    if not row.values[source.label].strip().isdigit():
        raise DataError("data.label-unknown", f"{row.place}: {row.values[source.label]!r} is no count; {advice}")
    return int(row.values[source.label])


def recorded_answer(spec, row, column, text):
    return row.values[column]


def unfit(spec, test):
    return [] if len({row["label"] for row in test}) > 1 else ["every test text has as many vowels"]
