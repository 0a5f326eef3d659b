"""The simulator against KubeRay's own tests (1.7.0), by their names: cases of ``rayjob_controller_test.go``,
``rayjob_controller_suspended_test.go`` and ``rayjob_controller_unit_test.go`` in ``ray-operator/controllers/ray``, and
of ``ray-operator/test/e2erayjob``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import rayjob_losses as losses
from rayjob_facts import Facts
from rayjob_life import NEVER_RETRIED, POLL, STATUS_CHECK, SUBMITTER_FINISHED, TRANSITION_GRACE, JobInfo
from rayjob_losses import end
from rayjob_world import Life

GRACE_PERIOD = "JobDeploymentStatusTransitionGracePeriodExceeded"
STATUS_CHECK_TIMEOUT = "JobStatusCheckTimeoutExceeded"


class Script(Life):
    """A life in which a test says what Ray's job server answers."""

    answer: Callable[[], JobInfo | None] | None = None

    def job_info(self) -> JobInfo | None:
        return self.answer() if self.answer else super().job_info()


def kuberay(mode: str = "K8sJobMode", tries: int = 2, **spec: Any) -> Script:
    """A RayJob like those of KubeRay's tests: two minutes of work, one pod of each kind."""
    source = losses.facts_of("local-cpu")
    rayjob = copy.deepcopy(source.rayjob)
    for name in ("suspend", "backoffLimit", "activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        rayjob["spec"].pop(name, None)
    rayjob["spec"]["submitterPodTemplate"]["spec"].pop("affinity", None)
    rayjob["spec"]["submitterPodTemplate"]["spec"]["containers"][0].pop("livenessProbe", None)
    rayjob["spec"] |= {"submissionMode": mode, "submitterConfig": {"backoffLimit": tries}, **spec}
    return Script(Facts([rayjob, *source.others]), work=120)


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("mode", ["K8sJobMode", "HTTPMode"])
def test_failing_rayjob(mode: str) -> None:
    """TestRayJobRetry: 'Failing RayJob without cluster shutdown after finished', '... with HttpMode submission mode'"""
    life = kuberay(mode, tries=1, backoffLimit=2, shutdownAfterJobFinishes=False)
    losses.exits(last=(5, 1))(life)
    life.live()
    status = life.operator.status
    assert (status.state, status.job, status.reason) == ("Failed", "FAILED", "AppFailed")
    assert (status.failed, status.succeeded) == (3, 0)
    assert life.submitter_failures == 0 and life.has_cluster


@pytest.mark.slow("subprocess")
def test_failing_submitter_k8s_job() -> None:
    """TestRayJobRetry: 'Failing submitter K8s Job', which cannot connect"""
    life = kuberay(tries=0, backoffLimit=2, shutdownAfterJobFinishes=True, ttlSecondsAfterFinished=0)
    life.submitter_works = life.submitter_fails  # type: ignore[method-assign]
    life.live()
    status = life.operator.status
    assert (status.state, status.job, status.reason) == ("Failed", "", "SubmissionFailed")
    assert (status.failed, status.succeeded) == (3, 0)
    assert not life.has_cluster and life.has_submitter


@pytest.mark.slow("subprocess")
def test_rayjob_has_passed_active_deadline_seconds() -> None:
    """TestRayJobRetry: '... has passed ActiveDeadlineSeconds', whatever the backoffLimit"""
    life = kuberay(backoffLimit=2, activeDeadlineSeconds=90).live()
    assert end(life) == ("Failed", "DeadlineExceeded", 1, 1)


@pytest.mark.slow("subprocess")
def test_retrying_rayjob_in_k8s_job_mode() -> None:
    """rayjob_controller_test.go: 'Retrying RayJob in K8sJobMode': fails once, then succeeds; a new StartTime"""
    life = kuberay(backoffLimit=2)
    losses.exits((5, 1))(life)
    life.live()
    assert [state for _, state, _ in life.operator.history if state != "Running"] == [
        *("Initializing", "Retrying", "New", "Initializing", "Complete")
    ]
    assert (life.operator.status.failed, life.operator.status.succeeded, life.clusters) == (1, 1, 2)
    (_, second) = [at for at, state, _ in life.operator.history if state == "Initializing"]
    assert life.operator.status.started == second


@pytest.mark.slow("subprocess")
def test_the_job_is_complete_only_with_its_submitter() -> None:
    """rayjob_controller_test.go: 'transitions from Running to Complete' needs the submitter's end, or five minutes"""
    life = kuberay()
    life.submitter_ends = lambda: None  # type: ignore[method-assign]
    life.live()
    assert life.operator.status.state == "Complete" and life.operator.status.reason == GRACE_PERIOD
    ended = life.operator.status.job_ended
    assert ended is not None and 0 <= life.operator.history[-1][0] - ended - TRANSITION_GRACE <= POLL


@pytest.mark.slow("subprocess")
def test_should_transition_to_complete_if_the_ray_job_has_stopped() -> None:
    """rayjob_test.go (e2e): STOPPED is no failure"""
    life = kuberay(backoffLimit=2)
    life.answer = lambda: JobInfo("STOPPED", life.now)
    life.live()
    assert (life.operator.status.state, life.operator.status.failed) == ("Complete", 0)


@pytest.mark.slow("subprocess")
def test_rayjob_controller_recreates_the_head_pod() -> None:
    """rayjob_test.go (e2e): '... if it is deleted while the job is running', where the submitter does not try again"""
    life = kuberay(tries=0, shutdownAfterJobFinishes=False)
    life.later(100, lambda: losses.drain_head(life))
    life.live()
    assert life.operator.status.state == "Failed"
    assert life.operator.status.reason in {"AppFailed", GRACE_PERIOD, "SubmissionFailed"}
    assert life.head_up


@pytest.mark.slow("subprocess")
def test_rayjob_should_recover_after_pod_deletion() -> None:
    """rayjob_recovery_test.go (e2e): the submitter's pod is deleted"""
    life = kuberay()
    life.later(100, life.submitter_fails)
    life.live()
    assert life.operator.status.job == "SUCCEEDED" and life.submissions == 1


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("mode", ["K8sJobMode", "HTTPMode"])
def test_transitions_to_failed_when_job_status_checks_exceed_timeout(mode: str) -> None:
    """rayjob_controller_test.go: 'RayJob job status query timeout'; the first failure is written, the others are not"""
    life = kuberay(mode, backoffLimit=2)
    life.work = 3600
    life.later(100, lambda: losses.put(cut_off_until=losses.EVER)(life))
    life.live()
    assert end(life) == ("Failed", STATUS_CHECK_TIMEOUT, 1, 1)
    assert life.operator.status.failing_since == 100 + POLL
    assert 0 <= life.operator.history[-1][0] - (100 + POLL) - STATUS_CHECK <= POLL


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(("mode", "cleared"), [("HTTPMode", True), ("K8sJobMode", False)])
def test_clears_the_timer_after_successful_http_resubmit(mode: str, cleared: bool) -> None:
    """rayjob_controller_test.go: 'HTTPMode recovery'; with a submitter a 404 clears nothing"""
    life = kuberay(mode)
    life.operator.status.state, life.operator.status.job, life.operator.status.started = "Running", "RUNNING", 0
    life.operator.status.failing_since, life.has_cluster, life.has_submitter = -30, True, True
    life.answer = lambda: None
    life.operator.reconcile()
    assert (life.operator.status.failing_since is None) == cleared
    assert life.operator.status.state == "Running"


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(
    ("state", "suspended", "after"),
    [("Initializing", False, "Initializing"), ("Complete", True, "Complete"), ("Initializing", True, "Suspending")],
)
def test_update_status_to_suspending_if_needed(state: str, suspended: bool, after: str) -> None:
    """TestUpdateStatusToSuspendingIfNeeded"""
    life = kuberay()
    life.operator.status.state, life.operator.status.started, life.suspended = state, 0, suspended
    life.operator.reconcile()
    assert life.operator.status.state == after


@pytest.mark.slow("subprocess")
def test_suspend_is_atomic() -> None:
    """rayjob_controller_suspended_test.go: once Suspending, everything goes, whatever the flag says by then"""
    life = kuberay()
    life.later(100, lambda: losses.put(suspended=True)(life))
    life.later(104, lambda: losses.put(suspended=False)(life))
    life.live()
    states = [state for _, state, _ in life.operator.history if state != "Running"]
    assert states == ["Initializing", "Suspending", "Suspended", "New", "Initializing", "Complete"]


def test_what_the_operator_counts_from() -> None:
    """Timers as in utils/constant.go and rayjob_controller.go; the reasons that no backoffLimit helps against"""
    assert (STATUS_CHECK, TRANSITION_GRACE, SUBMITTER_FINISHED) == (300, 300, 30)
    assert {"DeadlineExceeded", STATUS_CHECK_TIMEOUT} == NEVER_RETRIED
