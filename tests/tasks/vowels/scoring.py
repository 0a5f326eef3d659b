"""How many counts are right, and how far they are off."""

import pyarrow as pa

from vowels import predictions

PRIMARY = "exact"
SUMMARY = ("exact", "off_by")
PAIRED = "sign_test"
TEST = "the sign test"
ANSWER = (pa.field("label", pa.int64()),)


def key(spec):
    return {}


def about(spec):
    return {"counts": "vowels"}


def answers(spec, predicted, decision=None):
    return [{"label": value} for value in predictions.values(["vowels"], predicted)]


def estimates(spec, truth, teacher, student, population):
    raise NotImplementedError("nobody samples vowels")


def score(spec, truth, given, weights=None):
    said = [answer["label"] for answer in given]
    off = [abs(a - b) for a, b in zip(truth, said, strict=True) if b is not None]
    exact = primary(truth, said)
    return {
        "rows": len(truth),
        "exact": exact,
        "off_by": sum(off) / max(1, len(off)),
        "ci95": {"exact": [exact, exact]},
    }


def primary(truth, given):
    return sum(a == b for a, b in zip(truth, given, strict=True)) / len(truth)


def paired(truth, a, b):
    only_a = sum(x == t != y for t, x, y in zip(truth, a, b, strict=True))
    only_b = sum(y == t != x for t, x, y in zip(truth, a, b, strict=True))
    return {"only_a_right": only_a, "only_b_right": only_b, "rows": len(truth)}
