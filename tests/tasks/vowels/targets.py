"""A student learns the count itself."""

import numpy as np


def names(spec):
    return ["vowels"]


def parts(value):
    return (str(value),)


def of(verdicts):
    return np.array([[verdict["label"]] for verdict in verdicts], dtype=np.float32)


def confidence(targets):
    return np.ones(len(targets), dtype=np.float32)
