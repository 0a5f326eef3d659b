"""What the connection to Ray refuses before Ray is asked; Ray itself is started in the end-to-end tests."""

import re
import socket
import time

import pytest

from runner.cluster.capacity import Capacity
from runner.cluster.cluster import Cluster
from runner.cluster.errors import UnwrappedErrors, chain, unreachable
from runner.cluster.node_types import count_placements, inventory
from runner.cluster.resources import Resources
from runner.cluster.train import has_checkpoint
from runner.rundir.folder import Folder
from runner.system import machine, nvml
from runner.system.errors import DataError, EngineError, LostError, UserError


def gpus_here(monkeypatch, *gpus):
    """This machine has these: their names, and memory in GiB."""
    found = [nvml.Gpu(name, size * 2**30) for name, size in gpus]
    monkeypatch.setattr(nvml, "gpus", lambda: found)
    monkeypatch.setattr(nvml, "first", lambda: found[0] if found else None)


T4 = ("Tesla T4", 15)


def test_gpus_that_are_not_here_are_refused_before_anything_starts(monkeypatch):
    gpus_here(monkeypatch, T4)
    Cluster().require(Resources(gpus=1, accelerator="T4"), "student.resources")
    with pytest.raises(UserError, match=r"teacher.resources asks for 2 GPUs \(H100\), this machine has 1"):
        Cluster().require(Resources(gpus=2, accelerator="H100"), "teacher.resources")


def test_workers_are_counted_together(monkeypatch):
    gpus_here(monkeypatch, T4, T4)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    Cluster().require(Resources(gpus=1), "student.resources", 2)
    Cluster().require(Resources(cpus=2), "student.resources", 2)
    with pytest.raises(UserError, match="asks for 3 GPUs for 3 workers, this machine has 2"):
        Cluster().require(Resources(gpus=1), "student.resources", 3)
    with pytest.raises(UserError, match="asks for 6 processor cores for 2 workers, this machine has 4"):
        Cluster().require(Resources(cpus=3), "student.resources", 2)
    with pytest.raises(UserError, match="asks for 5 processor cores for 5 workers, this machine has 4"):
        Cluster().require(Resources(), "student.resources", 5)


@pytest.mark.parametrize(
    ("asked", "here", "said"),
    [
        ("H100", [T4, T4], "H100 is asked for, this machine's GPUs are T4 (Tesla T4)"),
        (
            "A100-80G",
            [("NVIDIA A100-SXM4-40GB", 40)] * 2,
            "A100-80G is asked for, NVIDIA A100-SXM4-40GB of this machine has 40",
        ),
        (
            "A100-80G",
            [("NVIDIA A100-SXM4-80GB", 0)] * 2,
            "NVIDIA A100-SXM4-80GB of this machine does not tell its memory",
        ),
        ("A100-80G", [("NVIDIA A100-SXM4-80GB", 80)] * 2, None),
        ("A100", [("NVIDIA A100-SXM4-80GB", 80)] * 2, None),
        ("A100-40G", [("NVIDIA A100-SXM4-40GB", 40)] * 2, None),
        ("H100", [("NVIDIA H100 NVL", 94)] * 2, None),
        ("RTX-PRO-6000", [("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96)] * 2, None),
        ("GeForce-RTX-4090", [("NVIDIA GeForce RTX 4090", 24)] * 2, None),
        ("L40S", [("NVIDIA L4", 23)] * 2, "L40S is asked for, this machine's GPUs are L4 (NVIDIA L4)"),
    ],
)
def test_another_kind_of_gpu_is_refused_instead_of_waited_for(monkeypatch, asked, here, said):
    gpus_here(monkeypatch, *here)
    wanted = Resources(gpus=2, accelerator=asked)
    if said is None:
        Cluster().require(wanted, "teacher.resources")
        return
    with pytest.raises(
        UserError, match=re.escape(f"teacher.resources.accelerator: {said}" if "asked" in said else said)
    ):
        Cluster().require(wanted, "teacher.resources")


NODES = [
    {"CPU": 0.0},
    {"CPU": 64.0, "GPU": 8.0, "accelerator_type:H100": 1.0},
    *[{"CPU": 2.0, "GPU": 1.0, "accelerator_type:T4": 1.0}] * 2,
]


@pytest.fixture
def four_nodes(monkeypatch):
    """What a connection to a cluster of four nodes knows of them."""
    cluster = Cluster("10.0.0.1:6379")
    monkeypatch.setattr(Capacity, "nodes", lambda self: NODES)
    return cluster


@pytest.mark.parametrize(
    ("bundle", "many"),
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
def test_what_a_cluster_holds_is_counted_by_whole_nodes(bundle, many):
    assert count_placements(NODES, bundle) == many


def test_cores_that_nobody_named_are_those_of_the_nodes_that_fit(four_nodes):
    assert four_nodes.capacity.request(Resources()) == {"num_cpus": 64, "num_gpus": 0}
    assert four_nodes.capacity.request(Resources(gpus=2)) == {"num_cpus": 6, "num_gpus": 2}
    wanted = {"num_cpus": 2, "num_gpus": 1, "accelerator_type": "T4"}
    assert four_nodes.capacity.request(Resources(gpus=1, accelerator="T4")) == wanted
    assert four_nodes.capacity.request(Resources(cpus=7)) == {"num_cpus": 7, "num_gpus": 0}


EIGHT = {"CPU": 96.0, "GPU": 8.0, "accelerator_type:A100": 1.0}


@pytest.mark.parametrize(
    ("nodes", "memory", "asked_of_ray", "said"),
    [
        ([EIGHT], [80], "A100", None),
        ([EIGHT], [40], "A100", "a node of type A100 with 40 GiB, which Ray does not tell from A100-80G"),
        ([EIGHT, EIGHT], [80, 40], "A100", "start the nodes that are meant with `ray start --resources="),
        ([EIGHT], [0], "A100", "a node of type A100 whose memory could not be read"),
        ([EIGHT | {"accelerator_type:A100-80G": 1.0}, EIGHT], [], "A100-80G", None),
    ],
)
def test_what_ray_does_not_tell_apart_is_asked_of_the_nodes(monkeypatch, nodes, memory, asked_of_ray, said):
    cluster, wanted = Cluster("10.0.0.1:6379"), Resources(cpus=4, gpus=2, accelerator="A100-80G")
    monkeypatch.setattr(Capacity, "nodes", lambda self: nodes)
    monkeypatch.setattr(Cluster, "start", lambda self: None)
    monkeypatch.setattr(Capacity, "gpu_memory", lambda self, resource: [size * 2**30 for size in memory])
    assert cluster.capacity.request(wanted)["accelerator_type"] == asked_of_ray
    if said is None:
        cluster.require(wanted, "teacher.resources")
        return
    with pytest.raises(UserError, match=said):
        cluster.require(wanted, "teacher.resources")


@pytest.mark.parametrize(
    ("node", "gpus", "cores"),
    [
        ({"CPU": 64.0, "GPU": 8.0}, 1, 4),
        ({"CPU": 64.0, "GPU": 8.0}, 8, 18),
        ({"CPU": 8.0, "GPU": 8.0}, 1, 1),
        ({"CPU": 8.0, "GPU": 4.0}, 2, 4),
        ({"CPU": 1.0, "GPU": 2.0}, 1, 1),
    ],
)
def test_cores_never_leave_a_gpu_idle(monkeypatch, node, gpus, cores):
    monkeypatch.setattr(Capacity, "nodes", lambda self: [node, {"CPU": 96.0}])
    assert Cluster("x").capacity.request(Resources(gpus=gpus))["num_cpus"] == cores
    assert Cluster("x").capacity.room(Resources(gpus=gpus)) == node["GPU"] // gpus or cores == 1


def test_an_autoscaler_is_asked_by_the_name_that_render_gave_its_nodes(monkeypatch):
    monkeypatch.setattr(Capacity, "nodes", lambda self: [{"CPU": 2.0}])
    wanted = Resources(gpus=1, accelerator="A100-80G")
    assert Cluster("x").capacity.by_node_names(wanted) == wanted


def test_what_the_cluster_has_is_said_node_by_node():
    assert inventory(NODES) == "2 x (2 cores, 1 GPUs T4); 1 x (0 cores); 1 x (64 cores, 8 GPUs H100)"
    assert inventory([]) == "no node"


def test_another_version_of_ray_or_python_is_said_in_a_line():
    told = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.10.1\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )  # as ray._private.utils.check_version_info words it
    said = "the Ray cluster at auto runs Ray 2.40.0, Python 3.10.1, and this is Ray 2.60.0, Python 3.11.7: both must"
    assert str(unreachable("auto", RuntimeError(told))).startswith(said)


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
    inner = DataError("data.csv-broken", "row 3 is broken")
    try:
        try:
            raise inner
        except DataError as error:
            raise RuntimeError("layer") from error
    except RuntimeError as error:
        outer = ValueError("another layer")
        outer.cause = error  # Ray keeps the cause of a task's failure in an attribute
    assert inner in list(chain(outer))


def test_a_node_that_is_taken_down_is_said_and_is_no_bug():
    import ray

    said = r"Ray gives no more work to a node that the run counts on .*what was finished is kept"
    with pytest.raises(LostError, match=said), UnwrappedErrors(ray):
        raise ray.exceptions.ActorUnschedulableError("The node doesn't exist any more")


def test_workers_whose_nodes_went_away_are_told_from_those_that_died_of_themselves():
    import ray
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    told = "The actor died because its node has died. Node Id: 7"  # Ray's control store writes so
    lost = ray.exceptions.ActorDiedError(ActorDiedErrorContext(actor_id=b"a" * 16, error_message=told))
    for error in (lost, ray.exceptions.NodeDiedError("the node is gone")):
        with pytest.raises(LostError, match="nodes that the run worked on went away"), UnwrappedErrors(ray):
            raise error
    alone = ActorDiedErrorContext(actor_id=b"a" * 16, error_message="Worker unexpectedly exits")
    with pytest.raises(EngineError, match="died more often") as found, UnwrappedErrors(ray):
        raise ray.exceptions.ActorDiedError(alone)
    assert not isinstance(found.value, LostError)


def test_a_training_worker_that_died_too_often_is_said_with_advice():
    import ray
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # as Ray Train wraps it

    failed = WorkerHealthCheckFailedError("a worker health check failed", ray.exceptions.ActorDiedError())
    said = "died more often than Ray restarts it, usually for want of memory"
    with pytest.raises(EngineError, match=said), UnwrappedErrors(ray):
        raise WorkerGroupError("1 worker failed", {0: failed})
    with pytest.raises(EngineError, match=said), UnwrappedErrors(ray):
        raise ControllerError(ray.exceptions.ActorDiedError())  # where it dies before it has begun
    with pytest.raises(WorkerGroupError), UnwrappedErrors(ray):
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
    assert has_checkpoint(storage) is found
