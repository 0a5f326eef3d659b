"""How long a job's pods may be there: what KubeRay and Kubernetes are told, and the worst case of it all."""

from __future__ import annotations

from runner.kubernetes.options import RenderOptions

NODE_SECONDS = 1800
"""How long a node may take to come up, with its image: those with GPUs are slow."""
IDLE_SECONDS = 60
"""How long a pod is kept without work: more than lies between two stages that share nodes."""
TEACHER_IDLE_SECONDS = 30
"""The same for the teacher's pods, which only labelling asks for, with seconds between its parts."""
GRACE_SECONDS = 60
"""How long a pod has to end. `ray start` takes up to half a minute to drain, and the driver is gone only after that."""
LOST_NODE_SECONDS = 30
"""How long a node may be silent until its pods are marked for deletion; by default five minutes. Kubernetes' Jobs
replace theirs then, KubeRay replaces Ray's when the Node is gone."""
HOUR_SECONDS = 3600

_KEPT_SECONDS = 600
_ENDING_SECONDS = 2 * GRACE_SECONDS
"""How long the pods of an attempt may outlive it: the operator looks every few seconds, deletes, and the pods end."""


def kept_seconds(options: RenderOptions) -> int:
    """The cluster stays that long after its job, for a look at Ray's logs. A queue gives its place away at once."""
    return 0 if options.queue else _KEPT_SECONDS


def worst_seconds(options: RenderOptions) -> int:
    """The longest that pods are up: when every attempt runs until just before its deadline.

    KubeRay counts the deadline anew for each attempt, and does not try again after it.
    """
    attempts = options.retries + 1
    return attempts * (options.hours * HOUR_SECONDS + _ENDING_SECONDS) + kept_seconds(options)
