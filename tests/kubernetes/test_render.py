"""`tutelage render`: what becomes of a spec, and what is refused before anything is written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import manifest_checks as checks
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from runner.commands.cli import main
from runner.kubernetes.clouds import CLOUDS, lack, placement
from runner.kubernetes.manifest import RAY_VERSION, render
from runner.kubernetes.names import LONGEST, kubernetes_name
from runner.kubernetes.options import RenderOptions
from runner.kubernetes.yaml_text import to_yaml
from runner.spec import Spec, load_spec
from runner.system.accelerators import accelerators
from runner.system.errors import EngineError, SpecError, UserError

GOOD = sorted((checks.ROOT / "tests" / "specs" / "good").glob("*.yaml"))
SHIPPED = sorted((checks.ROOT / "specs").glob("*.yaml"))
SPEC = """\
version: 1
name: {name}
task: {{labels: [a, b]}}
data:
  train: {{path: train.csv, text: text}}
  test: {{path: test.csv, text: text, label: label}}
teacher: {teacher}
student: {student}
"""
VLLM = "{model: org/teacher, resources: {accelerator: H100, gpus: 2, replicas: [2, 5]}}"
T4 = "{resources: {accelerator: T4, gpus: 1, workers: 3}}"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(teacher: str = VLLM, student: str = T4, name: str = "small", more: str = "") -> Spec:
        path = tmp_path / "spec.yaml"
        path.write_text(SPEC.format(name=name, teacher=teacher, student=student) + more, encoding="utf-8")
        return load_spec(path)

    return write


def job_of(spec: Spec, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = render(spec, RenderOptions(**options)).objects[1]
    return found


def groups(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]}


def container(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return found


def head_container(job: dict[str, Any]) -> dict[str, Any]:
    return container(job["spec"]["rayClusterSpec"]["headGroupSpec"])


def pods_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(checks.pods(job))


def test_each_further_machine_of_the_benchmark_has_its_pod(write: Any) -> None:
    card, small = "{name: L4, accelerator: L4, gpus: 1, price_per_hour: 0.7}", "{name: s, cpus: 2, price_per_hour: 0.1}"
    further = f"benchmark: {{hardware: [{card}, {small}]}}"
    spec = write(more=further)
    job = job_of(spec, cloud="gke")
    found = groups(job)
    assert list(found) == ["teacher", "student", "benchmark-1", "benchmark-2"]
    assert "accelerator_type:L4" in found["benchmark-1"]["rayStartParams"]["resources"]
    assert found["benchmark-2"]["rayStartParams"]["num-cpus"] == "2"
    assert all((one["replicas"], one["maxReplicas"]) == (0, 1) for name, one in found.items() if "bench" in name)
    fixed = groups(job_of(spec, cloud="gke", queue="team"))
    assert fixed["benchmark-1"]["replicas"] == fixed["benchmark-1"]["minReplicas"] == 1
    assert "benchmark.hardware 0.80" in str(job)
    unknown = further.replace("accelerator: L4", "accelerator: Z9")
    with pytest.raises(SpecError, match=r"benchmark\.hardware\.0\.accelerator"):
        render(write(more=unknown), RenderOptions(cloud="gke"))


def test_the_groups_follow_the_resources_of_the_spec(write: Any) -> None:
    job = job_of(write(), cloud="gke")
    teacher, student = groups(job).values()
    assert [(group["groupName"], group["maxReplicas"]) for group in (teacher, student)] == [
        ("teacher", 5),
        ("student", 3),
    ]
    assert container(teacher)["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert container(student)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert teacher["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert student["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert head == {"num-cpus": "0", "num-gpus": "0"}  # left out, Ray counts for itself what a node has


@pytest.mark.parametrize("teacher", [VLLM, "{engine: noop, model: none}"])
def test_a_cluster_that_scales_begins_with_its_head_alone(write: Any, teacher: str) -> None:
    """KubeRay submits once all first pods are ready: the driver, its waiting and its retries would wait for GPUs."""
    job = job_of(write(teacher))
    assert {(group["replicas"], group["minReplicas"]) for group in groups(job).values()} == {(0, 0)}
    assert {"name": "TUTELAGE_NODES", "value": "later"} in head_container(job)["env"]
    assert head_container(job)["lifecycle"]["preStop"]["exec"]["command"] == [
        "python",
        "-m",
        "runner.kubernetes.pre_stop",
    ]
    assert {"name": "TUTELAGE_ATTEMPTS", "value": str(job["spec"]["backoffLimit"] + 1)} in head_container(job)["env"]
    fixed = job_of(write(teacher), queue="team")
    assert "TUTELAGE_NODES" not in {one["name"] for one in head_container(fixed)["env"]}


@pytest.mark.parametrize(
    "teacher",
    [
        "{engine: noop, model: none}",
        "{engine: recorded, model: people, columns: [anna]}",
        "{model: org/teacher, endpoint: 'http://llm.internal:8000/v1', resources: {cpus: 12}}",
    ],
)
def test_a_teacher_that_runs_elsewhere_or_nowhere_has_no_pods(write: Any, teacher: str) -> None:
    rendered = render(write(teacher), RenderOptions(cloud="eks"))
    job = rendered.objects[1]
    assert any("http://llm.internal:8000/v1: the teacher's server" in need for need in rendered.needs) == (
        "endpoint" in teacher
    )
    assert list(groups(job)) == ["student"]
    assert groups(job)["student"]["maxReplicas"] == 3


def test_the_callers_of_a_server_fit_into_the_students_pods(write: Any) -> None:
    teacher = "{model: org/teacher, endpoint: 'http://llm.internal:8000/v1', resources: {cpus: 12}}"
    student = groups(job_of(write(teacher)))["student"]
    assert student["rayStartParams"]["num-cpus"] == "12"
    assert int(container(student)["resources"]["limits"]["cpu"]) >= 12


def test_one_embedded_teacher_among_several_has_pods(write: Any) -> None:
    teacher = "{model: org/teacher, also: [{model: org/other, endpoint: 'http://llm.internal:8000/v1'}]}"
    assert list(groups(job_of(write(teacher)))) == ["teacher", "student"]


def test_without_gpus_nothing_asks_for_a_gpu_or_a_node_of_its_own(write: Any) -> None:
    job = job_of(write("{model: org/teacher, resources: {cpus: 3}}", "{}"))
    for group in groups(job).values():
        assert "nvidia.com/gpu" not in container(group)["resources"]["limits"]
        assert {"nodeSelector", "affinity"} & set(group["template"]["spec"]) == set()
        assert all("gpu" not in one["key"] for one in group["template"]["spec"]["tolerations"])
        assert group["rayStartParams"]["num-gpus"] == "0" and "resources" not in group["rayStartParams"]
    assert groups(job)["teacher"]["rayStartParams"]["num-cpus"] == "3"
    assert {container(group)["image"] for group in groups(job).values()} == {"tutelage:cpu"}


def test_the_spec_in_the_cluster_asks_for_the_cores_that_its_pods_have(write: Any, tmp_path: Path) -> None:
    rendered = render(write(student="{}"), RenderOptions())
    inside = reloaded(rendered.objects[0], tmp_path)
    job = rendered.objects[1]
    assert str(inside.teacher.resources.cpus) == groups(job)["teacher"]["rayStartParams"]["num-cpus"]
    assert str(inside.student.resources.cpus) == groups(job)["student"]["rayStartParams"]["num-cpus"]


def reloaded(config_map: dict[str, Any], folder: Path) -> Spec:
    inside = folder / "inside"
    inside.mkdir(exist_ok=True)
    for name, text in config_map["data"].items():
        (inside / name).write_text(text, encoding="utf-8")
    return load_spec(inside / "spec.yaml")


@pytest.mark.parametrize("path", [*SHIPPED, *GOOD], ids=lambda path: path.stem)
def test_the_spec_in_the_config_map_is_the_same_job(path: Path, tmp_path: Path) -> None:
    """But for where its data lie and for the cores written out."""
    spec = load_spec(path, ["student.model=org/student"])
    spec = replace(spec, benchmark=replace(spec.benchmark, prices=None))  # the example's table does not exist
    inside = reloaded(render(spec, RenderOptions(data_dir="s3://bucket/data")).objects[0], tmp_path)
    before, after = spec.to_dict(), inside.to_dict()
    for one in (before, after):
        one["teacher"]["resources"].pop("cpus")
        one["student"]["resources"].pop("cpus")
        paths = [one["data"]["train"], one["data"]["test"], *one["evaluate"]["compare"].values()]
        paths += [one["data"]["corpus"]] * bool(one["data"]["corpus"])
        for source in paths:
            source.pop("path")
        if isinstance(one["task"]["examples"], dict):
            one["task"]["examples"].pop("from")
    assert after == before


@pytest.mark.parametrize("text", ["a\tb", "'\"\\", "- a\n#b: {c}\n\n d", "1e3", "null", "${HOME} $(id)"])
def test_any_text_of_a_spec_arrives(write: Any, tmp_path: Path, text: str) -> None:
    spec = write()
    spec = replace(spec, task=replace(spec.task, instructions=text))
    assert reloaded(render(spec, RenderOptions()).objects[0], tmp_path).task.instructions == text


@pytest.mark.parametrize(
    ("written", "data_dir", "place"),
    [
        ("train.csv", "/mnt/tutelage/data", "/mnt/tutelage/data/train.csv"),
        ("./a/../b/*.csv", "/mnt/tutelage/data/", "/mnt/tutelage/data/b/*.csv"),
        ("${TUTELAGE_DATA}/x/train.csv", "s3://bucket/data", "s3://bucket/data/x/train.csv"),
        ("gs://other/train.csv", "s3://bucket/data", "gs://other/train.csv"),
        ("/mnt/tutelage/else/train.csv", "s3://bucket/data", "/mnt/tutelage/else/train.csv"),
    ],
)
def test_data_lie_where_the_pods_reach_them(
    write: Any, tmp_path: Path, written: str, data_dir: str, place: str
) -> None:
    spec = write()
    spec = replace(spec, data=replace(spec.data, train=replace(spec.data.train, path=written)))
    rendered = render(spec, RenderOptions(data_dir=data_dir))
    assert reloaded(rendered.objects[0], tmp_path).data.train.path == place
    assert any(need.startswith(f"{place}: ") for need in rendered.needs) == (place != written or "://" not in place)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("/home/me/train.csv", "no pod sees it: put it on shared storage"),
        ("/mnt/tutelage/../../home/me/train.csv", "no pod sees it"),
        ("../train.csv", "leads out of the spec's folder"),
        ("${TUTELAGE_DATA}/../train.csv", "leads out"),
        ("${TUTELAGE_DATA}/test.csv", "would be one file in the cluster"),
        ("s3://me:canary@bucket/train.csv", "no user or password may stand in a manifest"),
    ],
)
def test_data_that_no_pod_would_reach_are_an_error_with_the_line(write: Any, written: str, said: str) -> None:
    spec = write()
    spec = replace(spec, data=replace(spec.data, train=replace(spec.data.train, path=written)))
    with pytest.raises(SpecError, match=re.escape(said)) as caught:
        render(spec, RenderOptions())
    assert re.search(r"spec\.yaml:[56]:\d+: data\.", str(caught.value))
    assert "canary" not in str(caught.value)


def test_a_hub_data_set_and_a_pinned_model_are_named_among_the_needs(write: Any) -> None:
    spec = write("{model: org/teacher, revision: abc}")
    spec = replace(spec, data=replace(spec.data, train=replace(spec.data.train, path="org/rows", format="hub")))
    needs = render(spec, RenderOptions()).needs
    assert any(need.startswith("org/rows: this data set") for need in needs)
    assert "pull org/teacher@abc all-mpnet-base-v2`" in needs[-1]


@pytest.mark.parametrize("model", ["./models/mine", "/home/me/model", "~/model"])
def test_a_model_that_is_a_folder_here_is_an_error(write: Any, model: str) -> None:
    with pytest.raises(SpecError, match=r"student\.model: .* is a folder on this machine"):
        render(write(student=f"{{model: {model}}}"), RenderOptions())


def test_a_model_that_is_a_folder_of_the_volume_is_fine(write: Any) -> None:
    teacher = VLLM.replace("org/teacher", "/mnt/tutelage/theirs")
    needs = render(write(teacher, "{model: /mnt/tutelage/mine}"), RenderOptions()).needs
    assert needs[-2:] == ("/mnt/tutelage/theirs: the model's folder", "/mnt/tutelage/mine: the model's folder")


def test_a_teacher_that_does_not_fit_into_its_gpus_is_said_before_they_are_paid_for() -> None:
    path = checks.ROOT / "specs" / "financial-sentiment.yaml"
    with pytest.raises(EngineError, match="does not fit"):
        render(load_spec(path, ["teacher.resources.gpus=1"]), RenderOptions(cloud="gke"))


def test_a_price_table_goes_along(write: Any, tmp_path: Path) -> None:
    table = checks.ROOT / "runner" / "spec" / "prices.yaml"
    (tmp_path / "mine.yaml").write_bytes(table.read_bytes())
    rendered = render(write(more="benchmark: {prices: mine.yaml}\n"), RenderOptions())
    assert rendered.objects[0]["data"]["prices.yaml"] == table.read_text(encoding="utf-8")
    assert reloaded(rendered.objects[0], tmp_path).benchmark.prices == "prices.yaml"


def test_a_spec_that_no_config_map_holds_is_an_error(write: Any) -> None:
    spec = write()
    spec = replace(spec, task=replace(spec.task, instructions="x" * 1_000_000))
    with pytest.raises(UserError, match="a ConfigMap holds"):
        render(spec, RenderOptions())


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("accelerator", accelerators())
def test_an_accelerator_is_placed_or_refused_with_what_there_is(cloud: str, accelerator: str) -> None:
    one = CLOUDS[cloud]
    if accelerator in one.nodes:
        assert lack(one, accelerator, 1) is None
        placed = placement(one, accelerator, 1)
        assert ("nodeSelector" in placed) != ("affinity" in placed)
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in placed["tolerations"]
    else:
        field, code, message = lack(one, accelerator, 1) or ("", "", "")
        assert (
            (field, code) == ("accelerator", "kubernetes.accelerator-not-offered")
            and "T4" in message
            and "--cloud" in message
        )


def test_every_accelerator_of_the_table_has_a_cloud() -> None:
    assert set(accelerators()) == {name for cloud in CLOUDS.values() for name in cloud.nodes}
    assert CLOUDS["plain"].nodes.keys() == set(accelerators())


def test_nodes_with_too_few_gpus_are_left_out() -> None:
    terms = placement(CLOUDS["eks"], "T4", 2)["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["g4dn.12xlarge", "g4dn.metal"]


def test_what_the_cloud_lacks_is_said_all_at_once_and_nothing_is_written(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(VLLM.replace("accelerator: H100, gpus: 2", "accelerator: T4, gpus: 16"), T4.replace("T4", "A10G"))
    out = tmp_path / "job.yaml"
    assert main(["render", str(tmp_path / "spec.yaml"), "--cloud", "gke", "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and not out.exists()
    assert "spec.yaml:7" in said.err and "has 16 T4 (4 at most), and all must be on one" in said.err
    assert "spec.yaml:8" in said.err and "'A10G' is known here" in said.err


def test_a_file_that_cannot_be_written_is_1(write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(["render", str(tmp_path / "spec.yaml"), "-o", str(tmp_path / "no" / "job.yaml")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow("long")
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_any_name_of_a_spec_becomes_one_that_kubernetes_takes(name: str) -> None:
    made = kubernetes_name(name)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", made) and len(made) <= LONGEST == checks.LONGEST_RAYJOB_NAME
    assert kubernetes_name(name) == made
    assert kubernetes_name(made) == made


@pytest.mark.parametrize(
    ("one", "other"), [("a.b", "a-b"), ("Big", "big"), ("a_b", "a.b"), ("x" * 80, "x" * 81), ("1", "run-1"), ("-", "_")]
)
def test_two_names_never_become_one(one: str, other: str) -> None:
    assert kubernetes_name(one) != kubernetes_name(other)


def test_a_name_that_is_fine_stays() -> None:
    assert kubernetes_name("financial-sentiment") == "financial-sentiment"
    assert kubernetes_name("x" * LONGEST) == "x" * LONGEST


def test_a_name_that_a_job_of_ours_has_is_changed() -> None:
    """KubeRay's Job that submits has the RayJob's name, and takes a Job of that name for its own."""
    ours = yaml.safe_load((checks.ROOT / "k8s" / "base" / "weights.yaml").read_text(encoding="utf-8"))
    name = ours["metadata"]["name"]
    assert kubernetes_name(name) not in {name, kubernetes_name(f"{name}.")}


@pytest.mark.parametrize("name", ["Fin.Sentiment_2024", "x" * 80, "2024.11", "1e3"])
def test_a_name_that_kubernetes_refuses_is_rendered_without_a_finding_and_stays_the_run_folders(
    write: Any, tmp_path: Path, name: str
) -> None:
    rendered = render(write(name=f'"{name}"'), RenderOptions(cloud="gke"))
    config_map, job = yaml.safe_load_all(rendered.yaml)
    assert checks.core_findings(config_map) + checks.core_findings(job) + checks.operator_findings(job) == []
    assert job["metadata"]["annotations"]["tutelage/spec-name"] == name
    assert reloaded(config_map, tmp_path).name == name


@pytest.mark.parametrize("name", ["x; rm -rf /", "$(id)", "`id`", "a\\nb", "a b", "../x"])
def test_a_name_with_a_command_in_it_is_refused_with_its_line(write: Any, name: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.yaml:2:7: name: "):
        write(name=f'"{name}"')


HOSTILE = "x; rm -rf / $(id) `id` && curl evil | sh #"


def test_no_word_of_a_spec_reaches_a_command(tmp_path: Path) -> None:
    """Its file's name, its labels, texts and column names are data, wherever they end up."""
    folder = tmp_path / HOSTILE.replace("/", "_")
    folder.mkdir()
    path = folder / "x; rm -rf $HOME.yaml"
    path.write_text(
        SPEC.format(name="small", teacher=VLLM, student=T4)
        .replace("[a, b]", f"['{HOSTILE}', b], instructions: '{HOSTILE}'")
        .replace("text: text", f"text: '{HOSTILE}'"),
        encoding="utf-8",
    )
    config_map, job = render(load_spec(path), RenderOptions()).objects
    assert job["spec"]["entrypoint"] == (
        "tutelage run /etc/tutelage/spec.yaml --address auto --wait 1800 --runs-dir /mnt/tutelage/runs"
    )
    assert "rm -rf" not in to_yaml(job)
    assert HOSTILE in config_map["data"]["spec.yaml"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("runs_dir", "runs"),
        ("runs_dir", "/home/me/runs"),
        ("runs_dir", "/mnt/tutelage/../../etc"),
        ("runs_dir", "/mnt/tutelage-else/runs"),
        ("runs_dir", "file:///mnt/tutelage/runs"),
        ("runs_dir", "memory://runs"),
        ("runs_dir", "s3://"),
        ("runs_dir", "s3://bucket/$(id)"),
        ("runs_dir", "/mnt/tutelage/runs; id"),
        ("runs_dir", "/mnt/tutelage/a b"),
        ("runs_dir", "s3://bucket/'x'"),
        ("data_dir", "data"),
        ("data_dir", "s3://me:canary@bucket/data"),
        ("runs_dir", "s3://me:canary@bucket/runs"),
        ("namespace", "Big"),
        ("namespace", "x" * 64),
        ("claim", "a_b"),
        ("secrets", ("hub token",)),
        ("queue", "a.b"),
        ("image", "tutelage:gpu; id"),
        ("head_image", "$(id)"),
        ("gcs_redis", "redis"),
        ("gcs_redis", "redis:0"),
        ("gcs_redis", "redis:65536"),
    ],
)
def test_an_option_that_would_fail_later_is_refused_now(option: str, value: Any) -> None:
    name = {"secrets": "secret"}.get(option, option.replace("_", "-"))
    with pytest.raises(UserError, match=f"^--{name}[: ]") as caught:
        RenderOptions(**{option: value})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("option", ["runs", "data"])
def test_a_place_that_is_refused_comes_with_one_for_that_option(option: str) -> None:
    with pytest.raises(UserError, match=f"^--{option}-dir '/x': .* such as /mnt/tutelage/{option}$"):
        RenderOptions(**{f"{option}_dir": "/x"})


@pytest.mark.parametrize(
    "place", ["s3://bucket/runs", "gs://bucket/a/b", "abfss://box@account/runs", "/mnt/tutelage/r"]
)
def test_shared_storage_is_taken(write: Any, place: str) -> None:
    assert job_of(write(), runs_dir=place)["spec"]["entrypoint"].endswith(f" --runs-dir {place}")


def test_a_secret_is_named_and_a_secret_of_the_environment_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = "canary-5fb1c0de"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "TUTELAGE_ENDPOINT_TOKEN", "TUTELAGE_DATA", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, canary)
    for path in SHIPPED:
        out = tmp_path / f"{path.stem}.yaml"
        assert main(["render", str(path), "--cloud", "gke", "--secret", "bucket-keys", "-o", str(out)]) == 0
        text = out.read_text(encoding="utf-8")
        said = capsys.readouterr()
        assert canary not in text + said.out + said.err
        for group in groups(list(yaml.safe_load_all(text))[1]).values():
            assert container(group)["envFrom"] == [{"secretRef": {"name": "bucket-keys"}}]


def test_the_pods_are_offline_unless_they_may_ask_the_hub(write: Any) -> None:
    for options, value in ((RenderOptions(), "1"), (RenderOptions(online=True), "0")):
        cluster = render(write(), options).objects[1]["spec"]["rayClusterSpec"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert {"name": "HF_HUB_OFFLINE", "value": value} in container(group)["env"]


def test_only_the_autoscaler_gets_a_token_of_the_cluster(write: Any) -> None:
    cluster = job_of(write())["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (token,) = [volume["name"] for volume in head["volumes"] if "projected" in volume]
    assert token in [mount["name"] for mount in cluster["autoscalerOptions"]["volumeMounts"]]
    assert token not in [mount["name"] for mount in head["containers"][0]["volumeMounts"]]
    for group in cluster["workerGroupSpecs"]:
        assert not [volume for volume in group["template"]["spec"]["volumes"] if "projected" in volume]


def test_the_cluster_asks_for_a_token_and_shows_itself_to_nobody_outside(write: Any) -> None:
    cluster = job_of(write())["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["enableIngress"] is False


def test_in_a_queue_the_job_waits_and_has_one_size(write: Any) -> None:
    job = job_of(write(), queue="research")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["spec"]["suspend"] is True and job["spec"]["shutdownAfterJobFinishes"] is True
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False and "autoscalerOptions" not in cluster
    for name, count in (("teacher", 2), ("student", 3)):
        group = groups(job)[name]
        assert {group[key] for key in ("replicas", "minReplicas", "maxReplicas")} == {count}
    assert "suspend" not in job_of(write())["spec"]


def test_deadline_and_retries_are_the_wish(write: Any) -> None:
    spec = job_of(write(), hours=5, retries=0)["spec"]
    assert (spec["activeDeadlineSeconds"], spec["backoffLimit"]) == (5 * 3600, 0)


def test_a_head_that_does_not_come_up_is_given_up_after_as_long_as_the_driver_waits_for_nodes(write: Any) -> None:
    spec = job_of(write())["spec"]
    assert f"--wait {spec['preRunningDeadlineSeconds']} " in spec["entrypoint"]


def test_a_queue_gives_its_place_away_at_once(write: Any) -> None:
    """It counts the job's share as free when the job has ended, and not when the cluster is gone."""
    assert job_of(write())["spec"]["ttlSecondsAfterFinished"] == 600
    assert job_of(write(), queue="team")["spec"]["ttlSecondsAfterFinished"] == 0


def test_pods_stay_where_they_are_and_are_replaced_soon_where_their_node_is_lost(write: Any) -> None:
    for pod in pods_of(job_of(write())).values():
        annotations = pod["metadata"]["annotations"]
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert annotations["karpenter.sh/do-not-disrupt"] == "true"
        lost = [one for one in pod["spec"]["tolerations"] if one["key"].startswith("node.kubernetes.io/")]
        assert {(one["key"], one["effect"], one["tolerationSeconds"]) for one in lost} == {
            ("node.kubernetes.io/not-ready", "NoExecute", 30),
            ("node.kubernetes.io/unreachable", "NoExecute", 30),
        }


def test_a_pod_has_the_time_to_end_that_ray_and_the_driver_take(write: Any) -> None:
    job = job_of(write())
    pods = pods_of(job)
    grace = {name: pod["spec"].get("terminationGracePeriodSeconds") for name, pod in pods.items()}
    assert grace == {"submitter": 5, "head": 60, "teacher": 60, "student": 60}
    head = {one["name"]: one["value"] for one in head_container(job)["env"]}
    assert (head["RAY_JOB_STOP_SIGNAL"], head["RAY_JOB_STOP_WAIT_TIME_S"]) == ("SIGINT", "20")
    assert int(head["RAY_JOB_STOP_WAIT_TIME_S"]) < grace["head"]


def test_the_submitter_would_like_to_be_beside_the_head(write: Any) -> None:
    pods = pods_of(job_of(write()))
    (preferred,) = pods["submitter"]["spec"]["affinity"]["podAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    wanted = preferred["podAffinityTerm"]["labelSelector"]["matchLabels"]
    head = pods["head"]["metadata"]["labels"] | {"ray.io/node-type": "head"}  # KubeRay's own
    assert wanted.items() <= head.items() and preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert not wanted.items() <= (pods["teacher"]["metadata"]["labels"] | {"ray.io/node-type": "worker"}).items()


def test_no_container_without_a_gpu_is_shown_one(write: Any) -> None:
    job = job_of(write(student="{resources: {cpus: 2}}"))
    void = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    shown = {name for name, pod in pods_of(job).items() for one in pod["spec"]["containers"] if void not in one["env"]}
    assert shown == {"teacher"}
    assert void in job["spec"]["rayClusterSpec"]["autoscalerOptions"]["env"]


@pytest.mark.parametrize(
    ("options", "student", "head", "workers"),
    [
        ({}, T4, "tutelage-head:cpu", "tutelage:gpu"),
        ({"image": "mine:1"}, T4, "mine:1", "mine:1"),
        ({"image": "mine:1", "head_image": "small:1"}, T4, "small:1", "mine:1"),
        ({"head_image": "small:1"}, T4, "small:1", "tutelage:gpu"),
        ({}, "{}", "tutelage:cpu", "tutelage:cpu"),
    ],
)
def test_head_and_submitter_have_a_small_image_beside_gpus(
    write: Any, options: dict[str, Any], student: str, head: str, workers: str
) -> None:
    pods = pods_of(job_of(write("{engine: noop, model: none}", student), **options))
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods.items()}
    assert images == {"submitter": head, "head": head, "student": workers}


def test_the_command_line_takes_an_image_for_the_head(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = write().source
    assert main(["render", str(path), "--head-image", "small:1"]) == 0
    assert head_container(list(yaml.safe_load_all(capsys.readouterr().out))[1])["image"] == "small:1"


def test_redis_keeps_the_state_of_the_cluster_with_its_password_by_reference(write: Any) -> None:
    options = job_of(write(), gcs_redis="redis:6379", secrets=("keys",))["spec"]["rayClusterSpec"][
        "gcsFaultToleranceOptions"
    ]
    assert (options["backend"], options["redisAddress"]) == ("redis", "redis:6379")
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert "gcsFaultToleranceOptions" not in job_of(write())["spec"]["rayClusterSpec"]


def test_the_cost_is_that_of_all_pods_until_the_deadline(write: Any) -> None:
    teacher = VLLM.replace("{model", "{price_per_hour: 8, model")
    cost = job_of(write(teacher, more="benchmark: {price_per_hour: 0.5}\n"), hours=10)["metadata"]["annotations"][
        "tutelage/cost"
    ]
    assert "USD 41.50 an hour (teacher 40.00, student 1.50" in cost  # 5 x 8 and 3 x 0.5
    assert "USD 415.00 for an attempt that reaches its deadline of 10 h" in cost
    assert "the head is not counted" in cost


@pytest.mark.parametrize(("retries", "queue"), [(0, None), (2, None), (2, "team")])
def test_the_worst_case_is_what_the_operator_allows(write: Any, retries: int, queue: str | None) -> None:
    """Each attempt has a deadline of its own, and ends with pods that may take their time; then the cluster stays."""
    teacher = VLLM.replace("{model", "{price_per_hour: 8, model")
    job = job_of(write(teacher, more="benchmark: {price_per_hour: 0.5}\n"), hours=10, retries=retries, queue=queue)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]["workerGroupSpecs"]
    hourly = sum(group["maxReplicas"] * {"teacher": 8, "student": 0.5}[group["groupName"]] for group in cluster)
    grace = cluster[0]["template"]["spec"]["terminationGracePeriodSeconds"]
    seconds = (spec["backoffLimit"] + 1) * (spec["activeDeadlineSeconds"] + grace) + spec["ttlSecondsAfterFinished"]
    said = re.findall(r"USD ([\d.]+) if all attempts do, (\d+)", job["metadata"]["annotations"]["tutelage/cost"])
    ((usd, attempts),) = said
    assert int(attempts) == retries + 1
    assert hourly * seconds / 3600 <= float(usd) <= 41.5 * seconds / 3600 * 1.01


def test_a_cost_that_is_not_known_is_said(write: Any) -> None:
    cost = job_of(write())["metadata"]["annotations"]["tutelage/cost"]
    assert cost == (
        "cost unknown; student unknown: benchmark.price_per_hour is not set; "
        "teacher unknown: teacher.price_per_hour is not set"
    )
    one = job_of(write(more="benchmark: {price_per_hour: 0.5}\n"))["metadata"]["annotations"]["tutelage/cost"]
    assert one.startswith(
        "at most USD 1.50 an hour besides what is unknown (student 1.50, teacher unknown: teacher.price_per_hour is not"
    )


def test_the_plan_is_noted_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(checks.ROOT / "specs" / "quickstart.yaml")
    priced = ["--set", "teacher.price_per_hour=1", "--set", "benchmark.price_per_hour=1"]
    assert main(["render", path, "--plan", *priced]) == 0
    _, job = yaml.safe_load_all(capsys.readouterr().out)
    assert re.fullmatch(
        r"teacher about [\d:]+ \(rough, from arithmetic\), USD [\d.]+; student about .*, USD [\d.]+",
        job["metadata"]["annotations"]["tutelage/plan"],
    )


def test_a_plan_without_the_data_says_what_is_missing(write: Any) -> None:
    with pytest.raises(SpecError, match="there is no file"):
        render(write(), RenderOptions(), with_plan=True)


def test_rendering_twice_gives_the_same_bytes(write: Any) -> None:
    assert render(write(), RenderOptions()).yaml == render(write(), RenderOptions()).yaml


def test_rays_version_is_the_locked_one() -> None:
    lock = (checks.ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert f"ray=={RAY_VERSION}" in lock


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
@example("A\x85")
@example("a\n\u2028b")
def test_yaml_reads_back_as_what_it_was(data: Any) -> None:
    assert yaml.safe_load(to_yaml(data)) == data


TEXTS = [
    "1e3", "y", "N", "on", "null", "~", "0o17", "0x1f", "12:30", "1_000", ".inf", "2024-11-22", "=", "<<", "a: b",
    "# a", " a", "a ", "a\n\n b\n", "a\tb\n", "- a", "'a'", '"a"', "{a}", "%a", "@a", "é", "a\u2028b", "\\n", "",
]  # fmt: skip


@pytest.mark.slow("subprocess")
def test_kubernetes_reads_what_we_wrote(tmp_path: Path) -> None:
    """Go reads YAML by other rules than Python: the real kubectl has to find the same texts."""
    data = {f"key-{number}": text for number, text in enumerate(TEXTS)}
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "annotations": data}, "data": data}
    (tmp_path / "thing.yaml").write_text(to_yaml(thing), encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [thing.yaml]\n", encoding="utf-8")
    (found,) = checks.kustomize(tmp_path, yaml.BaseLoader)  # it writes what PyYAML would not: `<<`, unquoted
    assert found["data"] == data
    assert found["metadata"]["annotations"] == data


def test_what_a_job_needs_room_for_and_names_is_told_before_it_is_created(write: Any) -> None:
    needs = render(
        write("{model: a/b, resources: {accelerator: H100, gpus: 2, replicas: [1, 4]}}"), RenderOptions()
    ).needs
    # Head 2 and 8, autoscaler and submitter 0.5 and 1 each, four teachers of 20 and 320, three students of 6 and 20.
    assert "101 cores, 1350 GiB, 11 GPUs: room in the quota and on the nodes when all its pods are up" in needs
    needs = render(write(), RenderOptions(secrets=("keys", "token"), queue="team")).needs
    assert needs[:3] == (
        "keys: a Secret of the namespace tutelage",
        "token: a Secret of the namespace tutelage",
        "team: a LocalQueue of the namespace tutelage",
    )
