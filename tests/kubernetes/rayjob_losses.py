"""What can be lost of a RayJob or go wrong, as scripts for the simulator; what became of it; and a table of that.

``python tests/kubernetes/rayjob_losses.py`` prints the table of docs/kubernetes.md for the overlays as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import manifest_checks as checks
import yaml
from rayjob_facts import Facts
from rayjob_life import STATUS_CHECK
from rayjob_world import DAY, IN_FLIGHT, Life

AT, EVERY, EVER = 1500, 1200, 1000 * DAY
"""When something is lost: in the middle of the run's work. When the next one is."""
MINUTE = 60
OVERLAYS = sorted(path.parent for path in (checks.ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
DOCS = checks.ROOT / "docs" / "kubernetes.md"


@dataclass(frozen=True)
class Loss:
    """``advice``: what to do where the job does not go on by itself; ``work``: seconds that the run takes."""

    title: str
    script: Callable[[Life], None]
    advice: str = ""
    gpus: bool = False
    work: int = 3600


def drain_head(life: Life) -> None:
    """The run is stopped, where the pod has a hook for it, and Ray drains; within the grace the submitter's connection
    is closed in order (code 1000, exit 0), else it breaks (1006, exit 1). A submitter on the same node goes too, by
    SIGKILL after its grace: as the first process of its container it does not heed SIGTERM. The new pod needs another
    node."""
    stop = life.delays.stop if life.facts.stops_the_run else 0
    whole = stop + life.delays.drain
    until = min(whole, life.facts.head_grace)
    if stop:
        life.later(stop, life.in_this_run(life.interrupted))

    def drained() -> None:
        life.head_down()
        if life.submitter_doing == "following":
            in_order = life.facts.head_grace >= whole
            (life.submitter_ends if in_order else life.submitter_fails)()
        life.create_head(life.delays.new_node + life.delays.pod)

    if life.beside and life.has_submitter:
        life.later(min(until, life.facts.submitter_grace), life.submitter_fails)
    life.later(until, life.in_this_cluster(drained))


def kill_head(life: Life) -> None:
    """The connection breaks. The pod's other container may ignore SIGTERM for all of the grace."""
    life.head_down()
    if life.submitter_doing == "following":
        life.submitter_fails()
    again = 0 if life.facts.restarts_in_place else life.facts.head_grace
    life.create_head(again + life.delays.pod)


def lose_head_node(life: Life, hangs: bool = False) -> None:
    """Nobody closes the connection: a submitter elsewhere waits for a line that never comes; one on the same node is
    replaced when it is marked for deletion, which Kubernetes' Job controller takes for a failure."""
    life.head_down()
    if life.beside and life.has_submitter:
        life.submitter_doing = "lost"
        life.later(life.delays.silent + life.facts.submitter_tolerates, life.of_this_pod(life.submitter_fails))
    elif life.submitter_doing == "following":
        life.submitter_doing = "hung"
        life.watch_the_head()
    gone = (life.delays.repair if hangs else life.delays.silent) + life.delays.orphan
    life.create_head(gone + life.delays.new_node + life.delays.pod)


def lose_worker(life: Life) -> None:
    """Ray asks for another one, and tries what ran there again."""
    if life.working_since is not None:
        life.stop_work(IN_FLIGHT)
        life.pods_gone()
        life.later(life.until_pods(), life.in_this_run(life.start_work))


def once(act: Callable[[Life], None]) -> Callable[[Life], None]:
    return lambda life: life.later(AT, lambda: act(life))


def again_and_again(act: Callable[[Life], None], times: int) -> Callable[[Life], None]:
    def script(life: Life) -> None:
        for number in range(times):
            life.later(AT + number * EVERY, lambda: act(life))

    return script


def put(**values: object) -> Callable[[Life], None]:
    def act(life: Life) -> None:
        for name, value in values.items():
            setattr(life, name, value)

    return act


def exits(*fates: tuple[int, int], last: tuple[int, int] | None = None) -> Callable[[Life], None]:
    """Each run's end, after how many seconds and with which status; ``last`` is that of all further ones."""

    def script(life: Life) -> None:
        left = list(fates)
        life.exits = lambda: left.pop(0) if left else last

    return script


def preempted(life: Life) -> None:
    life.later(AT, lambda: put(suspended=True)(life))
    life.later(2 * AT, lambda: put(suspended=False)(life))


_CREATE = "mend it, delete the RayJob and create it again"
LOSSES: dict[str, Loss] = {
    "head node gone": Loss("the head's machine is gone", once(lose_head_node), "delete the RayJob and create it again"),
    "head node hangs": Loss(
        "the head's machine hangs, or nothing reaches it",
        once(lambda life: lose_head_node(life, hangs=True)),
        "delete the RayJob and create it again",
    ),
    "head drained": Loss("the head's node is drained, or a spot node with notice", once(drain_head), _CREATE),
    "head drained often": Loss(
        "it is drained three times",
        again_and_again(drain_head, 3),
        "create it again, with the head where it stays",
        work=9000,
    ),
    "head out of memory": Loss("the head is out of memory", once(kill_head), _CREATE),
    "head out of memory often": Loss(
        "the head is out of memory again and again",
        again_and_again(kill_head, 60),
        "give it more, delete the RayJob and create it again",
        work=2 * DAY,
    ),
    "worker lost": Loss("a worker is lost, spot or not", once(lose_worker), _CREATE),
    "mistake": Loss("the run ends with an error that is yours to mend", exits(last=(20, 1)), _CREATE),
    "crash": Loss("the run crashes once", exits((600, 3)), _CREATE),
    "deadline": Loss("the deadline is reached", put(), "create it again, with more `--hours`", work=10 * DAY),
    "head never ready": Loss("the head's pod never starts: image, quota, placement", put(head_broken=True), _CREATE),
    "workers never ready": Loss("the workers' pods never start", put(workers_broken=True), _CREATE),
    "no GPUs": Loss(
        "no GPUs are to be had within half an hour",
        put(no_gpus_until=EVER),
        "create it again when there are some",
        gpus=True,
    ),
    "GPUs late": Loss("GPUs are to be had after 20 minutes", put(no_gpus_until=20 * MINUTE), gpus=True),
    "operator cut off": Loss(
        "the operator does not reach the head's port 8265", once(put(cut_off_until=EVER)), _CREATE
    ),
    "operator cut off a while": Loss(
        "the operator does not reach it for two minutes", once(put(cut_off_until=AT + 2 * MINUTE)), "create it again"
    ),
    "operator restarted": Loss("the operator is away for ten minutes", once(put(away_until=AT + 10 * MINUTE))),
    "deleted": Loss("the RayJob is deleted", once(put(deleted=True)), "create it again"),
    "submitter lost": Loss("the submitter's pod is lost", once(Life.submitter_fails)),
    "submitter lost often": Loss(
        "the submitter's pod is lost three times", again_and_again(Life.submitter_fails, 3), work=9000
    ),
    "preempted": Loss("a queue takes the quota away, and gives it back later", preempted),
}


@cache
def facts_of(overlay: str, mode: str | None = None) -> Facts:
    (folder,) = [one for one in OVERLAYS if one.name == overlay]
    return Facts(checks.kustomize(folder, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), mode)


@cache
def documented_status_check() -> int:
    """RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS of the documented installation; the operator's own where that sets none."""
    name = re.search(r"RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS.{0,80}?value=\D?(\d+)", DOCS.read_text("utf-8"), re.DOTALL)
    return int(name[1]) if name else STATUS_CHECK


def live(facts: Facts, loss: Loss, status_check: int = STATUS_CHECK, beside: bool = False) -> Life:
    """A job that was released at once, and met with ``loss``."""
    life = Life(facts, loss.work, status_check, beside)
    life.suspended = False
    loss.script(life)
    return life.live()


def outcome(life: Life) -> str:
    """What KubeRay did, in words."""
    status, attempts = life.operator.status, life.operator.status.failed + life.operator.status.succeeded
    if life.operator.gone:
        return "stops the run, and takes everything away"
    if status.state == "Failed":
        tried = f"after {attempts} attempts" if attempts > 1 else "not tried again"
        return f"`Failed`, `{status.reason}`: {tried}"
    if status.failed:
        reasons = dict.fromkeys(f"`{reason}`" for _, state, reason in life.operator.history if state == "Retrying")
        return f"{', '.join(reasons)}: tries again in a new cluster"
    if life.clusters > 1:
        return "takes the cluster away; later a new one"
    return "starts the run again in the same cluster" if life.submissions > 1 else "nothing: the run goes on"


def end(life: Life) -> tuple[str, str, int, int]:
    """The RayJob's state, the reason where it is Failed, how many attempts failed, how many clusters there were."""
    status = life.operator.status
    state = "deleted" if life.operator.gone else status.state
    return state, status.reason if state == "Failed" else "", status.failed, life.clusters


def outcomes(loss: Loss, all_facts: Iterable[Facts]) -> list[Life]:
    """On each overlay that it can happen on, wherever the submitter may be, whether the operator was told to be patient
    (as where this documentation installs it) or not (as where a cloud does)."""
    return [
        live(facts, loss, status_check, beside)
        for facts in all_facts
        if facts.gpus or not loss.gpus
        for beside in sorted(facts.placements)
        for status_check in sorted({STATUS_CHECK, documented_status_check()})
    ]


def row(loss: Loss, all_facts: Iterable[Facts]) -> str:
    lives = outcomes(loss, all_facts)
    done = " or ".join(dict.fromkeys(outcome(life) for life in lives))
    lost = "what was not written yet" if any(life.labelled > life.stored for life in lives) else "nothing"
    todo = loss.advice if any(life.operator.status.state != "Complete" for life in lives) else "nothing"
    return f"| {loss.title} | {done} | {lost} | {todo} |"


def table(all_facts: Iterable[Facts]) -> list[str]:
    """Lines of Markdown."""
    facts = list(all_facts)
    head = ["| what happens | what KubeRay does | what is lost | what you do |", "|---|---|---|---|"]
    return head + [row(loss, facts) for loss in LOSSES.values()]


if __name__ == "__main__":
    print("\n".join(table([facts_of(one.name) for one in OVERLAYS])))
