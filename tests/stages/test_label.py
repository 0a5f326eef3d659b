"""The label stage on real Ray, with the engine that has no model: nothing lost, nothing asked twice, whatever dies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow("ray")

ROWS = 3_000
NOOP = ["teacher.engine=noop", "teacher.columns=[]", "teacher.batch_size=16"]


@pytest.fixture
def many(job: Any) -> Any:
    job.csv("train.csv", [(f"Sales of unit {n} rose by {n % 97} %.", "", "", "", "") for n in range(ROWS)])
    return job


def command(job: Any, rows: int, runs: str, *overrides: str) -> list[str]:
    """`tutelage plan --probe` labels as a run does and stops there."""
    changes = [part for change in [*NOOP, *overrides] for part in ("--set", change)]
    where = ["--runs-dir", str(job.root / runs), "--json"]
    return [sys.executable, "-m", "runner", "plan", str(job.path), "--probe", str(rows), *where, *changes]


def label(job: Any, rows: int = 100_000, *overrides: str, runs: str = "runs") -> dict[str, Any]:
    done = subprocess.run(command(job, rows, runs, *overrides), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    teacher: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["teacher"]
    return teacher


def stored(job: Any, runs: str = "runs") -> list[dict[str, Any]]:
    files = sorted((job.root / runs).glob("small/answers/*/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_probe_labels_a_few_rows_and_the_plan_is_measured(many: Any) -> None:
    teacher = label(many, 200)
    assert (teacher["reuse"], teacher["generate"]) == (200, ROWS + 3 - 200)
    assert teacher["basis"] == "measured on 200 earlier rows"
    teacher = label(many, 50)
    assert teacher["reuse"] == 250
    ids = [row["id"] for row in stored(many)]
    assert len(ids) == len(set(ids)) == 250


def test_more_votes_ask_only_for_what_is_new(many: Any) -> None:
    cot = ("teacher.prompt=cot", "data.train.limit=300")
    label(many, 100_000, *cot, "teacher.votes=3")
    three = {(row["id"], row["vote"]): row["text"] for row in stored(many)}
    label(many, 100_000, *cot, "teacher.votes=5")
    rows = stored(many)
    five = {(row["id"], row["vote"]): row["text"] for row in rows}
    assert len(rows) == len(five) > len(three)
    assert {key: five[key] for key in three} == three
    assert label(many, 100_000, *cot, "teacher.votes=1")["generate"] == 0
    assert len(stored(many)) == len(rows)


def test_each_row_gets_examples_of_its_own_and_the_plan_says_what_that_costs(many: Any) -> None:
    pool = [(f"Sales of unit {n} rose by {n} %.", "positive") for n in range(ROWS, ROWS + 40)]
    many.csv("pool.csv", [*pool, ("The office is in Oulu.", "neutral")], ("text", "label"))
    similar = ("data.train.limit=300", "task.examples={from: pool.csv, select: similar, k: 3}")
    teacher = label(many, 100_000, *similar)
    assert (teacher["generate"], teacher["reuse"]) == (0, 303)
    assert teacher["prompt_tokens"]["per_row"] > 3 * 8
    assert [turn["role"] for turn in teacher["prompt"]] == ["system", *["user", "assistant"] * 3, "user"]
    first = {row["id"]: row["label_probabilities"] for row in stored(many)}
    diverse = ("data.train.limit=300", "task.examples={from: pool.csv, select: diverse, k: 3}")
    assert label(many, 100_000, *diverse)["generate"] == 0
    assert len(stored(many)) == 2 * len(first), "another choice is another question"


def test_each_row_is_shown_a_shortlist_of_its_own(many: Any) -> None:
    listed = ("data.train.limit=100", "teacher.shortlist=2", "teacher.seed=3")
    assert label(many, 100_000, *listed)["generate"] == 0
    rows = stored(many)
    assert len(rows) == 103 and {len(row["shortlist"]) for row in rows} == {2}
    for row in rows:
        assert {n for n, share in enumerate(row["label_probabilities"]) if share} <= set(row["shortlist"])
    assert label(many, 100_000, "data.train.limit=100")["generate"] == 0
    assert len(stored(many)) == 2 * 103, "another list is another question"


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(many: Any) -> None:
    slow = ("teacher.engine_options={seconds: 0.01}",)
    small = label(many, 100_000, *slow, "teacher.budget.hours=0.0005")
    assert 0 < small["reuse"] < ROWS
    ids = {row["id"] for row in stored(many)}
    assert label(many, 100_000, *slow)["generate"] == 0
    rows = [row["id"] for row in stored(many)]
    assert len(rows) == len(set(rows)) == ROWS + 3
    assert ids < set(rows)
    assert label(many, 100_000, *slow, "teacher.calibration=batch")["generate"] == 0


def test_ten_kills_of_driver_and_workers_lose_nothing(many: Any) -> None:
    """SIGKILL at random moments; the same command goes on, and the answers are those of an undisturbed run."""
    slow = ("teacher.engine_options={seconds: 0.01}", "teacher.prompt=cot", "teacher.votes=3", "data.train.limit=1500")
    label(many, 100_000, *slow, runs="quiet")
    expected = {(row["id"], row["vote"], row["attempt"]): row["text"] for row in stored(many, "quiet")}
    chance = random.Random(7)
    kills = {"driver": 0, "worker": 0}
    before = 0
    while sum(kills.values()) < 10:
        driver = subprocess.Popen(
            command(many, 100_000, "killed", *slow),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        before = wait_for_more(many, driver, before)
        for _ in range(3):
            time.sleep(chance.uniform(0.1, 1.0))
            kills["worker"] += kill_a_worker(driver.pid, chance)
        time.sleep(chance.uniform(0.1, 1.0))
        ended = driver.poll() is not None
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait(timeout=30)
        if ended:
            break
        kills["driver"] += 1
    assert kills["driver"] >= 2 and kills["worker"] >= 4, kills
    label(many, 100_000, *slow, runs="killed")
    rows = stored(many, "killed")
    found = {(row["id"], row["vote"], row["attempt"]): row["text"] for row in rows}
    assert found == expected
    # Only what an actor stores in the moment after its driver was killed may have missed the next driver's eye.
    assert len(rows) - len(found) <= 16 * 3 * min(kills.values())


def wait_for_more(job: Any, driver: subprocess.Popen[bytes], before: int) -> int:
    """Until this driver's actors have stored something; how many files there are."""
    end = time.monotonic() + 120
    while time.monotonic() < end and driver.poll() is None:
        files = len(list((job.root / "killed").glob("small/answers/*/*.parquet")))
        if files > before:
            return files
        time.sleep(0.05)
    return before


def kill_a_worker(session: int, chance: random.Random) -> int:
    """SIGKILL one of the session's worker processes: the labelling actor or one beside it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name = (place / "cmdline").read_bytes().split(b"\0")[0]
            own = os.getsid(int(place.name)) == session
        except (OSError, ProcessLookupError):
            continue
        # Ray's own agents take their whole node with them: that is the driver's end, which is tested too.
        if own and name.startswith((b"ray::MapWorker", b"ray::IDLE", b"ray::ActorLocationTracker")):
            found.append(int(place.name))
    if not found:
        return 0
    try:
        os.kill(chance.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
