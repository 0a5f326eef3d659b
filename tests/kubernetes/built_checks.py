"""What holds for every pod that comes of our manifests, once the operator has put its part in.

Each rule answers with what is wrong, in words. Those of the server's (names, volumes, ports) are the ones that no
schema knows; the others are promises of ours.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

from network import selected
from operator_parts import SMALL
from operator_pods import Built
from pod_security import restricted_findings

GPU = "nvidia.com/gpu"
GRACE_SECONDS = 60
STAYS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")

Container = dict[str, Any]


def built_findings(built: Built) -> list[str]:
    """One pod by itself. Kubernetes' schemas are not asked: that takes ten times as long, and is done for fewer."""
    found = [f"Pod Security: {line}" for line in restricted_findings(built.pod)]
    found += _what_the_server_refuses(built)
    if is_ray(built):
        found += _of_ray(built)
    found += [f"{one['name']}: {line}" for one in built.containers for line in _of_container(built, one)]
    return [f"{built.name}: {line}" for line in found]


def is_ray(built: Built) -> bool:
    return built.labels.get("ray.io/node-type") in ("head", "worker")


def environment(container: Container) -> dict[str, Any]:
    """The variables that are said; of two by one name the last, as a process sees it."""
    return {one["name"]: one.get("value") for one in container.get("env", [])}


def start_options(built: Built) -> dict[str, str]:
    """The options of `ray start`, as the shell passes them on."""
    words = shlex.split(built.pod["spec"]["containers"][0]["args"][0].split("; ", 1)[1])
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {name: text for name, _, text in pairs}


def has_gpu(built: Built) -> bool:
    return any(GPU in one["resources"].get("limits", {}) for one in built.containers)


def _what_the_server_refuses(built: Built) -> Iterator[str]:
    volumes = [one["name"] for one in built.pod["spec"].get("volumes", [])]
    if twice := _twice(volumes):
        yield f"volumes twice: {twice}"
    for container in built.containers:
        mounts = container.get("volumeMounts", [])
        if unknown := {one["name"] for one in mounts} - set(volumes):
            yield f"{container['name']} mounts what is no volume: {sorted(unknown)}"
        if twice := _twice([one["mountPath"] for one in mounts]):
            yield f"{container['name']} mounts twice at {twice}"
        if wrong := [one["name"] for one in container.get("ports", []) if not PORT_NAME.fullmatch(one["name"])]:
            yield f"{container['name']} has ports named {wrong}"
    ports = [port for one in built.pod["spec"]["containers"] for port in one.get("ports", [])]
    if twice := _twice([one["name"] for one in ports]) + _twice([one["containerPort"] for one in ports]):
        yield f"ports twice: {twice}"
    if wrong := {key: text for key, text in built.labels.items() if not LABEL.fullmatch(text)}:
        yield f"labels: {wrong}"


def _twice(names: list[Any]) -> list[Any]:
    return [name for name, count in Counter(names).items() if count > 1]


def _of_ray(built: Built) -> Iterator[str]:
    """Head and workers: not moved by a cluster's autoscaler, time to end, and no GPU that was not asked for."""
    annotations = built.pod["metadata"]["annotations"]
    if missing := {key: text for key, text in STAYS.items() if annotations.get(key) != text}:
        yield f"may be evicted: {missing} is not there"
    if built.pod["spec"].get("terminationGracePeriodSeconds") != GRACE_SECONDS:
        yield f"terminationGracePeriodSeconds is not {GRACE_SECONDS}"
    options = start_options(built)
    asked = built.pod["spec"]["containers"][0]["resources"]["limits"].get(GPU, "0")
    if options.get("num-gpus") != asked:
        yield f"asks for {asked} GPUs, and tells Ray num-gpus={options.get('num-gpus')}"
    command = built.pod["spec"]["containers"][0]["args"][0]
    if raw := re.search(r"--resources=(\S.*?)  --|--resources=(.*)$", command):
        yield from _of_resources((raw[1] or raw[2]).strip(), options["resources"])


def _of_resources(raw: str, passed_on: str) -> Iterator[str]:
    """The shell, the operator and Ray's autoscaler each read them, and the last two only strip quotes."""
    for who, text in (("the operator", raw.strip("'\"` ")), ("Ray", passed_on)):
        try:
            json.loads(text)
        except json.JSONDecodeError:
            yield f"{who} cannot read the resources {text}"


def _of_container(built: Built, container: Container) -> Iterator[str]:
    variables = environment(container)
    if twice := _twice([one["name"] for one in container.get("env", [])]):
        yield f"variables twice: {twice}"
    if not has_gpu(built) and variables.get("NVIDIA_VISIBLE_DEVICES") != "void":
        yield "NVIDIA_VISIBLE_DEVICES is not void, in a pod without GPUs"
    sizes = container["resources"].get("requests", {})
    by_the_operator = {key: sizes.get(key) for key in SMALL} == SMALL
    if "ephemeral-storage" not in sizes and not by_the_operator:
        yield "asks for no ephemeral-storage"
    writable = [one["mountPath"] for one in container.get("volumeMounts", []) if not one.get("readOnly")]
    if (home := variables.get("HOME")) and not any(f"{home}/".startswith(f"{path}/") for path in writable):
        yield f"HOME is {home}, where nothing can be written"


def affinity_findings(pods: list[Built]) -> list[str]:
    """A pod that wants to be beside others must be able to find them."""
    found = []
    for built in pods:
        affinity = built.pod["spec"].get("affinity", {}).get("podAffinity", {})
        terms = [one["podAffinityTerm"] for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])]
        terms += affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        for term in terms:
            if not any(selected(term["labelSelector"], other.labels) for other in pods if other is not built):
                found.append(f"{built.name}: wants to be beside {term['labelSelector']}, which no pod is")
    return found
