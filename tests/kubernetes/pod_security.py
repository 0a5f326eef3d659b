"""The Pod Security standards `baseline` and `restricted`, as the admission plug-in of Kubernetes 1.34 judges pods.

Written after the rules of ``kubernetes/pod-security-admission`` (``policy/check_*.go``), by whose own pods the test
holds it. Older versions' rules, and what 1.35 lets through for pods in a user namespace, are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

VERSION = "v1.34"
"""As the folders of its test data are called."""

Pod = dict[str, Any]
Container = dict[str, Any]

CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
SYSCTLS = frozenset(
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ]
)
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
PROFILES = ("RuntimeDefault", "Localhost")
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)


def baseline_findings(pod: Pod) -> list[str]:
    return [name for name, broken in BASELINE.items() if broken(pod)]


def restricted_findings(pod: Pod) -> list[str]:
    """What `restricted` refuses: all that `baseline` does, and more."""
    return baseline_findings(pod) + [name for name, broken in RESTRICTED.items() if broken(pod)]


def _spec(pod: Pod) -> dict[str, Any]:
    return pod.get("spec") or {}


def _containers(pod: Pod) -> list[Container]:
    parts = ("initContainers", "containers", "ephemeralContainers")
    return [container for part in parts for container in _spec(pod).get(part) or []]


def _security(of: dict[str, Any]) -> dict[str, Any]:
    return of.get("securityContext") or {}


def _securities(pod: Pod) -> Iterator[dict[str, Any]]:
    """The pod's security context, and each container's."""
    yield _security(_spec(pod))
    for container in _containers(pod):
        yield _security(container)


def _is_windows(pod: Pod) -> bool:
    """Such pods may not have the fields at all, and are let through."""
    return (_spec(pod).get("os") or {}).get("name") == "windows"


def _shares_the_hosts_namespaces(pod: Pod) -> bool:
    return any(_spec(pod).get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def _has_host_paths(pod: Pod) -> bool:
    return any("hostPath" in volume for volume in _spec(pod).get("volumes") or [])


def _has_host_ports(pod: Pod) -> bool:
    return any(port.get("hostPort") for one in _containers(pod) for port in one.get("ports") or [])


def _asks_another_host(pod: Pod) -> bool:
    """A probe or a hook that the kubelet sends elsewhere than to the pod."""
    handlers: list[dict[str, Any]] = []
    for container in _containers(pod):
        handlers += [container.get(f"{kind}Probe") or {} for kind in ("liveness", "readiness", "startup")]
        handlers += [(container.get("lifecycle") or {}).get(when) or {} for when in ("postStart", "preStop")]
    return any((one.get(how) or {}).get("host") for one in handlers for how in ("httpGet", "tcpSocket"))


def _is_privileged(pod: Pod) -> bool:
    return any(_security(one).get("privileged") for one in _containers(pod))


def _adds_capabilities(pod: Pod, allowed: frozenset[str] = CAPABILITIES) -> bool:
    return any(
        name not in allowed
        for one in _containers(pod)
        for name in (_security(one).get("capabilities") or {}).get("add") or []
    )


def _unmasks_proc(pod: Pod) -> bool:
    return any(_security(one).get("procMount", "Default") != "Default" for one in _containers(pod))


def _has_app_armor_off(pod: Pod) -> bool:
    profiles = [(one.get("appArmorProfile") or {}).get("type", "RuntimeDefault") for one in _securities(pod)]
    annotations = [
        value
        for key, value in (pod["metadata"].get("annotations") or {}).items()
        if key.startswith(APPARMOR_ANNOTATION)
    ]
    return any(one not in PROFILES for one in profiles) or any(
        value and value != "runtime/default" and not value.startswith("localhost/") for value in annotations
    )


def _changes_selinux(pod: Pod) -> bool:
    options = [one.get("seLinuxOptions") or {} for one in _securities(pod)]
    return any(one.get("type", "") not in SELINUX_TYPES or one.get("user") or one.get("role") for one in options)


def _has_seccomp_off(pod: Pod) -> bool:
    types = [(one.get("seccompProfile") or {}).get("type", "RuntimeDefault") for one in _securities(pod)]
    return any(one not in PROFILES for one in types)


def _sets_other_sysctls(pod: Pod) -> bool:
    return any(one["name"] not in SYSCTLS for one in _security(_spec(pod)).get("sysctls") or [])


def _is_a_host_process(pod: Pod) -> bool:
    return any((one.get("windowsOptions") or {}).get("hostProcess") for one in _securities(pod))


def _has_other_volumes(pod: Pod) -> bool:
    # Without any source it is an emptyDir, by the server's default.
    return any(set(volume) != {"name"} and not VOLUMES & set(volume) for volume in _spec(pod).get("volumes") or [])


def _may_escalate(pod: Pod) -> bool:
    return not _is_windows(pod) and any(
        _security(one).get("allowPrivilegeEscalation") is not False for one in _containers(pod)
    )


def _keeps_capabilities(pod: Pod) -> bool:
    dropped = [(_security(one).get("capabilities") or {}).get("drop") or [] for one in _containers(pod)]
    added = _adds_capabilities(pod, frozenset({"NET_BIND_SERVICE"}))
    return not _is_windows(pod) and (added or not all("ALL" in one for one in dropped))


def _may_be_root(pod: Pod) -> bool:
    first, *each = [one.get("runAsNonRoot") for one in _securities(pod)]
    return first is False or any(one is False or (one is None and first is not True) for one in each)


def _is_root(pod: Pod) -> bool:
    return any(one.get("runAsUser") == 0 for one in _securities(pod))


def _has_no_seccomp(pod: Pod) -> bool:
    first, *each = [one.get("seccompProfile") for one in _securities(pod)]
    return not _is_windows(pod) and not first and not all(each)


BASELINE: dict[str, Callable[[Pod], bool]] = {
    "host namespaces": _shares_the_hosts_namespaces,
    "hostPath volumes": _has_host_paths,
    "host ports": _has_host_ports,
    "hosts in probes or hooks": _asks_another_host,
    "privileged": _is_privileged,
    "capabilities beyond the default": _adds_capabilities,
    "procMount": _unmasks_proc,
    "AppArmor": _has_app_armor_off,
    "SELinux": _changes_selinux,
    "seccomp off": _has_seccomp_off,
    "sysctls": _sets_other_sysctls,
    "host process": _is_a_host_process,
}
RESTRICTED: dict[str, Callable[[Pod], bool]] = {
    "volume types": _has_other_volumes,
    "privilege escalation": _may_escalate,
    "capabilities not dropped": _keeps_capabilities,
    "root not ruled out": _may_be_root,
    "runs as root": _is_root,
    "seccomp not set": _has_no_seccomp,
}
