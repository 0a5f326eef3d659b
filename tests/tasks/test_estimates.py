"""From a blind sample to figures for all texts: they hold for the population that it was drawn from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.review import draw
from runner.review.sample import DrawnSample, inclusion
from runner.tasks.single_label.estimates import estimates

LABELS = ("a", "b", "c")
ROWS, LABELLED = 900, 150


def spec() -> Any:
    return SimpleNamespace(task=SimpleNamespace(labels=LABELS), evaluate=SimpleNamespace(resamples=60, seed=0))


class World:
    """A population with its truth, a teacher that is right on nine tenths of it, and a student on a little less."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 3, ROWS)
        hard = rng.random(ROWS) < 0.25
        self.ids = [f"{n:05}" for n in range(ROWS)]
        self.truth = dict(zip(self.ids, (LABELS[t] for t in truth), strict=True))
        self.teacher = self._says(rng, truth, np.where(hard, 0.65, 0.98))
        self.student = self._says(rng, truth, np.where(hard, 0.6, 0.95))
        self.opinion = self._says(rng, truth, np.where(hard, 0.5, 0.9))
        chance = np.where(hard, 0.6, 0.93)
        probabilities = np.full((ROWS, 3), 0.0)
        for row, id_ in enumerate(self.ids):
            probabilities[row] = (1 - chance[row]) / 2
            probabilities[row, LABELS.index(self.teacher[id_])] = chance[row]
        self.findings = pa.table(
            {
                "id": self.ids,
                "doubt": 1 - chance,
                "opinion": [self.opinion[id_] for id_ in self.ids],
                "consensus_probabilities": probabilities.tolist(),
            }
        )

    def _says(self, rng: np.random.Generator, truth: Any, right: Any) -> dict[str, str]:
        said = np.where(rng.random(ROWS) < right, truth, (truth + rng.integers(1, 3, ROWS)) % 3)
        return dict(zip(self.ids, (LABELS[place] for place in said), strict=True))

    def share(self, who: dict[str, str]) -> float:
        return float(np.mean([who[id_] == self.truth[id_] for id_ in self.ids]))

    def sampled(self, seed: int, count: int = LABELLED) -> dict[str, Any]:
        weights = draw.weights(self.findings["doubt"].to_numpy())
        order = draw.order(self.ids, weights, seed)
        sample = DrawnSample(self.findings.append_column("weight", pa.array(weights)).take(order), count)
        known = inclusion(sample, sample.ids[:count])
        population = [row | {"inclusion": known.get(row["id"])} for row in sample.findings.to_pylist()]
        truth = {id_: self.truth[id_] for id_ in known}
        student = {id_: self.student[id_] for id_ in known}
        return estimates(spec(), truth, self.teacher, student, population)


def test_intervals_hold_the_figure_of_the_population() -> None:
    world = World(1)
    held = {"teacher": 0, "student": 0, "difference": 0}
    apart = world.share(world.student) - world.share(world.teacher)
    draws = 60
    for seed in range(draws):
        found = world.sampled(seed)
        for who, said in (("teacher", world.teacher), ("student", world.student)):
            low, high = found[who]["ci95"]["accuracy"]
            held[who] += low <= world.share(said) <= high
        _, low, high = found["difference"]["difference"]
        held["difference"] += low <= apart <= high
    assert min(held.values()) >= 0.87 * draws, held


def test_the_point_is_not_that_of_the_rows_as_they_were_drawn() -> None:
    """Doubtful rows are drawn more often: their plain share of right answers would be too low."""
    world = World(2)
    found = [world.sampled(seed) for seed in range(30)]
    mean = np.mean([each["teacher"]["accuracy"] for each in found])
    assert abs(mean - world.share(world.teacher)) < 0.01


def test_a_difference_that_is_large_has_a_small_p() -> None:
    world = World(3)
    world.student = {id_: LABELS[(LABELS.index(label) + 1) % 3] for id_, label in world.truth.items()}
    found = world.sampled(0)["difference"]
    assert found["p"] < 1e-4 and found["difference"][2] < 0 and found["only_b_right"] == 0


def test_without_a_student_the_teacher_is_estimated_all_the_same() -> None:
    world = World(4)
    weights = np.ones(ROWS)
    order = draw.order(world.ids, weights, 0)
    sample = DrawnSample(world.findings.append_column("weight", pa.array(weights)).take(order), 100)
    known = inclusion(sample, sample.ids[:100])
    population = [row | {"inclusion": known.get(row["id"])} for row in sample.findings.to_pylist()]
    found = estimates(spec(), world.truth, world.teacher, None, population)
    assert set(found) == {"rows", "population", "teacher"} and found["rows"] == 100
    assert found["teacher"]["accuracy"] == pytest.approx(world.share(world.teacher), abs=0.08)
