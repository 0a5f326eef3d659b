"""The life of a RayJob as KubeRay 1.7.0's operator leads it: its states, its timers, and when it tries again.

A port of what decides about a job's end, each step with the Go function that it follows; files without a folder are in
KubeRay's ``ray-operator/controllers/ray``. Everything is read from the RayJob itself. What the operator acts upon
(pods, Ray's job server, Kubernetes' own controllers) is behind ``World``: see ``rayjob_world.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

POLL = 3  # rayjob_controller.go: RayJobDefaultRequeueDuration
SUBMITTER_FINISHED = 30  # rayjob_controller.go: DefaultSubmitterFinishedTimeout
TRANSITION_GRACE = 300  # utils/constant.go: DEFAULT_RAYJOB_DEPLOYMENT_STATUS_TRANSITION_GRACE_PERIOD_SECONDS
STATUS_CHECK = 300  # utils/constant.go: DEFAULT_RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS
AFTER_TTL = 2  # rayjob_controller.go, requeueDelayFor: seconds on top of each deletion
ENDS_OF_A_JOB = {"STOPPED", "SUCCEEDED", "FAILED"}  # apis/ray/v1/rayjob_types.go: IsJobTerminal
ENDED = {"Complete", "Failed"}  # apis/ray/v1/rayjob_types.go: IsJobDeploymentTerminal
NEVER_RETRIED = {"DeadlineExceeded", "JobStatusCheckTimeoutExceeded"}  # checkBackoffLimitAndUpdateStatusIfNeeded


@dataclass(frozen=True)
class JobInfo:
    """What Ray's job server says of a job. ``end`` is when it ended."""

    status: str
    end: int | None = None


class Unreachable(Exception):
    """Ray's job server does not answer the operator."""


class World(Protocol):
    """What the operator sees and does. Times are seconds since the RayJob was created."""

    now: int
    suspended: bool
    deleted: bool
    has_cluster: bool
    has_submitter: bool
    cluster_ready: bool
    submitter_failed: bool
    submitter_finished: int | None

    def wake(self, at: int) -> None: ...
    def create_cluster(self) -> None: ...
    def delete_cluster(self) -> None: ...
    def create_submitter(self) -> None: ...
    def delete_submitter(self) -> None: ...
    def job_info(self) -> JobInfo | None: ...
    def submit(self) -> None: ...
    def stop_job(self) -> None: ...


@dataclass
class Status:
    """The part of the RayJob's status that decides; ``failed`` counts attempts that failed."""

    state: str = "New"
    job: str = ""
    reason: str = ""
    started: int | None = None
    ended: int | None = None
    job_ended: int | None = None
    failing_since: int | None = None
    dashboard: bool = False
    failed: int = 0
    succeeded: int = 0


class Operator:
    """The RayJob's controller. ``status_check`` is its environment's RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS."""

    def __init__(self, rayjob: dict[str, Any], world: World, status_check: int = STATUS_CHECK) -> None:
        self.spec, self.world, self.status_check = rayjob["spec"], world, status_check
        self.mode = self.spec.get("submissionMode", "K8sJobMode")
        self.status, self.gone = Status(), False
        self.history: list[tuple[int, str, str]] = []

    def reconcile(self) -> bool:
        """One pass of ``Reconcile``; whether the RayJob's status has changed."""
        if self.gone or self.world.deleted:
            return self._delete()
        before = replace(self.status)
        states: dict[str, Callable[[], bool]] = {
            "New": self._new,
            "Initializing": self._initializing,
            "Waiting": self._waiting,
            "Running": self._running,
            "Suspending": self._clean_up,
            "Retrying": self._clean_up,
            "Suspended": self._suspended,
            "Complete": self._after_the_end,
            "Failed": self._after_the_end,
        }
        if states[before.state]():
            self._retry_where_allowed()
            if self._changed_since(before):
                self._persist()
                return True
        self.status = before  # what is not written to the API server is forgotten
        return False

    def _delete(self) -> bool:
        """Reconcile, where the object has a DeletionTimestamp: StopJob, then the finalizer goes."""
        if self.gone:
            return False
        if self.status.job not in ENDS_OF_A_JOB:
            self.world.stop_job()
        self.world.delete_submitter()  # owned by the RayJob: Kubernetes' garbage collector takes both
        self.world.delete_cluster()
        self.gone = True
        self.history.append((self.world.now, "deleted", ""))
        return True

    def _changed_since(self, before: Status) -> bool:
        """updateRayJobStatus: what else has changed is not written."""
        now = self.status
        return (now.state, now.job, now.failing_since) != (before.state, before.job, before.failing_since)

    def _persist(self) -> None:
        """updateRayJobStatus"""
        if self.status.state in ENDED:
            self.status.ended = self.world.now
        self.history.append((self.world.now, self.status.state, self.status.reason))

    def _fail(self, reason: str) -> bool:
        self.status.state, self.status.reason = "Failed", reason
        return True

    def _passed(self, since: int | None, seconds: int | None) -> bool:
        """Whether ``seconds`` have passed; if not, the operator will look again when they have."""
        if since is None or seconds is None:
            return False
        if self.world.now < since + seconds:
            self.world.wake(since + seconds)
            return False
        return True

    def _new(self) -> bool:
        """initRayJobStatusIfNeed: StartTime is that of this attempt."""
        self.status.state, self.status.started = "Initializing", self.world.now
        return True

    def _initializing(self) -> bool:
        """Reconcile, JobDeploymentStatusInitializing: nothing is submitted before all first pods are Ready."""
        if self._suspend() or self._deadline() or self._pre_running_deadline():
            return True
        if not self.world.has_cluster:  # getOrCreateRayClusterInstance
            self.world.create_cluster()
        if not self.status.dashboard:
            if not self.world.cluster_ready:
                return True
            self.status.dashboard = True
        if self.mode == "InteractiveMode":
            self.status.state = "Waiting"
            return True
        if self.mode == "K8sJobMode" and not self.world.has_submitter:  # createK8sJobIfNeed
            self.world.create_submitter()
        self.status.state = "Running"
        return True

    def _waiting(self) -> bool:
        """Reconcile, JobDeploymentStatusWaiting (InteractiveMode): somebody else submits, and writes the job's id."""
        if self._pre_running_deadline():
            return True
        if not self.spec.get("jobId"):
            return False
        self.status.state = "Running"
        return True

    def _running(self) -> bool:
        """Reconcile, JobDeploymentStatusRunning"""
        if self._suspend() or self._deadline() or self._transition_grace() or self._status_check_timeout():
            return True
        if not self.world.has_cluster:
            self.world.create_cluster()
        finished: int | None = None
        if self.mode == "K8sJobMode":
            failed, finished = self._submitter(), self.world.submitter_finished
            if self._submitter_finished_timeout(finished) or failed:
                return True
        return self._ask_ray(finished)

    def _ask_ray(self, submitter_finished: int | None) -> bool:
        """Reconcile, JobDeploymentStatusRunning, from GetJobInfo on."""
        try:
            info = self.world.job_info()
        except Unreachable:
            return self._check_failed()
        if info is None:  # GetJobInfo makes BadRequest of a 404
            if self.mode == "HTTPMode":
                return self._submit_again()
            return self._fail("AppFailed") if submitter_finished is not None else False
        self.status.failing_since = None
        ended = info.status in ENDS_OF_A_JOB and (self.mode == "HTTPMode" or submitter_finished is not None)
        self.status.job, self.status.reason, self.status.job_ended = info.status, "", info.end
        if ended:
            self.status.state = "Complete"
            if info.status == "FAILED":
                self._fail("AppFailed")
        return True

    def _check_failed(self) -> bool:
        """recordJobStatusCheckFailure: the first failure starts the timer."""
        if self.status.failing_since is not None:
            return False
        self.status.failing_since = self.world.now
        return True

    def _submit_again(self) -> bool:
        """reconcileHTTPModeJobNotFound, where Ray's job server takes the job"""
        self.world.submit()
        was, self.status.failing_since = self.status.failing_since, None
        return was is not None

    def _suspend(self) -> bool:
        """updateStatusToSuspendingIfNeeded"""
        if self.world.suspended:
            self.status.state = "Suspending"
        return self.world.suspended

    def _deadline(self) -> bool:
        """checkActiveDeadlineAndUpdateStatusIfNeeded"""
        passed = self._passed(self.status.started, self.spec.get("activeDeadlineSeconds"))
        return passed and self._fail("DeadlineExceeded")

    def _pre_running_deadline(self) -> bool:
        """checkPreRunningDeadlineAndUpdateStatusIfNeeded"""
        passed = self._passed(self.status.started, self.spec.get("preRunningDeadlineSeconds"))
        return passed and self._fail("PreRunningDeadlineExceeded")

    def _transition_grace(self) -> bool:
        """checkTransitionGracePeriodAndUpdateStatusIfNeeded: Ray's job has ended, its submitter has not."""
        if self.status.job not in ENDS_OF_A_JOB or not self._passed(self.status.job_ended, TRANSITION_GRACE):
            return False
        self._fail("JobDeploymentStatusTransitionGracePeriodExceeded")
        if self.status.job != "FAILED":
            self.status.state = "Complete"
        return True

    def _status_check_timeout(self) -> bool:
        """checkJobStatusCheckTimeoutAndUpdateStatusIfNeeded"""
        passed = self._passed(self.status.failing_since, self.status_check)
        return passed and self._fail("JobStatusCheckTimeoutExceeded")

    def _submitter(self) -> bool:
        """checkSubmitterAndUpdateStatusIfNeeded"""
        if self.world.submitter_failed:
            self._fail("AppFailed" if self.status.job == "FAILED" else "SubmissionFailed")
        return self.world.submitter_failed

    def _submitter_finished_timeout(self, finished: int | None) -> bool:
        """checkSubmitterFinishedTimeoutAndUpdateStatusIfNeeded: the submitter has ended, Ray's job has not."""
        if not self._passed(finished, SUBMITTER_FINISHED):
            return False
        self.status.job = "FAILED"
        return self._fail("JobDeploymentStatusTransitionGracePeriodExceeded")

    def _clean_up(self) -> bool:
        """Reconcile, JobDeploymentStatusSuspending and -Retrying: everything goes before anything comes."""
        if self.world.has_cluster or self.world.has_submitter:
            self.world.delete_cluster()
            self.world.delete_submitter()
            self.world.wake(self.world.now + POLL)
            return False
        after = "Suspended" if self.status.state == "Suspending" else "New"
        was = self.status
        self.status = Status(after, started=was.started, failed=was.failed, succeeded=was.succeeded)
        return True

    def _suspended(self) -> bool:
        """Reconcile, JobDeploymentStatusSuspended"""
        if self.world.suspended:
            return False
        self.status.state, self.status.job = "New", ""
        return True

    def _after_the_end(self) -> bool:
        """handleShutdownAfterJobFinishes: the submitter stays, for its log."""
        kept = self.spec.get("ttlSecondsAfterFinished", 0) + AFTER_TTL
        if self.spec.get("shutdownAfterJobFinishes") and self._passed(self.status.ended, kept):
            self.world.delete_cluster()
        return False

    def _retry_where_allowed(self) -> None:
        """checkBackoffLimitAndUpdateStatusIfNeeded"""
        status = self.status
        status.failed += status.state == "Failed"
        status.succeeded += status.state == "Complete" and status.job == "SUCCEEDED"
        limit = self.spec.get("backoffLimit")
        left = limit is not None and status.failed < limit + 1
        if status.state == "Failed" and left and status.reason not in NEVER_RETRIED:
            status.state = "Retrying"
