"""What the connection to Ray refuses before Ray is asked; Ray itself is started in the end-to-end tests."""

import socket
import time

import pytest

from runner import machine
from runner.cluster import Cluster, Resources, _chain, _has_checkpoint, _inventory, _places, _unreachable, _unwrapped
from runner.errors import DataError, EngineError, UserError
from runner.store import Folder


def test_gpus_that_are_not_here_are_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"])
    Cluster().require(Resources(gpus=1, accelerator="T4"), "student.resources")
    with pytest.raises(UserError, match=r"teacher.resources asks for 2 GPUs \(H100\), this machine has 1"):
        Cluster().require(Resources(gpus=2, accelerator="H100"), "teacher.resources")


def test_workers_are_counted_together(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Tesla T4"] * 2)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    Cluster().require(Resources(gpus=1), "student.resources", 2)
    Cluster().require(Resources(cpus=2), "student.resources", 2)
    with pytest.raises(UserError, match="asks for 3 GPUs for 3 workers, this machine has 2"):
        Cluster().require(Resources(gpus=1), "student.resources", 3)
    with pytest.raises(UserError, match="asks for 6 processor cores for 2 workers, this machine has 4"):
        Cluster().require(Resources(cpus=3), "student.resources", 2)
    with pytest.raises(UserError, match="asks for 5 processor cores for 5 workers, this machine has 4"):
        Cluster().require(Resources(), "student.resources", 5)


NODES = [
    {"CPU": 0.0},
    {"CPU": 64.0, "GPU": 8.0, "accelerator_type:H100": 1.0},
    *[{"CPU": 2.0, "GPU": 1.0, "accelerator_type:T4": 1.0}] * 2,
]


@pytest.fixture
def four_nodes(monkeypatch):
    """What a connection to a cluster of four nodes knows of them."""
    cluster = Cluster("10.0.0.1:6379")
    monkeypatch.setattr(Cluster, "_nodes", lambda self: NODES)
    return cluster


@pytest.mark.parametrize(
    ("bundle", "places"),
    [
        ({"CPU": 1.0, "GPU": 1.0, "accelerator_type:T4": 0.001}, 2),
        ({"CPU": 1.0, "GPU": 2.0, "accelerator_type:T4": 0.001}, 0),  # one on each of two nodes is not two on one
        ({"CPU": 1.0, "GPU": 2.0}, 4),
        ({"CPU": 4.0, "GPU": 1.0}, 8),
        ({"CPU": 20.0, "GPU": 1.0}, 3),
        ({"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001}, 0),
        ({"CPU": 2.0}, 34),
    ],
)
def test_what_a_cluster_holds_is_counted_by_whole_nodes(bundle, places):
    assert _places(NODES, bundle) == places


def test_cores_that_nobody_named_are_those_of_the_nodes_that_fit(four_nodes):
    assert four_nodes._request(Resources()) == {"num_cpus": 64, "num_gpus": 0}
    assert four_nodes._request(Resources(gpus=2)) == {"num_cpus": 4, "num_gpus": 2}
    wanted = {"num_cpus": 2, "num_gpus": 1, "accelerator_type": "T4"}
    assert four_nodes._request(Resources(gpus=1, accelerator="T4")) == wanted
    assert four_nodes._request(Resources(cpus=7)) == {"num_cpus": 7, "num_gpus": 0}


def test_what_the_cluster_has_is_said_node_by_node():
    assert _inventory(NODES) == "2 x (2 cores, 1 GPUs T4); 1 x (0 cores); 1 x (64 cores, 8 GPUs H100)"
    assert _inventory([]) == "no node"


def test_another_version_of_ray_or_python_is_said_in_a_line():
    told = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.10.1\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )  # as ray._private.utils.check_version_info words it
    said = "the Ray cluster at auto runs Ray 2.40.0, Python 3.10.1, and this is Ray 2.60.0, Python 3.11.7: both must"
    assert _unreachable("auto", RuntimeError(told)).startswith(said)


def test_nobody_at_the_address_is_said_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no Ray cluster could be reached at 127.0.0.1.*ray start --head"):
        Cluster(address).start()
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("place", "message"), [("/dev/null", "Not a directory"), ("/tmp/" + "x" * 90, "path length cannot exceed")]
)
def test_a_ray_that_does_not_start_here_is_said(monkeypatch, place, message):
    monkeypatch.setenv("RAY_TMPDIR", place)
    with pytest.raises(UserError, match=rf"Ray does not start on this machine: .*{message}.*RAY_TMPDIR"):
        Cluster().start()


def test_stopping_what_never_started_is_fine():
    Cluster().stop()


def test_the_users_error_is_found_under_layers():
    inner = DataError("row 3 is broken")
    try:
        try:
            raise inner
        except DataError as error:
            raise RuntimeError("layer") from error
    except RuntimeError as error:
        outer = ValueError("another layer")
        outer.cause = error  # Ray keeps the cause of a task's failure in an attribute
    assert inner in list(_chain(outer))


def test_a_training_worker_that_died_too_often_is_said_with_advice():
    import ray
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # as Ray Train wraps it

    failed = WorkerHealthCheckFailedError("a worker health check failed", ray.exceptions.ActorDiedError())
    said = "died more often than Ray restarts it, usually for want of memory"
    with pytest.raises(EngineError, match=said), _unwrapped(ray):
        raise WorkerGroupError("1 worker failed", {0: failed})
    with pytest.raises(EngineError, match=said), _unwrapped(ray):
        raise ControllerError(ray.exceptions.ActorDiedError())  # where it dies before it has begun
    with pytest.raises(WorkerGroupError), _unwrapped(ray):
        raise WorkerGroupError("a bug of ours", {0: ValueError("no actor died")})


SNAPSHOT = """{"ray_version": "2.60.0", "checkpoint_results": [{"checkpoint_dir_name": "one", "metrics": {}}],
"checkpoint_report_indices": [0], "latest_checkpoint_result": {"checkpoint_dir_name": "one", "metrics": {}},
"pending_training_results": [], "pending_validation_specs": [], "current_report_index": 1,
"validated_checkpoint_dir_names": [], "timed_out_validation_checkpoint_dir_names": [],
"failed_validation_checkpoint_dir_names": []}"""


@pytest.mark.parametrize(
    ("snapshot", "checkpoint", "found"),
    [
        (None, False, False),
        (None, True, False),
        (SNAPSHOT[:99], True, False),
        (SNAPSHOT, False, False),
        (SNAPSHOT, True, True),
    ],
)
def test_training_goes_on_only_from_what_was_written_whole(tmp_path, snapshot, checkpoint, found):
    storage = Folder(str(tmp_path))
    if snapshot:
        storage.write("train/checkpoint_manager_snapshot.json", snapshot.encode())
    if checkpoint:
        storage.write("train/one/all.pt", b"")
    assert _has_checkpoint(storage) is found
