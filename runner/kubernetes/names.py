"""A name that Kubernetes takes, for any spec's name."""

from __future__ import annotations

import hashlib
import re

LONGEST = 47
"""Characters of a RayJob's name: KubeRay makes services of it with names of its own behind, within 63 in all."""

TAKEN = frozenset({"tutelage-weights"})
"""Jobs of `k8s/base`. KubeRay's Job that submits a RayJob has the RayJob's own name, and takes one that is there for
its own."""

_TAG = 6
_FINE = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


def kubernetes_name(name: str) -> str:
    """``name`` itself where it is a DNS label (RFC 1035), short enough and free, else one that stands for it alone.

    The same name always becomes the same one, and two different names never do: what had to be changed ends with
    six digits of a hash of the name as it was written.
    """
    if len(name) <= LONGEST and _FINE.fullmatch(name) and name not in TAKEN:
        return name
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    start = words if words[:1].isalpha() else f"run-{words}".rstrip("-")
    tag = hashlib.sha256(name.encode()).hexdigest()[:_TAG]
    return f"{start[: LONGEST - _TAG - 1].rstrip('-')}-{tag}"
