"""Pool what several teachers say of the same rows, without gold labels, and say how far they agree.

How far to trust a teacher is estimated with Dawid-Skene (1979, doi:10.2307/2346806); the distributions are then
multiplied, each raised to its teacher's weight (a log-linear pool: Genest & Zidek 1986, doi:10.1214/ss/1177013825).
On simulated teachers, independent or not, that beat averaging them, and it beat the posterior of Dawid-Skene, which
takes each vote for independent evidence and so is far too sure of teachers that err together. Weights sum to one for
the same reason.

Two teachers that are one and the same under two names look like two good ones: leave one of them out.

Written here because crowd-kit (Apache-2.0) would bring nltk along, imports it for any aggregation, smooths nothing
and drops rows and labels without a vote, and because the package krippendorff is under the GPL.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PRIOR_VOTES = 2.0
PRIOR_ACCURACY = 0.7
"""Each true label of each teacher starts with ``PRIOR_VOTES`` imagined votes, of which this share is right: a label
that a teacher hardly met is then neither hopeless nor perfect, and labels keep their names. The labels' shares start
from one imagined row, spread evenly."""

TOLERANCE = 1e-5
MOST_ITERATIONS = 500
FEWEST_VOTES = 3
"""Two teachers that disagree do not tell which of them errs; from three on, the others do."""

EVEN_SHARE = 1e-3
"""Share of an even distribution that is mixed into each teacher's while they are multiplied, and taken out again:
else one that is wrong and too sure of it would overrule all others."""

WEIGHTED = "log-linear, weights by Dawid-Skene"
EQUAL = "log-linear, equal weights"


class DawidSkene(NamedTuple):
    """``confusions[t, y, l]`` is how often teacher ``t`` says ``l`` of a row that is ``y``."""

    probabilities: NDArray[np.float64]
    """``(rows, labels)``; a row without a vote has the prior."""
    confusions: NDArray[np.float64]
    """``(teachers, labels, labels)``; rows sum to one."""
    prior: NDArray[np.float64]
    """``(labels,)``: the estimated share of each label."""
    iterations: int
    """``MOST_ITERATIONS`` where it had not settled by then."""


class Pooled(NamedTuple):
    probabilities: NDArray[np.float64]
    """``(rows, labels)``; even where no teacher with a weight gave anything."""
    weights: NDArray[np.float64]
    """``(teachers,)``, summing to one; on a row that some missed, the others share theirs in proportion."""
    accuracies: NDArray[np.float64]
    """``(teachers,)``: the estimated share of a teacher's labels that are right; too high where teachers err together,
    as one model's answers do. NaN where it cannot be told."""
    method: str
    """:data:`WEIGHTED`; or :data:`EQUAL` where too few teachers share rows for an estimate."""


def pool(distributions: NDArray[np.float64], missing: NDArray[np.bool_]) -> Pooled:
    """The teachers' ``distributions`` ``(rows, teachers, labels)`` as one for each row.

    Those that are ``missing`` ``(rows, teachers)`` may hold anything, NaN included. A teacher's weight is how far its
    mean recall is above chance, as Dawid-Skene estimates it from the likeliest labels: one that always says the same
    has next to none.

    :raises ValueError: when shapes do not fit, there are fewer than two labels, or one is not a distribution.
    """
    _check(distributions, missing)
    votes = _votes(distributions, missing)
    weights, accuracies, method = _trust(votes, distributions.shape[2], np.logical_or.reduce(~missing, axis=0))
    return Pooled(_multiply(distributions, np.where(missing, 0.0, weights)), weights, accuracies, method)


def dawid_skene(votes: NDArray[np.int64], labels: int) -> DawidSkene:
    """What the rows are and how each teacher errs, by expectation maximisation (Dawid & Skene 1979, section 3).

    ``votes`` ``(rows, teachers)`` are from 0 to ``labels - 1``; -1 for none. It starts from the shares of the votes,
    in which most teachers are right, and smooths by a Dirichlet prior. Deterministic, whatever the rows' order.

    :raises ValueError: when there are fewer than two labels or a vote is out of range.
    """
    from scipy.sparse import csr_array  # most jobs have one teacher, and scipy takes a third of a second to import
    from scipy.special import softmax

    if labels < 2:
        raise ValueError(f"{labels} labels: there must be at least two")
    if votes.ndim != 2 or ((votes < -1) | (votes >= labels)).any():
        raise ValueError(f"votes must be a table of numbers from -1 to {labels - 1}")
    # Rows with the same votes have the same posterior: a million rows may be a few hundred different ones.
    teachers = votes.shape[1]
    patterns, row, count = np.unique(votes, axis=0, return_inverse=True, return_counts=True)
    place, teacher = np.nonzero(patterns >= 0)
    column = teacher * labels + patterns[place, teacher]
    said = csr_array((np.ones(len(place)), (place, column)), shape=(len(patterns), teachers * labels))
    times = np.where((patterns >= 0).any(axis=1), count, 0)[:, None]
    imagined = np.full((labels, labels), PRIOR_VOTES * (1 - PRIOR_ACCURACY) / (labels - 1))
    np.fill_diagonal(imagined, PRIOR_VOTES * PRIOR_ACCURACY)

    shares = said @ np.tile(np.eye(labels), (teachers, 1)) + 1e-9
    posterior = shares / shares.sum(axis=1, keepdims=True)
    iterations, change = 0, np.inf
    while change > TOLERANCE and iterations < MOST_ITERATIONS:
        expected = posterior * times
        prior = expected.sum(axis=0) + 1 / labels
        prior /= prior.sum()
        confusions = (said.T @ expected).reshape(teachers, labels, labels).transpose(0, 2, 1) + imagined
        confusions /= confusions.sum(axis=2, keepdims=True)
        evidence = said @ np.log(confusions).transpose(0, 2, 1).reshape(teachers * labels, labels)
        before, posterior = posterior, softmax(np.log(prior) + evidence, axis=1)
        change = np.abs(posterior - before).max(initial=0.0)
        iterations += 1
    return DawidSkene(posterior[row.ravel()], confusions, prior, iterations)


def krippendorff_alpha(votes: NDArray[np.int64]) -> float:
    """Agreement beyond chance of ``votes`` ``(rows, teachers)``, -1 for none: 1 is perfect, 0 is as if by chance.

    For nominal data with missing values (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", part C).
    NaN where there is nothing to tell by: no row with two votes, or one label only in all of them.
    """
    given = (votes >= 0).sum(axis=1)
    votes, given = votes[given >= 2], given[given >= 2]
    total = int(given.sum())
    agreeing, by_chance = 0.0, 0
    for label in range(votes.max(initial=-1) + 1):
        count = (votes == label).sum(axis=1)
        agreeing += float((count * (count - 1) / (given - 1)).sum())
        by_chance += int(count.sum()) ** 2
    if by_chance == total**2:
        return float("nan")
    return 1 - (total - 1) * (total - agreeing) / (total**2 - by_chance)


def pairwise_agreement(votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(teachers, teachers)``: of the rows that both labelled, the share with the same label.

    ``votes`` ``(rows, teachers)``, -1 for none. NaN where two share no row.
    """
    teachers = votes.shape[1]
    agreement = np.full((teachers, teachers), np.nan)
    for one in range(teachers):
        for other in range(teachers):
            both = (votes[:, one] >= 0) & (votes[:, other] >= 0)
            if both.any():
                agreement[one, other] = np.mean(votes[both, one] == votes[both, other])
    return agreement


def _check(distributions: NDArray[np.float64], missing: NDArray[np.bool_]) -> None:
    if distributions.ndim != 3 or missing.shape != distributions.shape[:2]:
        raise ValueError(f"distributions of shape {distributions.shape} do not go with missing of {missing.shape}")
    if distributions.shape[2] < 2:
        raise ValueError(f"{distributions.shape[2]} labels: there must be at least two")
    given = distributions[~missing]
    # NaN is neither above nor below: ask for what is right, not for what is wrong.
    if not ((given >= 0).all() and (np.abs(given.sum(axis=1) - 1) < 1e-6).all()):
        raise ValueError("a distribution must be at least 0 everywhere and sum to one")


def _votes(distributions: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each distribution's likeliest label ``(rows, teachers)``; -1 where labels tie, as in a vote."""
    known = np.where(missing[:, :, None], 0.0, distributions)
    tied = (known == known.max(axis=2, keepdims=True)).sum(axis=2) > 1
    return np.where(tied, -1, known.argmax(axis=2)).astype(np.int64)


def _trust(
    votes: NDArray[np.int64], labels: int, present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Weights, accuracies and method; only teachers that are ``present`` ``(teachers,)`` get a weight."""
    equal = present / max(present.sum(), 1)
    shared = votes[(votes >= 0).sum(axis=1) >= FEWEST_VOTES]
    voted = shared >= 0
    if not len(shared) or (present & ~voted.any(axis=0)).any():
        return equal, np.full(len(present), np.nan), EQUAL
    found = dawid_skene(shared, labels)
    right = np.take_along_axis(found.probabilities, np.maximum(shared, 0), axis=1)
    accuracies = np.full(len(present), np.nan)
    np.divide((right * voted).sum(axis=0), voted.sum(axis=0), out=accuracies, where=present)
    # Of a label that hardly occurs, the recall is the imagined votes': the same for all.
    occurs = found.prior * len(shared) >= PRIOR_VOTES
    if not occurs.any():
        occurs[:] = True
    recall = np.diagonal(found.confusions, axis1=1, axis2=2)[:, occurs].mean(axis=1)
    above_chance = np.where(present, np.maximum(recall - 1 / occurs.sum(), 0.0), 0.0)
    total = above_chance.sum()
    return (above_chance / total if total else equal), accuracies, WEIGHTED


def _multiply(distributions: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distributions' product, each to the power of its share of the row's ``weights`` ``(rows, teachers)``."""
    from scipy.special import softmax  # as above

    rows, teachers, labels = distributions.shape
    total = weights.sum(axis=1)
    logs = np.zeros((rows, labels))
    for teacher in range(teachers):
        here = weights[:, teacher] > 0
        mixed = (1 - EVEN_SHARE) * distributions[here, teacher] + EVEN_SHARE / labels
        logs[here] += (weights[here, teacher] / total[here])[:, None] * np.log(mixed)
    # A product's sum is at most one, so that no label falls below what was mixed in.
    pooled: NDArray[np.float64] = (softmax(logs, axis=1) - EVEN_SHARE / labels) / (1 - EVEN_SHARE)
    return np.maximum(pooled, 0.0)
