"""What a teacher says yes to too readily, told without gold labels.

Content-free: as with one label a text (:mod:`runner.tasks.single_label.calibrate`) the teacher is asked about texts
that say nothing (Zhao et al. 2021, arXiv:2102.09690). To such a text no label applies, so that its log-odds of yes show
how far a teacher goes that has no reason for a yes. A label is given only where they are further out than
:data:`DEVIATIONS` standard deviations above their mean, and never where the teacher itself prefers no.

Batch: the odds of each label are moved by how far its mean over the corpus is from that of the mean label, which is
right where all labels are equally frequent (Zhou et al. 2024, arXiv:2309.17249).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEVIATIONS = 3.0
"""So far above the mean of texts without content a yes must be. With the 1.5 B teacher of ``specs/company-topics.yaml``
on 40 test texts, whose experts give 1.0 labels: 1.5 labels a text and a micro F1 of 0.61 without, 1.2 and 0.64 with 2,
1.0 and 0.64 with 3. With a prompt that made it say yes far too often: 3.4 and 0.43 without, 1.9 and 0.57 with 2, 1.2
and 0.68 with 3."""

SMALLEST = 1e-9


def above_nothing(probabilities: NDArray[np.float64], free: NDArray[np.float64]) -> NDArray[np.float64]:
    """``probabilities`` ``(rows, labels)`` of yes, lowered so that one half is what texts without content hardly reach.

    ``free`` ``(texts, labels)`` are those of such texts. No probability rises.
    """
    known = log_odds(free)
    most = known.mean(axis=0) + DEVIATIONS * known.std(axis=0)
    return _probabilities(log_odds(probabilities) - np.maximum(most, 0.0))


def evened(probabilities: NDArray[np.float64], corpus: NDArray[np.float64]) -> NDArray[np.float64]:
    """``probabilities`` ``(rows, labels)`` of yes, with the odds of each label moved to those of the mean label.

    ``corpus`` ``(labels,)`` is each label's mean probability of yes; the mean label has the geometric mean of the odds.
    """
    away = log_odds(corpus)
    return _probabilities(log_odds(probabilities) - (away - away.mean()))


def log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm of the odds of yes; 0 and 1 count as nearly so."""
    inside = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds


def _probabilities(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return found
