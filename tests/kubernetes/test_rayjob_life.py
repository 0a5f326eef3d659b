"""The RayJobs that ship, through everything that can be lost: how each ends, what it costs, what the docs say of it.

That the simulator does as KubeRay does is held in ``test_rayjob_oracle.py``.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import manifest_checks as checks
import pytest
import rayjob_losses as losses
import yaml
from rayjob_facts import Facts
from rayjob_life import POLL, STATUS_CHECK
from rayjob_losses import LOSSES, end, facts_of
from rayjob_world import DAY, IN_FLIGHT, Life

from runner.kubernetes.manifest import render
from runner.kubernetes.options import RenderOptions
from runner.spec import load_spec

NAMES = [folder.name for folder in losses.OVERLAYS]
STATUS_CHECK_TIMEOUT = "JobStatusCheckTimeoutExceeded"
UNREADY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

# How each loss ends, on every overlay: the state, its reason, how many attempts failed, how many clusters there were.
ENDS: dict[str, tuple[str, str, int, int]] = {
    "head node gone": ("Complete", "", 1, 2),
    "head node hangs": ("Complete", "", 1, 2),
    "head drained": ("Complete", "", 1, 2),
    "head drained often": ("Failed", "AppFailed", 3, 3),
    "head out of memory": ("Complete", "", 0, 1),
    "head out of memory often": ("Failed", "SubmissionFailed", 3, 3),
    "worker lost": ("Complete", "", 0, 1),
    "mistake": ("Failed", "AppFailed", 3, 3),
    "crash": ("Complete", "", 1, 2),
    "deadline": ("Failed", "DeadlineExceeded", 1, 1),
    "head never ready": ("Failed", "PreRunningDeadlineExceeded", 3, 3),
    "workers never ready": ("Failed", "AppFailed", 3, 3),
    "no GPUs": ("Failed", "AppFailed", 3, 3),
    "GPUs late": ("Complete", "", 0, 1),
    "operator cut off": ("Failed", STATUS_CHECK_TIMEOUT, 1, 1),
    "operator cut off a while": ("Complete", "", 0, 1),
    "operator restarted": ("Complete", "", 0, 1),
    "deleted": ("deleted", "", 0, 1),
    "submitter lost": ("Complete", "", 0, 1),
    "submitter lost often": ("Complete", "", 1, 2),
    "preempted": ("Complete", "", 0, 2),
}


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("overlay", NAMES)
def test_each_loss_ends_as_expected(overlay: str, loss: str) -> None:
    for life in losses.outcomes(LOSSES[loss], [facts_of(overlay)]):
        assert end(life) == ENDS[loss], life.operator.history


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("loss", [name for name, expected in ENDS.items() if expected[0] == "Complete"])
@pytest.mark.parametrize("overlay", NAMES)
def test_what_goes_on_resumes(overlay: str, loss: str) -> None:
    """All the work is done in the end, and none of it twice but for what was in flight when something was lost."""
    for life in losses.outcomes(LOSSES[loss], [facts_of(overlay)]):
        assert life.stored == life.work
        broken = max(life.submissions - 1, loss == "worker lost")
        assert life.labelled <= life.work + broken * IN_FLIGHT


@pytest.mark.slow("subprocess")
def test_what_does_not_outlive_the_cluster_is_done_again() -> None:
    """The model can fail: with runs on the pod's own disk a new cluster begins at nothing."""
    of = facts_of("local-cpu")
    rayjob = copy.deepcopy(of.rayjob)
    rayjob["spec"]["entrypoint"] = rayjob["spec"]["entrypoint"].replace("/mnt/tutelage/runs", "/tmp/runs")
    life = losses.live(Facts([rayjob, *of.others]), LOSSES["crash"])
    assert end(life) == ENDS["crash"]
    assert life.labelled > life.work + 5 * IN_FLIGHT


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", NAMES)
def test_the_cluster_is_gone_in_the_end(overlay: str) -> None:
    for loss in LOSSES.values():
        for life in losses.outcomes(loss, [facts_of(overlay)]):
            assert not life.has_cluster, loss.title


def worst_case(of: Facts) -> Life:
    """Every attempt breaks off just before its deadline, with all pods there from its start to its end."""
    life = Life(of, 40 * DAY)
    life.suspended = False
    deadline = of.spec["activeDeadlineSeconds"]
    life.exits = lambda: ((life.operator.status.started or 0) + deadline - life.now - 2 * POLL, 3)
    return life.live()


PRICES = ("teacher.price_per_hour=8", "benchmark.price_per_hour=0.6")
HARDWARE = "benchmark.hardware=[{name: other, accelerator: L4, gpus: 1, price_per_hour: 1.1}]"


@pytest.mark.parametrize("options", [{}, {"retries": 0}, {"hours": 1, "retries": 5}, {"queue": "research"}], ids=str)
@pytest.mark.parametrize("overrides", [PRICES, (*PRICES, HARDWARE)], ids=["prices", "hardware"])
def test_no_job_costs_more_than_its_annotation_says(options: dict[str, Any], overrides: tuple[str, ...]) -> None:
    spec = load_spec(checks.ROOT / "specs" / "financial-sentiment.yaml", overrides)
    of = Facts(list(yaml.safe_load_all(render(spec, RenderOptions(cloud="gke", **options)).yaml)))
    attempts, life = of.spec["backoffLimit"] + 1, worst_case(of)
    assert life.operator.status.failed == life.clusters == attempts
    assert life.cluster_seconds >= attempts * (of.spec["activeDeadlineSeconds"] - POLL)
    assert of.promised is not None
    assert of.usd(life.cluster_seconds) <= of.promised <= 1.05 * of.usd(life.cluster_seconds)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", NAMES)
def test_no_shipped_job_costs_more_than_its_annotation_says(overlay: str) -> None:
    of = facts_of(overlay)
    lives = [worst_case(of), *(life for loss in LOSSES.values() for life in losses.outcomes(loss, [of]))]
    worst = max(of.usd(life.cluster_seconds) for life in lives)
    assert worst <= (of.promised or 0)
    assert (worst == 0) == (of.promised is None), "without prices nothing is promised"


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("loss", ["mistake", "no GPUs", "head never ready", "workers never ready"])
def test_what_cannot_go_on_buys_no_gpus(loss: str) -> None:
    for life in losses.outcomes(LOSSES[loss], [facts_of("gke-h100-t4"), facts_of("eks")]):
        assert life.gpu_seconds == 0


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", NAMES)
def test_a_deleted_job_is_stopped_and_has_time_to_end(overlay: str) -> None:
    """StopJob comes before the pods go. Ray kills what has not ended by then, and the kubelet whatever is left."""
    of = facts_of(overlay)
    assert losses.live(of, LOSSES["deleted"]).stop_signals == 1
    assert 10 <= of.stop_seconds < of.head_grace


@pytest.mark.slow("subprocess")
def test_the_docs_say_what_happens() -> None:
    """The table of the section is what `python tests/kubernetes/rayjob_losses.py` prints."""
    text = losses.DOCS.read_text(encoding="utf-8").split("## What is tried again\n")[1].split("\n## ")[0]
    said = [line for line in text.splitlines() if line.startswith("|")]
    assert said == losses.table([facts_of(name) for name in NAMES])


def test_a_queue_gets_a_job_through_it_all() -> None:
    """Kueue's way: suspended until admitted, preempted in the middle, all pods from the start, no autoscaler."""
    spec = load_spec(checks.ROOT / "specs" / "financial-sentiment.yaml")
    queued = Facts(list(yaml.safe_load_all(render(spec, RenderOptions(cloud="gke", queue="research")).yaml)))
    assert queued.spec["suspend"] and not queued.scales
    for loss in ("preempted", "worker lost", "head out of memory", "submitter lost"):
        life = losses.live(queued, LOSSES[loss])
        assert end(life) == ENDS[loss], life.operator.history
        assert life.stored == life.work


@pytest.mark.slow("subprocess")
def test_a_toleration_alone_brings_no_new_head() -> None:
    """KubeRay counts a pod that is marked for deletion: on a node that does not answer it stays until its Node goes."""
    there = facts_of("gke-h100-t4")
    for grace in (30, 300):
        rayjob = copy.deepcopy(there.rayjob)
        marks = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": grace} for key in UNREADY
        ]
        rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["tolerations"] = marks
        rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("livenessProbe")
        life = losses.live(Facts([rayjob, *there.others]), LOSSES["head node hangs"], STATUS_CHECK)
        assert end(life) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)


# The ways to submit, side by side: what would be if the same job used another one


def without_probe(of: Facts) -> Facts:
    rayjob = copy.deepcopy(of.rayjob)
    rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("livenessProbe")
    return Facts([rayjob, *of.others])


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("loss", ["head node gone", "head node hangs"])
def test_what_gets_a_job_over_a_lost_head_node(loss: str) -> None:
    """HTTPMode needs an operator that is patient; a submitter that notices needs nothing of the operator."""
    of, script = facts_of("gke-h100-t4"), LOSSES[loss]
    http = facts_of("gke-h100-t4", "HTTPMode")
    assert end(losses.live(http, script, STATUS_CHECK)) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)
    assert end(losses.live(http, script, 1800)) == ("Complete", "", 0, 1)
    for beside in (False, True):
        life = losses.live(of, script, STATUS_CHECK, beside=beside)
        assert end(life) == ("Complete", "", 1, 2)
        assert [reason for _, state, reason in life.operator.history if state == "Retrying"] == ["SubmissionFailed"]


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/gcs_healthz" else 404)
        self.end_headers()


@pytest.mark.slow("subprocess")
def test_the_probe_asks_the_head() -> None:
    """The command itself, with the variable as KubeRay sets it: HOST:PORT, and no scheme."""
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        assert ask_the_head(address) == 0
        assert ask_the_head(f"{address}/nothing") == 1
        server.shutdown()
    assert ask_the_head(address) == 1


def ask_the_head(address: str) -> int:
    probe = facts_of("gke-h100-t4").submitter["containers"][0]["livenessProbe"]
    python, *words = probe["exec"]["command"]
    assert python == "python"
    asked = [sys.executable, *words]
    return subprocess.run(asked, env={"RAY_DASHBOARD_ADDRESS": address}, capture_output=True, check=False).returncode


@pytest.mark.slow("subprocess")
def test_a_patient_operator_alone_does_not_help_a_submitter_that_hangs() -> None:
    """A new head answers 404, which stops no timer where a submitter is to submit."""
    life = losses.live(without_probe(facts_of("gke-h100-t4")), LOSSES["head node gone"], 1800)
    assert end(life) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)
    assert life.head_up is False and life.submissions == 1


@pytest.mark.slow("subprocess")
def test_the_operator_itself_would_submit_without_end() -> None:
    """In HTTPMode nobody counts how often a run kills its head; with a submitter it is three pods for each attempt."""
    loss = LOSSES["head out of memory often"]
    http = losses.live(facts_of("gke-h100-t4", "HTTPMode"), loss)
    assert end(http) == ("Failed", "DeadlineExceeded", 1, 1)
    assert http.submissions > 50
    assert losses.live(facts_of("gke-h100-t4"), loss).submissions <= 9
