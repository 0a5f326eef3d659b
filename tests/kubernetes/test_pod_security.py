"""Our reading of the Pod Security standards, held against the pods by which Kubernetes tests its own."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pod_security
import pytest
import yaml

LEVELS = {"baseline": pod_security.baseline_findings, "restricted": pod_security.restricted_findings}


def pods_of_kubernetes(level: str, verdict: str) -> list[Path]:
    """``test/testdata`` of kubernetes/pod-security-admission; skips where no checkout of it is named."""
    named = os.environ.get("POD_SECURITY_TESTDATA")
    if not named:
        pytest.skip("set POD_SECURITY_TESTDATA to test/testdata of kubernetes/pod-security-admission")
    found = sorted((Path(named) / level / pod_security.VERSION / verdict).glob("*.yaml"))
    assert found, f"{named} has no pods for {level} {pod_security.VERSION}"
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_kubernetes_own_pods_are_judged_as_it_judges_them(level: str, verdict: str) -> None:
    findings = LEVELS[level]
    for path in pods_of_kubernetes(level, verdict):
        found = findings(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert bool(found) == (verdict == "fail"), (path.name, found)


Change = Callable[[dict[str, Any]], Any]
HARDENED: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {"name": "a", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
        ],
        "initContainers": [
            {"name": "b", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}


def first(pod: dict[str, Any], part: str = "containers") -> dict[str, Any]:
    container: dict[str, Any] = pod["spec"][part][0]
    return container


def test_a_hardened_pod_is_let_in() -> None:
    assert pod_security.restricted_findings(HARDENED) == []


BREAKS: dict[str, Change] = {
    "host namespaces": lambda pod: pod["spec"].update(hostNetwork=True),
    "host ports": lambda pod: first(pod).update(ports=[{"containerPort": 1, "hostPort": 1}]),
    "hosts in probes or hooks": lambda pod: first(pod).update(livenessProbe={"httpGet": {"host": "10.0.0.1"}}),
    "procMount": lambda pod: first(pod)["securityContext"].update(procMount="Unmasked"),
    "AppArmor": lambda pod: pod["spec"]["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "SELinux": lambda pod: pod["spec"]["securityContext"].update(seLinuxOptions={"user": "root"}),
    "seccomp off": lambda pod: first(pod)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "sysctls": lambda pod: pod["spec"]["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "privileged": lambda pod: first(pod)["securityContext"].update(privileged=True),
    "volume types": lambda pod: pod["spec"]["volumes"].append({"name": "n", "nfs": {}}),
    "privilege escalation": lambda pod: first(pod, "initContainers")["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities not dropped": lambda pod: first(pod)["securityContext"].pop("capabilities"),
    "root not ruled out": lambda pod: pod["spec"]["securityContext"].pop("runAsNonRoot"),
    "runs as root": lambda pod: first(pod, "initContainers")["securityContext"].update(runAsUser=0),
    "seccomp not set": lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_pod_that_breaks_one_rule_is_refused_for_that(rule: str) -> None:
    pod = copy.deepcopy(HARDENED)
    BREAKS[rule](pod)
    assert pod_security.restricted_findings(pod) == [rule]
    expected = [rule] if rule in pod_security.BASELINE else []
    assert pod_security.baseline_findings(pod) == expected
