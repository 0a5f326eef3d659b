"""Metrics on Ray's own Prometheus endpoint, scraped over HTTP and held against what the run stored; the dashboard."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runner.cluster.cluster import Cluster
from runner.observe.events import read_events
from runner.observe.metric_names import METRICS
from runner.observe.metrics import REASONS, Meter, reason_of
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.system.errors import UserError

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "k8s" / "grafana" / "tutelage.json"
ROWS, TOO_LONG = 240, 3

JOB = """
import json, sys
from runner.stages import pipeline
from runner.cluster.cluster import Cluster
from runner.observe.progress import Progress
from runner.spec import load_spec
from runner.stages.contract import Context
from runner.rundir.lock import locked
from runner.rundir.folder import Folder

path, runs, *changes = sys.argv[1:]
cluster, run, progress = Cluster(run="small"), Folder(runs).child("small"), Progress(sys.stderr, "quiet")
found = []
with locked(run), progress.recorded(run, "test"):
    for more in ([], ["data.train.limit=100"]):
        spec = load_spec(path, [*changes, *more])
        for step in pipeline.steps(spec, run)[:2]:
            pipeline.run_step(step, Context(spec, run, step.folder, step.inputs, cluster, progress))
        found.append(step.folder.done["summary"])
print(json.dumps(found), flush=True)
sys.stdin.read()
cluster.stop()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Scraped(dict[str, float]):
    """Values by name and our own labels, such as ``tutelage_rows_failed_total reason=engine stage=label``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.types: dict[str, str] = {}
        for family in text_string_to_metric_families(text):
            if family.name.startswith("ray_tutelage_"):
                self.types[family.name] = family.type
                for sample in family.samples:
                    name = sample.name.removeprefix("ray_")
                    labels = sorted((key, sample.labels[key]) for key in METRICS[name].labels)
                    assert sample.labels["run"] == "small"
                    self[name + "".join(f" {key}={value}" for key, value in labels)] = sample.value


def scrape(port: int) -> Scraped:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return Scraped(reply.read().decode())


def kill_a_labeller(running: subprocess.Popen[str], answers: Path) -> None:
    """SIGKILL the actor that labels, once it has stored something."""
    while not list(answers.glob("*/*.parquet")):
        assert running.poll() is None, "the job failed"
        time.sleep(0.05)
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name = (place / "cmdline").read_bytes()
            own = os.getsid(int(place.name)) == running.pid
        except (OSError, ProcessLookupError):
            continue
        if own and name.startswith(b"ray::MapWorker"):
            os.kill(int(place.name), signal.SIGKILL)
            return
    raise AssertionError("no labeller was found")


def settled(port: int, wanted: Callable[[Scraped], bool]) -> Scraped:
    """What stands there once Ray has sent all of it: every second here, every ten by default."""
    end = time.monotonic() + 60
    while not wanted(found := scrape(port)) and time.monotonic() < end:
        time.sleep(0.5)
    return found


@pytest.mark.slow("subprocess")
def test_what_prometheus_reads_is_what_the_run_stored(job: Any) -> None:
    """One labelling with rows that fail and a worker that is killed, and one that reuses it."""
    texts = [f"Sales of unit {n} rose by {n % 97} %." for n in range(ROWS)]
    texts += [f"{n} " + "word " * 600 for n in range(TOO_LONG)]
    job.csv("train.csv", [(text, "", "", "", "") for text in texts])
    changes = ["teacher.engine=noop", "teacher.columns=[]", "teacher.batch_size=16", "teacher.max_context=512"]
    changes += ["teacher.engine_options={seconds: 0.08}", "teacher.price_per_hour=3.6"]
    port = free_port()
    running = subprocess.Popen(
        [sys.executable, "-c", JOB, str(job.path), str(job.runs_dir), *changes],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAY_metrics_report_interval_ms": "1000", "TUTELAGE_METRICS_PORT": str(port)},
        start_new_session=True,
    )
    assert running.stdout is not None
    try:
        kill_a_labeller(running, job.runs_dir / "small" / "answers")
        during = settled(port, lambda now: "tutelage_rows_per_second stage=label" in now)
        line = running.stdout.readline()
        assert line, "the job failed"
        label, again = json.loads(line)
        found = settled(port, lambda now: now.get("tutelage_rows_reused_total stage=label", 0) == again["reused"])
        running.communicate("", timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert (label["generated"], label["failures"], again["reused"]) == (ROWS + 3, TOO_LONG, 103)
    assert found["tutelage_rows_labelled_total"] == label["generated"]
    assert found["tutelage_rows_failed_total reason=too long stage=label"] == TOO_LONG
    assert [name for name in found if "failed" in name] == ["tutelage_rows_failed_total reason=too long stage=label"]
    assert found["tutelage_rows_reused_total stage=label"] == again["reused"]
    assert found["tutelage_worker_restarts_total stage=label"] == 1
    assert during["tutelage_rows_per_second stage=label"] >= 0 <= during["tutelage_progress_ratio stage=label"] <= 1
    check_tokens(found, job.runs_dir / "small" / "answers")
    check_events(found, read_events(Folder(str(job.runs_dir / "small"))))
    assert not [name for name in found if "gpu" in name], "nothing held a GPU"
    kinds = {f"ray_{name.removesuffix('_total')}": metric.kind for name, metric in METRICS.items()}
    types = found.types | during.types
    assert {name: kinds[name] for name in types} == types


def check_tokens(found: Scraped, answers: Path) -> None:
    """All that was asked, content-free texts too; a batch that died with its worker after storing is stored twice."""
    rows = {row["id"]: row for file in answers.glob("*/*.parquet") for row in pq.read_table(file).to_pylist()}
    for direction in ("prompt", "output"):
        stored = sum(row[f"{direction}_tokens"] for row in rows.values())
        assert found[f"tutelage_tokens_total direction={direction}"] == stored > 0


def check_events(found: Scraped, events: list[dict[str, Any]]) -> None:
    """events.jsonl tells the same story."""
    named = {one["event"]: one for one in events}
    assert named["rows_failed"]["reasons"] == {"too long": TOO_LONG}
    assert named["workers_restarted"]["count"] == 1
    usd = sum(one["usd"] for one in events if one["event"] == "spent")
    assert usd == pytest.approx(found["tutelage_cost_usd_total stage=label"], rel=0.01)
    assert 0 < usd / 0.001 < named["run_finished"]["seconds"], "3.60 USD an hour are 0.001 a second"


def test_gpus_and_prices_are_counted_for_all_workers(tmp_path: Path) -> None:
    cluster, said = Cluster(run="one"), io.StringIO()
    with Meter(cluster, Progress(said, "json"), "train", gpus=4, usd_per_hour=7200.0):
        time.sleep(0.05)
    counted = {name: value for name, value, labels in cluster.metrics.waiting if labels == {"stage": "train"}}
    (spent,) = map(json.loads, said.getvalue().splitlines())
    assert counted["tutelage_gpu_seconds_total"] == pytest.approx(spent["gpu_seconds"], abs=0.001)
    assert 0.2 <= spent["gpu_seconds"] == pytest.approx(spent["usd"] * 2, abs=0.001)
    assert counted["tutelage_cost_usd_total"] == pytest.approx(spent["usd"], abs=1e-5)


def test_without_a_price_or_a_gpu_nothing_is_said_to_be_spent() -> None:
    said = io.StringIO()
    with Meter(Cluster(), Progress(said, "json"), "label"):
        pass
    assert said.getvalue() == ""


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("too long: the text has 600 tokens, there is room for 400", "too long"),
        ("engine: CUDA error: a secret sentence", "engine"),
        ("unusable answer: 'a secret sentence'", "unusable answer"),
        ("not asked: teacher.budget is used up", "not asked"),
        ("a secret sentence", "other"),
        ("", "other"),
    ],
)
def test_a_reason_is_one_of_a_few_and_quotes_nothing(failure: str, reason: str) -> None:
    assert reason_of(failure) == reason
    assert reason in (*REASONS, "other")


@pytest.mark.parametrize("given", ["nonsense", "0", "65536", "-1", "8080 "])
def test_a_port_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_METRICS_PORT", given)
    with pytest.raises(UserError, match=f"TUTELAGE_METRICS_PORT: expected a port from 1 to 65535, not '{given}'"):
        Cluster().start()


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


class TestDashboard:
    """Grafana's classic model, in its schema version 39 (Grafana 11)."""

    def test_it_shows_every_metric_that_we_export_and_no_other(self, dashboard: dict[str, Any]) -> None:
        shown = {name for panel in dashboard["panels"] for name in names_in(panel)}
        assert shown == {f"ray_{name}" for name in METRICS}

    def test_it_groups_by_labels_that_the_metrics_have(self, dashboard: dict[str, Any]) -> None:
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                grouped = {
                    label.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in by.split(",")
                }
                named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                for name in names_in({"targets": [target]}):
                    assert named <= grouped <= {"run", *METRICS[name.removeprefix("ray_")].labels}, panel["title"]

    def test_only_counters_have_rates(self, dashboard: dict[str, Any]) -> None:
        rates = set(re.findall(r"rate\(ray_(\w+)", json.dumps(dashboard)))
        assert rates and {METRICS[name].kind for name in rates} == {"counter"}

    def test_every_query_is_of_the_chosen_runs_and_data_source(self, dashboard: dict[str, Any]) -> None:
        assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "run"]
        for panel in dashboard["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}"
            for target in panel["targets"]:
                assert target["expr"].count("ray_tutelage_") == target["expr"].count('{run=~"$run"}') > 0

    def test_it_is_a_dashboard_of_its_schema(self, dashboard: dict[str, Any]) -> None:
        assert (dashboard["schemaVersion"], dashboard["id"], dashboard["uid"]) == (39, None, "tutelage")
        assert {"title", "panels", "templating", "time", "annotations", "refresh"} <= dashboard.keys()
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            assert panel["type"] in {"stat", "bargauge", "timeseries"} and panel["description"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
            taken |= cells


def names_in(panel: dict[str, Any]) -> set[str]:
    return {name for target in panel["targets"] for name in re.findall(r"ray_tutelage_\w+", target["expr"])}


def test_the_documentation_explains_every_metric() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(ray_tutelage_\w+)` \|(.*)$", text, flags=re.MULTILINE))
    assert rows.keys() == {f"ray_{name}" for name in METRICS}
    for name, metric in METRICS.items():
        assert all(f"`{label}`" in rows[f"ray_{name}"] for label in metric.labels), name
