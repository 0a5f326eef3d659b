"""Ray's private names are where this package looks for them, and do what it takes them to do."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from runner.cluster import health, private_api, worker
from runner.cluster.cluster import Cluster
from runner.cluster.connection import METRICS_PORT
from runner.cluster.resources import Resources
from runner.rundir.folder import Folder


@pytest.fixture(scope="module")
def metrics_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(metrics_port: int) -> Iterator[Cluster]:
    """Ray in this process."""
    made = Cluster()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(METRICS_PORT, str(metrics_port))
        # A process that has used a token once cannot start another Ray after it has been on a cluster without.
        environment.setenv("RAY_AUTH_MODE", "disabled")
        made.start()
        yield made
        made.stop()


@pytest.mark.slow("ray")
def test_ray_serves_its_metrics_at_the_port(cluster: Cluster, metrics_port: int) -> None:
    socket.create_connection(("127.0.0.1", metrics_port), timeout=10).close()


def test_a_clients_job_sends_workers_its_own_paths_alone() -> None:
    config = private_api.client_job_config(["/nowhere"])
    assert config._client_job is True
    assert list(config._get_proto_job_config().py_driver_sys_path) == ["/nowhere"]


@pytest.mark.slow("ray")
def test_ray_asks_the_switch_of_its_lines_about_workers(cluster: Cluster) -> None:
    import ray

    functions = [member for member in vars(ray._private.worker).values() if isinstance(member, FunctionType)]
    assert any("_worker_logs_enabled" in function.__code__.co_names for function in functions)
    assert ray._private.worker._worker_logs_enabled is False, "the connection has turned it off"


class _Dashboard(http.server.BaseHTTPRequestHandler):
    """Answers what a client asks of a cluster's dashboard first."""

    def do_GET(self) -> None:
        body = json.dumps({"version": "4", "ray_version": "9.9.9", "ray_commit": "x", "session_name": "s"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def test_a_submission_client_knows_the_version_of_its_server() -> None:
    from ray.job_submission import JobSubmissionClient

    with http.server.HTTPServer(("127.0.0.1", 0), _Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = JobSubmissionClient(f"http://127.0.0.1:{server.server_address[1]}")
        assert private_api.server_version(client) == "9.9.9"
        server.shutdown()


@pytest.mark.slow("ray")
def test_the_node_of_this_process_tells_its_raylet_its_logs_and_its_workers(cluster: Cluster) -> None:
    node = private_api.local_node()
    raylet = private_api.raylet_pid(node)
    assert "raylet" in Path(f"/proc/{raylet}/cmdline").read_text()
    assert (private_api.logs_dir(node) / "raylet.out").exists()
    assert private_api.dead_processes(node) == []
    own = cluster.call(lambda: os.getpid(), Resources(1))
    starting, begun = health._workers(raylet)
    assert own in begun and own not in starting


def test_workers_start_from_the_file_by_which_those_that_start_are_known() -> None:
    import ray._private.workers

    assert (Path(ray._private.workers.__path__[0]) / private_api.STARTING_TITLE).exists()


DYING = """\
import os, signal, sys, time
import ray
from runner.cluster import private_api
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
node = private_api.local_node()
others = [entry.process.pid for kind, entries in node.all_processes.items() for entry in entries if kind != "raylet"]
os.kill(private_api.raylet_pid(node), signal.SIGKILL)
for _ in range(100):
    if "raylet" in private_api.dead_processes(node):
        break
    time.sleep(0.1)
print(private_api.dead_processes(node), flush=True)
private_api.kill_node(node)
print(len(others), [pid for pid in others if os.path.exists(f"/proc/{pid}")], flush=True)
os._exit(0)
"""


@pytest.mark.slow("ray")
def test_a_node_tells_which_of_its_processes_died_and_is_ended_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True, timeout=120)
    dead, left = done.stdout.splitlines()[-2:]
    assert "raylet" in dead, done.stderr
    assert left.endswith(" []") and not left.startswith("0"), "others were there, and are gone"


@pytest.mark.slow("ray")
def test_actors_that_were_started_again_are_counted(cluster: Cluster, tmp_path: Path) -> None:
    ray, before = cluster.start(), cluster.restarts()

    class Mortal:
        def die_once(self, place: str) -> None:
            if not os.path.exists(place):
                open(place, "w").close()
                os._exit(1)

    actor = ray.remote(num_cpus=0, max_restarts=1, max_task_retries=1)(Mortal).remote()
    ray.get(actor.die_once.remote(str(tmp_path / "died")), timeout=60)
    assert private_api.actor_restarts() == cluster.restarts() == before + 1


@pytest.mark.slow("ray")
def test_what_an_autoscaler_reports_is_read(cluster: Cluster) -> None:
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import ClusterConfig

    ray, config = cluster.start(), ClusterConfig()
    config.node_group_configs.add(name="small", max_count=1).resources.update({"CPU": 2})
    GcsClient(ray.get_runtime_context().gcs_address).report_cluster_config(config.SerializeToString())
    (group,) = private_api.cluster_config().node_group_configs
    assert (group.name, dict(group.resources), group.max_count) == ("small", {"CPU": 2}, 1)


def test_rays_name_of_a_gpu() -> None:
    assert private_api.accelerator_type("NVIDIA A100-SXM4-80GB") == "A100"
    assert private_api.accelerator_type("Tesla T4") == "T4"


@pytest.mark.slow("ray")
def test_a_worker_knows_that_it_is_one_and_what_it_was_given(cluster: Cluster) -> None:
    assert private_api.is_worker(cluster.start()) is False
    assert worker.given_gpu() is None
    assert cluster.call(worker.given_gpu, Resources(1)) is False


def test_a_node_has_an_address_and_a_free_port() -> None:
    host, port = private_api.address_and_port()
    with socket.socket() as taken:
        taken.bind((host, port))


def test_rays_trainer_would_handle_sigint() -> None:
    own = private_api.trainer_class()
    (rays,) = own.__bases__
    assert "_register_sigint_handler" in vars(rays) and "_register_sigint_handler" in vars(own)
    assert any("_register_sigint_handler" in member.__code__.co_names for member in _functions(rays)), "Ray calls it"


def _functions(kind: type) -> list[FunctionType]:
    return [member for member in vars(kind).values() if isinstance(member, FunctionType)]


def make_loop() -> Any:
    """Made here, so that Ray sends it along: its workers do not find this file."""

    def loop(config: dict[str, Any], report: Any, **given: Any) -> dict[str, Any]:
        import torch.distributed as group

        return {"group": [group.is_initialized(), group.get_backend()], "local_rank": os.environ["LOCAL_RANK"]}

    return loop


@pytest.mark.slow("ray")
def test_workers_of_a_training_form_a_process_group(cluster: Cluster, tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    result = cluster.train(make_loop(), {}, Resources(1), 1, storage, lambda progress: None)
    assert result == {"group": [True, "gloo"], "local_rank": "0"}


def test_no_other_module_names_a_private_part_of_ray() -> None:
    package = Path(private_api.__file__).parents[1]
    others = [file for file in package.rglob("*.py") if file != Path(private_api.__file__)]
    private = re.compile(r"ray(\.\w+)*\._(?!_)|from ray\S* import _(?!_)|ray\.train\.v2")
    assert len(others) > 100
    assert not [str(file) for file in others if private.search(file.read_text(encoding="utf-8"))]
