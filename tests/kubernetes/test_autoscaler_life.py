"""What Ray's own autoscaler buys for a job, from its start to its end: each GPU when it is asked for, and no longer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from autoscaler_life import START_SECONDS, STOP_SECONDS, UPDATE_SECONDS, World, rays_words, simulated_time
from simulated_job import Life, SimulatedCluster, everything_at_once, headline, live, planned, rendered_cluster

from runner.cluster.resources import Resources
from runner.kubernetes.lifetime import IDLE_SECONDS, TEACHER_IDLE_SECONDS

MOST_BOUGHT = 1.25
"""GPU-hours for each that the stages use."""
ROWS, SOME_ROWS, MANY_ROWS = 2259, 250_000, 1_000_000
GIVING_BACK = 2 * UPDATE_SECONDS + STOP_SECONDS + 1
"""Seconds: to see that a node idles, and that it has let go of Ray; to delete its pod."""


pytestmark = [pytest.mark.usefixtures("one_thread_for_all"), pytest.mark.slow("long")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("life")


@pytest.fixture(scope="module")
def short(home: Path, tiny_model: Path) -> Life:
    """The published case: minutes of labelling."""
    lengths, replicas = planned(ROWS)
    return live(headline(home, tiny_model), home, lengths, replicas=replicas)


@pytest.fixture(scope="module")
def long(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A million rows: several replicas pay."""
    folder = tmp_path_factory.mktemp("long")
    lengths, replicas = planned(MANY_ROWS)
    assert replicas == 4
    return live(headline(folder, tiny_model), folder, lengths, replicas=replicas)


@pytest.mark.parametrize("which", ["short", "long"])
def test_each_gpu_comes_when_it_is_asked_for_and_goes_when_it_is_not(
    which: str, request: pytest.FixtureRequest
) -> None:
    life: Life = request.getfixturevalue(which)
    teachers, students = life.pods("teacher"), life.pods("student")
    assert teachers and len(students) == 1
    assert all(life.began["label"] <= pod.created < life.began["vote"] for pod in teachers)
    assert all(pod.created >= life.began["vote"] for pod in students)  # asked for just before the training
    assert all(pod.used for pod in (*teachers, *students))  # none was given back before it was used
    for pods, end, idle in (
        (teachers, life.began["vote"], TEACHER_IDLE_SECONDS),
        (students, life.ended, IDLE_SECONDS),
    ):
        assert all(0 < pod.gone - end <= idle + GIVING_BACK for pod in pods)


@pytest.mark.parametrize(("which", "counted"), [("short", "up"), ("long", "up"), ("long", "bought")])
def test_gpu_hours_are_used(which: str, counted: str, request: pytest.FixtureRequest) -> None:
    """A short job's nodes take longer to start than it works: from the start on only a long one's count."""
    life: Life = request.getfixturevalue(which)
    assert life.gpu_seconds(counted) <= MOST_BOUGHT * life.gpu_seconds("used")


def test_a_million_rows_are_labelled_by_all_replicas_that_pay_from_the_first_nodes_on(long: Life) -> None:
    assert len(long.pods("teacher")) == 4
    first, *others = (pod.up for pod in long.pods("teacher"))
    assert max(others) - first <= START_SECONDS["H100"] + 2 * UPDATE_SECONDS


def test_a_retry_after_labelling_buys_no_gpu_for_the_teacher(short: Life, home: Path, tiny_model: Path) -> None:
    run = home / "runs" / "financial-sentiment"
    for stage in ("train", "evaluate", "benchmark"):
        shutil.rmtree(run / stage)
    lengths, replicas = planned(ROWS)
    again = live(headline(home, tiny_model), home, lengths, replicas=replicas)
    assert "label" not in again.began and not again.pods("teacher")
    assert len(again.pods("student")) == 1


def test_a_job_without_foresight_is_seen_to_buy_what_it_does_not_use(tiny_model: Path, tmp_path: Path) -> None:
    """What the harness is for: student's nodes up before labelling, and given back unused; H100s idle ten minutes."""
    lengths, replicas = planned(SOME_ROWS)
    cluster = everything_at_once(rendered_cluster())
    life = live(headline(tmp_path, tiny_model), tmp_path, lengths, cluster, replicas)
    early = [pod for pod in life.pods("student") if pod.created < life.began["label"]]
    assert early and not any(pod.used for pod in early)
    assert life.pods("teacher")[0].created == 0


def test_more_replicas_of_a_teacher_are_not_looked_for_among_the_students_nodes(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Ray Data asks for more by cores and GPUs alone, and what fits both groups comes from the student's."""
    one = "teacher.resources.gpus=1"
    lengths, _ = planned(SOME_ROWS)
    cluster = rendered_cluster(one, "teacher.model=Qwen/Qwen3-8B")
    life = live(headline(tmp_path, tiny_model, one), tmp_path, lengths, cluster, replicas=2)
    assert len(life.pods("teacher")) == 2
    assert all(pod.created >= life.began["vote"] for pod in life.pods("student"))


def test_a_node_that_waits_for_a_second_one_is_not_given_back() -> None:
    """Two replicas at least, of which one comes long after the other: the runner waits for both at once."""
    cluster = rendered_cluster("teacher.resources.replicas=[2, 2]")
    world = World(cluster)
    teacher = Resources(6, 2, "H100")
    late = 20 * TEACHER_IDLE_SECONDS
    runner = SimulatedCluster("ray:6379", 3600.0, on_demand=True, world=world)
    with simulated_time(world.clock):
        world.until_ready()
        claim = rays_words(world).util.placement_group([dict(CPU=6, GPU=2)] * 2, "PACK")
        while len(world.pods) < 3:
            world.advance(1)
        world.pods[-1].up += late
        world.release(claim)
        runner.require(teacher, "teacher.resources", 2)
        assert world.now >= world.pods[-1].up
        assert [pod.name for pod in world.nodes() if pod.gpus] == ["teacher-0", "teacher-1"]


@pytest.mark.parametrize("cloud", ["gke", "eks"])
def test_both_clouds_tell_the_autoscaler_the_same(cloud: str) -> None:
    groups = rendered_cluster(cloud=cloud)["workerGroupSpecs"]
    told = {group["groupName"]: (group["replicas"], group.get("idleTimeoutSeconds")) for group in groups}
    assert told == {"teacher": (0, TEACHER_IDLE_SECONDS), "student": (0, None)}
