"""What Ray raises, as errors that say what is wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from runner.system.errors import KEPT, EngineError, LostError, TutelageError, UserError, first_line

SET_TOKEN = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token (or RAY_AUTH_TOKEN to the "
    "token)"
)
"""What to do about a cluster that refuses."""


def rejected(address: str, error: BaseException) -> UserError:
    """The error for a cluster that wants a token, or another one."""
    return UserError(
        "cluster.token-rejected",
        f"the Ray cluster at {address} rejected our credentials: {first_line(error)}; {SET_TOKEN}",
    )


def unreachable(address: str | None, error: BaseException, source: str = "--address") -> UserError:
    """The error for a Ray that does not start (``address`` None), or that cannot be connected to.

    ``source`` is the option or environment variable that the address comes from.
    """
    if address is None:
        return UserError(
            "cluster.ray-cannot-start",
            f"Ray does not start on this machine: {first_line(error)}; it wants some memory, and room in its folder "
            "(/tmp/ray, or RAY_TMPDIR: a short path). Where other work keeps the machine busy, run it once more",
        )
    if "Version mismatch" in str(error):
        versions = re.findall(r"(Ray|Python): (\S+)", str(error))
        theirs, ours = ("{} {}, {} {}".format(*versions[i], *versions[i + 1]) for i in (0, 2))
        return UserError(
            "cluster.ray-versions-differ",
            f"the Ray cluster at {address} runs {theirs}, and this is {ours}: both must be the same",
        )
    if "uthentication" in type(error).__name__ + str(error):
        return rejected(address, error)
    leave = f"leave {source} out" if source.startswith("-") else f"`unset {source}`, which holds this address"
    return UserError(
        "cluster.not-reachable",
        f"no Ray cluster could be reached at {address}: {first_line(error)}; "
        f"start one with `ray start --head`, or {leave}",
    )


class UnwrappedErrors:
    """A context in which the user's error takes the place of the layers that Ray wraps it in.

    :raises LostError: where nodes went away too often.
    :raises EngineError: where workers died too often.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            return
        known = self._ray.exceptions
        for inner in chain(error):
            # Ray's own wrapper of an error is an instance of that error's class, with a traceback for a message.
            if isinstance(inner, TutelageError) and not isinstance(inner, known.RayTaskError):
                if inner is error:
                    return
                # Our messages are one line; what follows it is Ray's advice on retrying.
                raise inner.with_message(str(inner).splitlines()[0]) from None
        if any(_lost_its_node(known, inner) for inner in chain(error)):
            raise LostError(
                "cluster.nodes-lost",
                f"nodes that the run worked on went away more often than Ray starts their work again; {KEPT}",
            ) from error
        dead = (known.ActorDiedError, known.WorkerCrashedError, known.OutOfMemoryError)
        if any(isinstance(inner, dead) for inner in chain(error)):
            raise EngineError(
                "cluster.workers-died",
                "a worker process died more often than Ray restarts it, usually for want of memory; what is finished "
                "is kept. Ask for less (a smaller model, max_context, max_length or batch_size; student.accumulate "
                "computes a batch in parts) or a larger node",
            ) from error
        # Ray Train's own actor stands on the driver's node, which takes no more work once Ray drains it.
        if any(isinstance(inner, known.ActorUnschedulableError) for inner in chain(error)):
            raise LostError(
                "cluster.node-draining",
                "Ray gives no more work to a node that the run counts on (its pod is deleted or its machine is taken "
                f"back); {KEPT}",
            ) from error


def _lost_its_node(known: Any, error: BaseException) -> bool:
    """Whether ``error`` is of what died with its node; of an actor only Ray's words tell."""
    died = isinstance(error, known.ActorDiedError) and (error.preempted or "its node has died" in str(error))
    return died or isinstance(error, known.NodeDiedError)


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that caused it, by Python's links and by the attributes in which Ray keeps causes."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        waiting += [getattr(current, name, None) for name in ("cause", "health_check_failure", "controller_failure")]
        failures = getattr(current, "worker_failures", None)
        waiting += list(failures.values()) if isinstance(failures, dict) else []
