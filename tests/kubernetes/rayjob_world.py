"""What KubeRay's operator acts upon, with a clock: a cluster's pods, Ray's job server, the submitter, the run's work.

A model, in seconds. Sizes, grace, probes and places come from the manifests; ``Delays`` are what a cluster takes, and
are assumed. What Kubernetes itself does: a node that is silent becomes NotReady, its pods are marked for deletion when
their toleration ends, and they vanish with their Node, not before: the cloud removes the Node of a machine that is
gone, and that of one that hangs when it is repaired. KubeRay counts a pod that is marked as one that is there
(raycluster_controller.go, reconcilePods and shouldDeletePod), so a toleration brings no new head.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from rayjob_facts import Facts
from rayjob_life import POLL, STATUS_CHECK, JobInfo, Operator, Unreachable

DAY = 24 * 3600
SUBMITTER_TRIES = 2  # rayjob_controller.go, createNewK8sJob: the Job's own backoffLimit
FIRST_BACKOFF = 10  # Kubernetes' Job controller: doubled with each pod that fails
IN_FLIGHT = 30
"""Seconds of work that a loss costs at most: what was not written yet."""


@dataclass(frozen=True)
class Delays:
    """``stop``: of the run, on Ctrl-C, at the longest; ``drain``: of `ray start` on SIGTERM
    (RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, 30, and two to end); ``silent``: until a node is NotReady
    (--node-monitor-grace-period, 40 until Kubernetes 1.31); ``orphan``: of the pod garbage collector, once the Node is
    gone; ``repair``: until the cloud removes the Node of a machine that hangs."""

    pod: int = 60
    gpu_pod: int = 300
    submitter: int = 10
    new_node: int = 180
    drain: int = 32
    stop: int = 15
    silent: int = 50
    orphan: int = 60
    repair: int = 900


class Life:
    """One RayJob from its creation to its end. ``work`` is the seconds that its run takes, all in all; ``beside``: its
    submitter is on the head's node."""

    def __init__(self, facts: Facts, work: int = 3600, status_check: int = STATUS_CHECK, beside: bool = False) -> None:
        self.facts, self.work, self.beside, self.delays = facts, work, beside, Delays()
        self.now, self.suspended, self.deleted = 0, bool(facts.spec.get("suspend")), False
        self.operator = Operator(facts.rayjob, self, status_check)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order, self._looks = count(), set[int]()
        self.away_until, self.cut_off_until, self.no_gpus_until = 0, 0, 0
        self.head_broken = self.workers_broken = False
        self.exits: Callable[[], tuple[int, int] | None] = lambda: None  # of the next run: after how long, with what
        self.clusters, self.has_cluster, self.cluster_ready = 0, False, False
        self.head_up, self.head_silent_since, self.job = False, 0, None
        self.has_submitter, self.submitter_failed, self.submitter_finished = False, False, None
        self.submitter_doing, self.submitter_pod, self.submitter_failures = "", 0, 0
        self.stored = self.labelled = self.submissions = 0
        self.run, self.working_since = 0, None
        self.cluster_seconds, self.gpu_seconds, self.stop_signals = 0, 0, 0
        self.cluster_since, self.pods_since = 0, None

    job: JobInfo | None
    submitter_finished: int | None
    working_since: int | None
    pods_since: int | None

    # The clock

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Something that happens by itself; the operator looks after it at its next poll."""
        if seconds != float("inf"):
            heapq.heappush(self._queue, (self.now + int(seconds), next(self._order), act))

    def wake(self, at: int) -> None:
        """The operator looks again at a time, or up to one poll after it."""
        at = max(at, self.away_until) + POLL
        if at not in self._looks:
            self._looks.add(at)
            heapq.heappush(self._queue, (at, next(self._order), self._look))

    def _look(self) -> None:
        if self.operator.reconcile():
            self.wake(self.now)

    def live(self, until: int = 40 * DAY) -> Life:
        """Until nothing happens any more."""
        self.wake(self.now)
        while self._queue and self._queue[0][0] <= until:
            self.now, _, act = heapq.heappop(self._queue)
            act()
            if act != self._look:
                self.wake(self.now)
        return self

    # The cluster: raycluster_controller.go

    def create_cluster(self) -> None:
        self.clusters += 1
        self.has_cluster, self.cluster_ready, self.cluster_since = True, False, self.now
        self.create_head(self.delays.pod)
        if any(group["replicas"] for group in self.facts.groups):
            self.later(self.until_pods(), self.in_this_cluster(self._pods_up))

    def delete_cluster(self) -> None:
        """Its object goes at once; its pods have their grace."""
        if self.has_cluster:
            self.cluster_seconds += self.now + self.facts.grace - self.cluster_since
            self.pods_gone(self.facts.grace)
            self.has_cluster = False
            self.head_down()

    def in_this_cluster(self, act: Callable[[], None]) -> Callable[[], None]:
        number = self.clusters
        return lambda: act() if self.has_cluster and self.clusters == number else None

    def create_head(self, delay: int) -> None:
        """reconcilePods: where there is no head pod, one is made."""
        if not self.head_broken:
            self.later(delay, self.in_this_cluster(self._head_comes_up))

    def _head_comes_up(self) -> None:
        self.head_up, self.job = True, None
        self._see_whether_ready()
        if self.submitter_doing == "waiting":
            self.submitter_works()

    def head_down(self) -> None:
        self.stop_work(IN_FLIGHT)
        self.head_up, self.job, self.head_silent_since = False, None, self.now

    def _pods_up(self) -> None:
        if self.pods_since is None:
            self.pods_since = self.now
        self._see_whether_ready()

    def pods_gone(self, grace: int = 0) -> None:
        if self.pods_since is not None:
            self.gpu_seconds += self.now + grace - self.pods_since
        self.pods_since = None

    def _see_whether_ready(self) -> None:
        """calculateStatus: Ready once the head and all first pods are; never unready again."""
        first = any(group["replicas"] for group in self.facts.groups)
        if self.head_up and (self.pods_since is not None or not first):
            self.cluster_ready = True

    def until_pods(self) -> float:
        """Until the pods that the run needs are up."""
        if self.pods_since is not None:
            return 0
        if self.workers_broken:
            return float("inf")
        if not self.facts.gpus:
            return self.delays.pod
        return max(0, self.no_gpus_until - self.now) + self.delays.gpu_pod

    # Ray's job server and the run

    def job_info(self) -> JobInfo | None:
        if self.now < self.cut_off_until:
            self.wake(self.cut_off_until)
            raise Unreachable
        if not self.head_up:
            raise Unreachable
        return self.job

    def submit(self) -> None:
        self._start_run()

    def stop_job(self) -> None:
        self.stop_signals += self.head_up and self.now >= self.cut_off_until

    def _start_run(self) -> None:
        self.job, self.submissions, self.run = JobInfo("RUNNING"), self.submissions + 1, self.run + 1
        if (fate := self.exits()) is not None:
            after, code = fate
            self.later(after, self.in_this_run(lambda: self._exit(code)))
        if (wait := self.until_pods()) > self.facts.wait:
            self.later(self.facts.wait, self.in_this_run(lambda: self._exit(1)))
        else:
            self.later(wait, self.in_this_run(self.start_work))

    def in_this_run(self, act: Callable[[], None]) -> Callable[[], None]:
        number = self.run
        return lambda: act() if self.run == number and self.job == JobInfo("RUNNING") else None

    def start_work(self) -> None:
        self._pods_up()
        self.working_since = self.now
        self.later(self.work - self.stored, self.in_this_run(lambda: self._exit(0)))

    def stop_work(self, lost: int = 0) -> None:
        """What was done lies in the run folder, but for what was not written yet."""
        if self.working_since is not None:
            done = self.now - self.working_since
            self.labelled += done
            self.stored += max(0, done - lost)
        if not self.facts.durable:
            self.stored = 0
        self.working_since, self.run = None, self.run + 1

    def interrupted(self) -> None:
        self._exit(130)

    def _exit(self, code: int) -> None:
        self.stop_work(IN_FLIGHT if code else 0)
        self.job = JobInfo("FAILED" if code else "SUCCEEDED", self.now)
        if self.submitter_doing == "following":
            self.submitter_ends()

    # The submitter: common/job.go, BuildJobSubmitCommand; Kubernetes' Job controller

    def create_submitter(self) -> None:
        self.has_submitter, self.submitter_failed, self.submitter_finished = True, False, None
        self.submitter_failures = 0
        self._next_submitter_pod(0)

    def delete_submitter(self) -> None:
        self.has_submitter, self.submitter_failed, self.submitter_finished = False, False, None
        self.submitter_doing, self.submitter_pod = "", self.submitter_pod + 1

    def _next_submitter_pod(self, delay: int) -> None:
        self.submitter_doing, self.submitter_pod = "starting", self.submitter_pod + 1
        self.later(delay + self.delays.submitter, self.of_this_pod(self._submitter_starts))

    def of_this_pod(self, act: Callable[[], None]) -> Callable[[], None]:
        number = self.submitter_pod
        return lambda: act() if self.submitter_pod == number and self.submitter_finished is None else None

    def _submitter_starts(self) -> None:
        self.submitter_doing = "waiting"
        if self.head_up:
            self.submitter_works()
        else:
            self.watch_the_head()

    def submitter_works(self) -> None:
        """Submits where the job is not there yet, and follows its log to its end."""
        self.submitter_doing = "following"
        if self.job is None:
            self._start_run()
        elif self.job.status != "RUNNING":
            self.submitter_ends()

    def watch_the_head(self) -> None:
        """The liveness probe of the submitter, where it has one: fails when the head is silent all the while."""
        since, probe = self.head_silent_since, self.facts.probe

        def fail() -> None:
            if not self.head_up and self.head_silent_since == since:
                self.submitter_fails()

        if probe is not None:
            self.later(probe, self.of_this_pod(fail))

    def submitter_ends(self) -> None:
        self.submitter_doing, self.submitter_finished = "ended", self.now

    def submitter_fails(self) -> None:
        """A pod of it is lost or ends with an error: the Job makes another one, up to its limit."""
        limit = (self.facts.spec.get("submitterConfig") or {}).get("backoffLimit", SUBMITTER_TRIES)
        self.submitter_failures += 1
        if self.submitter_failures > limit:
            self.submitter_failed = True
            self.submitter_ends()
        else:
            self._next_submitter_pod(FIRST_BACKOFF * 2 ** (self.submitter_failures - 1))
