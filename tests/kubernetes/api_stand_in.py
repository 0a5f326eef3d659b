"""A stand-in for a cluster's API, enough for the real ``kubectl`` to be walked through the docs with.

It keeps what it is given, refuses what a server with our namespace's rules would refuse (fields that no schema knows,
pods that are not hardened, accounts and claims that are not there), and plays the controllers at once: a Job's pod is
made and the Job is complete, and of a RayJob that is not suspended the operator's pods are made. Nothing runs.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import manifest_checks as checks
import pod_security
import yaml
from operator_pods import built_pods
from quota import quota_findings

KINDS = {
    "v1": [
        "Namespace",
        "ServiceAccount",
        "ResourceQuota",
        "PersistentVolumeClaim",
        "ConfigMap",
        "Pod",
        "Secret",
        "Service",
        "Endpoints",
    ],
    "batch/v1": ["Job"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "ray.io/v1": ["RayJob", "RayCluster"],
}
SHORT = {"NetworkPolicy": "networkpolicies", "Endpoints": "endpoints"}
NAMES = {kind: SHORT.get(kind, f"{kind.lower()}s") for kinds in KINDS.values() for kind in kinds}
PATH = re.compile(r"/(?:api|apis/[^/]+)/v1(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(log))?")
Object = dict[str, Any]


class Refused(Exception):
    """With the status code that a server would answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """What is in the cluster, by resource and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}

    def get(self, resource: str, name: str) -> Object:
        if (resource, name) not in self.objects:
            raise Refused(404, f'{resource} "{name}" not found')
        return self.objects[resource, name]

    def list(self, resource: str, query: dict[str, list[str]]) -> Object:
        wanted = dict(one.split("=") for one in query.get("labelSelector", [""])[0].split(",") if one)
        name = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
        items = [
            one
            for (kind, key), one in self.objects.items()
            if kind == resource and (not name or key == name) and wanted.items() <= one["metadata"]["labels"].items()
        ]
        kind, version = next((kind, version) for version in KINDS for kind in KINDS[version] if NAMES[kind] == resource)
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}

    def create(self, thing: Object) -> Object:
        resource, name = NAMES[thing["kind"]], thing["metadata"]["name"]
        if (resource, name) in self.objects:
            raise Refused(409, f'{resource} "{name}" already exists')
        self._admit(thing)
        thing = copy.deepcopy(thing)
        thing["metadata"].setdefault("labels", {})
        thing["metadata"] |= {"uid": name, "resourceVersion": "1", "creationTimestamp": "2030-01-01T00:00:00Z"}
        self.objects[resource, name] = thing
        self._control(thing)
        return thing

    def patch(self, resource: str, name: str, change: Object) -> Object:
        thing = self.get(resource, name)
        _merge(thing, change)
        self._admit(thing)
        self._control(thing)
        return thing

    def delete(self, resource: str, name: str) -> Object:
        """And what is owned by it."""
        thing = self.get(resource, name)
        for key, one in list(self.objects.items()):
            if one is thing or one["metadata"].get("ownerReferences") == [{"uid": name, "kind": thing["kind"]}]:
                del self.objects[key]
        return thing

    def _admit(self, thing: Object) -> None:
        namespace = thing["metadata"].get("namespace")
        if namespace and ("namespaces", namespace) not in self.objects:
            raise Refused(404, f'namespaces "{namespace}" not found')
        found = checks.core_findings({key: value for key, value in thing.items() if key != "status"})
        if thing["kind"] == "RayJob":
            found = checks.schema_findings(thing) + checks.operator_findings(thing)
        if found:
            raise Refused(422, f"{thing['kind']} {thing['metadata']['name']}: {found}")
        for built in built_pods(thing):
            spec = built.pod["spec"]
            found = self._insecure(built.pod) + list(self._missing(spec)) + self._too_large(built.name, spec)
            if found:
                raise Refused(403, f"pods of {thing['metadata']['name']} are forbidden: {built.name}: {found}")

    def _insecure(self, pod: Object) -> list[str]:
        labels = self.get("namespaces", pod["metadata"]["namespace"])["metadata"]["labels"]
        level = labels["pod-security.kubernetes.io/enforce"]
        found: list[str] = getattr(pod_security, f"{level}_findings")(pod)
        return found

    def _too_large(self, name: str, spec: Object) -> list[str]:
        """One pod against each quota: that all fit together is another test's."""
        spec = copy.deepcopy(spec)
        for container in spec["containers"]:
            sizes = container.setdefault("resources", {})
            sizes["requests"] = sizes.get("limits", {}) | sizes.get("requests", {})  # the server's default
        quotas = [one["spec"]["hard"] for (kind, _), one in self.objects.items() if kind == "resourcequotas"]
        return [line for hard in quotas for line in quota_findings(hard, [(name, spec, 1)])]

    def _missing(self, spec: Object) -> Iterator[str]:
        wanted = [("serviceaccounts", spec["serviceAccountName"])] if "serviceAccountName" in spec else []
        for volume in spec.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                wanted.append(("persistentvolumeclaims", volume["persistentVolumeClaim"]["claimName"]))
            if "configMap" in volume:
                wanted.append(("configmaps", volume["configMap"]["name"]))
        yield from (
            f'{resource} "{name}" not found' for resource, name in wanted if (resource, name) not in self.objects
        )

    def _control(self, thing: Object) -> None:
        """What the controllers make of it, as if no time passed."""
        if thing["kind"] == "Pod":
            stays = any("sleep" in container["command"] for container in thing["spec"]["containers"])
            thing["status"] = {"phase": "Running" if stays else "Succeeded"}
            thing["status"]["conditions"] = [{"type": "Ready", "status": str(stays)}]
        elif thing["kind"] == "Job":
            thing["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            self._make_pods(thing)
        elif thing["kind"] == "RayJob" and not thing["spec"].get("suspend"):
            self._make_pods(thing)

    def _make_pods(self, thing: Object) -> None:
        for number, built in enumerate(built_pods(thing)):
            pod = copy.deepcopy(built.pod)
            pod["metadata"]["name"] = f"{pod['metadata']['generateName']}{number}"
            pod["metadata"]["ownerReferences"] = [{"uid": thing["metadata"]["name"], "kind": thing["kind"]}]
            pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
            self.objects["pods", pod["metadata"]["name"]] = pod


def _merge(into: Object, change: Object) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _discovery(path: str) -> Object | None:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [version.split("/")[0] for version in KINDS if "/" in version]
        versions = {name: [{"groupVersion": f"{name}/v1", "version": "v1"}] for name in groups}
        listed = [{"name": name, "versions": versions[name], "preferredVersion": versions[name][0]} for name in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in KINDS:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {"name": NAMES[kind], "singularName": kind.lower(), "kind": kind, "verbs": verbs}
        | {"namespaced": kind != "Namespace"}
        for kind in KINDS[version]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


class _Handler(BaseHTTPRequestHandler):
    api: Api

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_POST(self) -> None:
        self._answer(lambda *_: self.api.create(self._body()))

    def do_PATCH(self) -> None:
        self._answer(lambda resource, name, _: self._patch(resource, name))

    def do_DELETE(self) -> None:
        self._answer(lambda resource, name, _: self.api.delete(resource, name))

    def _patch(self, resource: str, name: str) -> Object:
        if "apply-patch" in self.headers["Content-Type"] and (resource, name) not in self.api.objects:
            return self.api.create(self._body())
        return self.api.patch(resource, name, self._body())

    def _read(self, resource: str, name: str, query: dict[str, list[str]]) -> Object:
        return self.api.get(resource, name) if name else self.api.list(resource, query)

    def _body(self) -> Object:
        body: Object = yaml.load(self.rfile.read(int(self.headers["Content-Length"])), Loader=yaml.CSafeLoader)
        found = PATH.fullmatch(urlsplit(self.path).path)
        if found and found[1]:
            body.setdefault("metadata", {})["namespace"] = found[1]
        return body

    def _answer(self, act: Any) -> None:
        url = urlsplit(self.path)
        found = _discovery(url.path)
        if found is None:
            try:
                found = self._object_or_log(url.path, parse_qs(url.query), act)
            except Refused as error:
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": error.code}
                reason = {404: "NotFound", 409: "AlreadyExists", 403: "Forbidden"}.get(error.code, "Invalid")
                return self._send(error.code, status | {"message": str(error), "reason": reason})
        self._send(200, found)

    def _object_or_log(self, path: str, query: dict[str, list[str]], act: Any) -> Any:
        if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:
            return act("namespaces", path.rpartition("/")[2], query)
        found = PATH.fullmatch(path)
        if not found:
            raise Refused(404, f"nothing at {path}")
        _, resource, name, log = found.groups()
        return f"the log of {name}\n" if log and self.api.get("pods", name) else act(resource, name or "", query)

    def _send(self, code: int, body: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Silent: a test shows what kubectl says."""


@contextmanager
def stand_in() -> Iterator[tuple[Api, str]]:
    """The API, and its address. It knows RayJobs by KubeRay's definition, and skips the test where that is not here."""
    checks.crds()
    api = Api()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
