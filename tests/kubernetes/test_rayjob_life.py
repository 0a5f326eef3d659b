"""The RayJobs that ship, through everything that can be lost: how each ends, what it costs, what the docs say of it.

That the simulator does as KubeRay does is held in ``test_rayjob_oracle.py``.
"""

from __future__ import annotations

import copy

import manifest_checks as checks
import pytest
import rayjob_losses as losses
import yaml
from rayjob_facts import Facts
from rayjob_life import STATUS_CHECK
from rayjob_losses import LOSSES, end, facts_of
from rayjob_world import IN_FLIGHT

from runner.render import Wish, render
from runner.spec import load_spec

NAMES = [folder.name for folder in losses.OVERLAYS]
STATUS_CHECK_TIMEOUT = "JobStatusCheckTimeoutExceeded"
UNREADY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

# How each loss ends, on every overlay: the state, its reason, how many attempts failed, how many clusters there were.
ENDS: dict[str, tuple[str, str, int, int]] = {
    "head node gone": ("Failed", STATUS_CHECK_TIMEOUT, 1, 1),
    "head node hangs": ("Failed", STATUS_CHECK_TIMEOUT, 1, 1),
    "head drained": ("Complete", "", 0, 1),
    "head drained often": ("Complete", "", 1, 2),
    "head out of memory": ("Complete", "", 0, 1),
    "worker lost": ("Complete", "", 0, 1),
    "mistake": ("Failed", "AppFailed", 3, 3),
    "crash": ("Complete", "", 1, 2),
    "deadline": ("Failed", "DeadlineExceeded", 1, 1),
    "head never ready": ("Failed", "DeadlineExceeded", 1, 1),
    "workers never ready": ("Failed", "DeadlineExceeded", 1, 1),
    "no GPUs": ("Failed", "DeadlineExceeded", 1, 1),
    "GPUs late": ("Complete", "", 0, 1),
    "operator cut off": ("Failed", STATUS_CHECK_TIMEOUT, 1, 1),
    "operator cut off a while": ("Complete", "", 0, 1),
    "operator restarted": ("Complete", "", 0, 1),
    "deleted": ("deleted", "", 0, 1),
    "submitter lost": ("Complete", "", 0, 1),
    "submitter lost often": ("Complete", "", 1, 2),
    "preempted": ("Complete", "", 0, 2),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("overlay", NAMES)
def test_each_loss_ends_as_expected(overlay: str, loss: str) -> None:
    for life in losses.outcomes(LOSSES[loss], [facts_of(overlay)]):
        assert end(life) == ENDS[loss], life.operator.history


@pytest.mark.parametrize("loss", [name for name, expected in ENDS.items() if expected[0] == "Complete"])
@pytest.mark.parametrize("overlay", NAMES)
def test_what_goes_on_resumes(overlay: str, loss: str) -> None:
    """All the work is done in the end, and none of it twice but for what was in flight when something was lost."""
    for life in losses.outcomes(LOSSES[loss], [facts_of(overlay)]):
        assert life.stored == life.work
        broken = max(life.submissions - 1, loss == "worker lost")
        assert life.labelled <= life.work + broken * IN_FLIGHT


def test_what_does_not_outlive_the_cluster_is_done_again() -> None:
    """The model can fail: with runs on the pod's own disk a new cluster begins at nothing."""
    objects = copy.deepcopy(checks.kustomize(next(one for one in losses.OVERLAYS if one.name == "local-cpu")))
    (job,) = [one for one in objects if one["kind"] == "RayJob"]
    job["spec"]["entrypoint"] = job["spec"]["entrypoint"].replace("/mnt/tutelage/runs", "/tmp/runs")
    life = losses.live(Facts(objects), LOSSES["crash"])
    assert end(life) == ENDS["crash"]
    assert life.labelled > life.work + 5 * IN_FLIGHT


@pytest.mark.parametrize("overlay", NAMES)
def test_the_cluster_is_gone_in_the_end(overlay: str) -> None:
    for loss in LOSSES.values():
        for life in losses.outcomes(loss, [facts_of(overlay)]):
            assert not life.has_cluster, loss.title


def test_the_docs_say_what_happens() -> None:
    """The table of the section is what `python tests/kubernetes/rayjob_losses.py` prints."""
    text = (
        losses.DOCS.read_text(encoding="utf-8").split("## What happens when something is lost\n")[1].split("\n## ")[0]
    )
    said = [line for line in text.splitlines() if line.startswith("|")]
    assert said == losses.table([facts_of(name) for name in NAMES])


def test_a_queue_gets_a_job_through_it_all() -> None:
    """Kueue's way: suspended until admitted, preempted in the middle, all pods from the start, no autoscaler."""
    spec = load_spec(checks.ROOT / "specs" / "financial-sentiment.yaml")
    queued = Facts(list(yaml.safe_load_all(render(spec, Wish(cloud="gke", queue="research")).yaml)))
    assert queued.spec["suspend"] and not queued.scales
    for loss in ("preempted", "worker lost", "head out of memory", "submitter lost"):
        life = losses.live(queued, LOSSES[loss])
        assert end(life) == ENDS[loss], life.operator.history
        assert life.stored == life.work


def test_a_toleration_alone_brings_no_new_head() -> None:
    """KubeRay counts a pod that is marked for deletion: on a node that does not answer it stays until its Node goes."""
    there = facts_of("gke-h100-t4")
    for grace in (30, 300):
        rayjob = copy.deepcopy(there.rayjob)
        marks = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": grace} for key in UNREADY
        ]
        rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["tolerations"] = marks
        rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("livenessProbe", None)
        life = losses.live(Facts([rayjob, *there.others]), LOSSES["head node hangs"], STATUS_CHECK)
        assert end(life) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)


# The ways to submit, side by side: what would be if the same job used another one


def with_probe(of: Facts) -> Facts:
    """A submitter that the kubelet ends when the head has been silent for 40 seconds, on whichever node."""
    rayjob = copy.deepcopy(of.rayjob)
    pod = rayjob["spec"]["submitterPodTemplate"]["spec"]
    pod["terminationGracePeriodSeconds"] = 5
    pod["tolerations"] = [{"key": key, "tolerationSeconds": 30} for key in UNREADY]
    pod["containers"][0]["livenessProbe"] = {"periodSeconds": 10, "failureThreshold": 4}
    return Facts([rayjob, *of.others])


@pytest.mark.parametrize("loss", ["head node gone", "head node hangs"])
def test_what_gets_a_job_over_a_lost_head_node(loss: str) -> None:
    """HTTPMode needs an operator that is patient; a submitter that notices needs nothing of the operator."""
    of, script = facts_of("gke-h100-t4"), LOSSES[loss]
    http = facts_of("gke-h100-t4", "HTTPMode")
    assert end(losses.live(http, script, STATUS_CHECK)) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)
    assert end(losses.live(http, script, 1800)) == ("Complete", "", 0, 1)
    for beside in (False, True):
        life = losses.live(with_probe(of), script, STATUS_CHECK, beside=beside)
        assert end(life) == ("Complete", "", 1, 2)
        assert [reason for _, state, reason in life.operator.history if state == "Retrying"] == ["SubmissionFailed"]


def test_a_patient_operator_alone_does_not_help_a_submitter_that_hangs() -> None:
    """A new head answers 404, which stops no timer where a submitter is to submit."""
    rayjob = copy.deepcopy(facts_of("gke-h100-t4").rayjob)
    rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("livenessProbe", None)
    without = Facts([rayjob, *facts_of("gke-h100-t4").others])
    life = losses.live(without, LOSSES["head node gone"], 1800)
    assert end(life) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)
    assert life.head_up is False and life.submissions == 1
