"""What is spent, and on whom: prices, budgets, servers, and what a run folder may do."""

from __future__ import annotations

import json
import math
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner import models
from runner.cluster.cluster import Cluster
from runner.economics.arithmetic import OneOff, work_out
from runner.observe.progress import Progress, clock
from runner.planning.memory import teacher_memory
from runner.planning.plan import make_plan
from runner.planning.text import plan_text
from runner.rundir.folder import Folder
from runner.spec.prices import SHIPPED, load_prices
from runner.stages import benchmark, label, pipeline
from runner.student.load import load_tokenizer
from runner.system.errors import ModelError, UserError
from runner.teacher import answer_store, budget_share, content_free
from runner.teacher import summary as summary_module
from runner.teacher.batch import ANSWERS
from runner.teacher.budget import Spending, Spent, seconds_left, spent
from runner.teacher.engines.endpoint import EndpointEngine
from runner.teacher.engines.hosts import check_host
from runner.teacher.generate import generate


def test_02_no_price_gives_no_money(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live = ("teacher.engine=vllm", "teacher.model=org/teacher", "teacher.columns=[]")
    job.do("load", *live)
    context = job.context("benchmark", job.spec(*live))
    for name, seconds in (("label", 1800.0), ("train", 7200.0)):
        summary = {"rows": 7, "seconds": 900.0, "prompt_tokens": None, "rows_per_second": 2.0}
        context.inputs[name].finish({"stage": name, "seconds": seconds, "summary": summary})
    monkeypatch.setattr(context.cluster, "call", lambda *_, **__: {"hardware": {"cores": 1}, "texts_per_second": 100.0})
    assert benchmark.run(context) == {"texts_per_second": 100.0, "usd_per_million": None}
    found = context.here.read_json("benchmark.json")
    for who in ("student", "teacher"):
        assert (found[who]["price_per_hour"], found[who]["usd_per_million"], found[f"{who}_usd"]) == (None, None, None)
    assert found["economics"]["one_off"] == {
        "labelling_usd": None,
        "training_usd": None,
        "review_usd": 0.0,
        "usd": None,
        "complete": False,
    }
    assert {(row["outcome"], row["break_even_texts"]) for row in found["economics"]["rows"]} == {("unknown", None)}
    assert (make_plan(job.spec(), job.run).student)["usd"] is None


def test_02_what_is_known_without_the_students_price_pays_nowhere() -> None:
    found = work_out(OneOff(12.5, None, 0.0), None, 4.0, [], load_prices(SHIPPED).apis)
    assert (found["one_off"]["usd"], found["one_off"]["complete"]) == (12.5, False)
    assert {row["outcome"] for row in found["rows"]} == {"unknown"}


LIVE = ("teacher.engine=vllm", "teacher.model=org/teacher", "teacher.columns=[]")


def test_19_one_budget_for_all_teachers_in_all_commands(job: Any) -> None:
    """What is left is shared by those who still have something to be asked, and what was spent counts whoever did."""
    also = "teacher.also=[{model: org/other}, {model: org/third}]"
    spec = job.spec(*LIVE, also, "teacher.budget.hours=1")
    job.do("load", *LIVE, also, "teacher.budget.hours=1")
    context = job.context("label", spec)
    rows = label.loaded_rows(context.inputs["load"])
    stores = [answer_store.answers_folder(job.run, one) for one in spec.teachers()]
    assert len(set(stores)) == 3

    def share(number: int) -> float:
        return budget_share.seconds_for(context, rows, spec, number)

    assert share(0) == 1200
    stores[0].write_json("spent.json", {"seconds": 600.0, "replica_seconds": 600.0})
    assert [share(0), share(1), share(2)] == [1000, 1500, 3000]
    stores[1].write_json("spent.json", {"seconds": 3000.5, "replica_seconds": 3000.5})
    assert share(2) == 0
    third, asked = replace(context, spec=spec.teachers()[2]), waiting(context, spec, 2)
    assert generate(third, asked, stores[2], 0.0, 1)[0], "each row has its reason"
    assert not context.cluster.started, "an engine that may ask nothing is not started"
    plan = make_plan(spec, job.run)
    assert plan.teacher["budget"] == {"hours": 1.0, "left_hours": 0.0}
    assert "budget     labelling stops after 1:00:00 of all teachers together, of which 0:00 are left" in plan_text(
        plan
    )
    assert seconds_left(job.spec(*LIVE, "teacher.budget.hours=2").teacher, spent(stores)) == pytest.approx(3599.5)


def waiting(context: Any, spec: Any, number: int) -> pa.Table:
    asked = label.loaded_rows(context.inputs["load"])
    return answer_store.pending(spec.teachers()[number], asked, answer_store.read_answers(Folder("/nowhere")))


def test_19_usd_are_of_all_replicas_and_the_dearer_limit_counts(job: Any) -> None:
    money = ("teacher.price_per_hour=4", "teacher.resources.replicas=[1, 3]", "teacher.budget.usd=12")
    teacher = job.spec(*LIVE, *money).teacher
    assert seconds_left(teacher, Spent()) == 3600
    assert seconds_left(teacher, Spent(seconds=900, replica_seconds=2700)) == 2700
    both = job.spec(*LIVE, *money, "teacher.budget.hours=0.5").teacher
    assert seconds_left(both, Spent(seconds=900, replica_seconds=2700)) == 900
    assert seconds_left(job.spec(*LIVE).teacher, Spent(1e9, 1e9)) == math.inf


def test_19_what_is_spent_is_written_down_and_workers_are_told_without_a_clock(tmp_path: Path) -> None:
    store = Folder(str(tmp_path))
    store.write("old.over", b"")
    with pytest.raises(KeyboardInterrupt), Spending(store, 3, 0.3) as spending:
        assert not store.names(".over"), "what a killed run left is gone"
        end = time.monotonic() + 10
        while not store.exists(spending.over) and time.monotonic() < end:
            time.sleep(0.01)
        assert store.exists(spending.over)
        raise KeyboardInterrupt
    took = spent([store, store])
    assert 0.3 <= took.seconds < 10 and took.replica_seconds == pytest.approx(3 * took.seconds)
    assert not store.names(".over")
    with Spending(store, 1, math.inf):
        pass
    assert spent([store]).seconds >= took.seconds


def test_19_the_plan_divides_by_the_replicas_at_work_and_says_how_many(job: Any) -> None:
    job.csv("train.csv", [(f"Sentence {i} is here.", "", *["neutral"] * 3) for i in range(400)])

    def teacher(*more: str) -> dict[str, Any]:
        return make_plan(job.spec(*LIVE, "teacher.price_per_hour=2", *more), job.run).teacher

    one, four = teacher("teacher.batch_size=16"), teacher("teacher.batch_size=16", "teacher.resources.replicas=4")
    assert four["hours"] == pytest.approx(one["hours"] / 4)
    assert (four["usd"], four["kwh"]) == pytest.approx((one["usd"], one["kwh"]))
    few = teacher("teacher.batch_size=256", "teacher.resources.replicas=4")  # two batches, so two have nothing to do
    assert few["hours"] == pytest.approx(one["hours"] / 2) and few["usd"] == pytest.approx(2 * one["usd"])
    some = make_plan(job.spec(*LIVE, "teacher.batch_size=16", "teacher.resources.replicas=[2, 4]"), job.run)
    assert some.teacher["hours"] == pytest.approx(one["hours"] / 2)
    times = [clock(one["hours"] * 3600 / replicas) for replicas in (2, 4)]
    assert "about {} with 2 replicas at work, {} with 4 (rough".format(*times) in plan_text(some)


def test_19_labelled_in_is_time_by_the_clock_and_cost_is_that_of_all_replicas(job: Any) -> None:
    spec = job.spec(*LIVE, "teacher.resources.replicas=4", "teacher.price_per_hour=9")
    job.do("load", *LIVE)
    context = job.context("label", spec)
    rows = label.loaded_rows(context.inputs["load"])
    asked = pa.concat_tables([rows, content_free.content_free_rows(context, rows)])
    answers = [
        {"id": row["id"], "kind": row["kind"], "vote": 0, "attempt": 0, "label_probabilities": [0.2, 0.3, 0.5]}
        | {"seconds": 30.0, "prompt_tokens": 1, "output_tokens": 1}
        for row in asked.to_pylist()
    ]
    table = pa.Table.from_pylist(answers, schema=ANSWERS)
    store, busy = answer_store.answers_folder(job.run, spec), 30.0 * len(asked)
    store.write_table("a.parquet", table)
    assert summary_module.elapsed_seconds(store, table, table) is None, "nobody wrote down how long it took"
    store.write_json("spent.json", {"seconds": busy / 4 + 50, "replica_seconds": busy + 200})
    found = label._label(context, rows, [], spec, 0)
    assert (found["seconds"], found["elapsed"]) == (30.0 * len(rows), pytest.approx(busy / 4 + 50))
    half = table.slice(0, len(table) // 2)
    assert summary_module.elapsed_seconds(store, half, table) == pytest.approx((busy / 4 + 50) * len(half) / len(table))
    bench = job.context("benchmark", spec)
    bench.inputs["label"].finish({"seconds": 1.0, "summary": found})
    bench.inputs["train"].finish({"seconds": 1.0, "summary": {}})
    cost = benchmark._economics(bench, None, None, 9.0)["one_off"]["labelling_usd"]
    assert cost == pytest.approx(9 / 3600 * max(found["seconds"], 4 * found["elapsed"]))


@pytest.mark.slow("ray")
def test_19_a_probe_draws_on_the_budget_that_the_run_then_has(job: Any) -> None:
    """With a real pool of workers: what is asked at all stays within one budget, however often it is asked."""
    job.csv("train.csv", [(f"Sales of unit {n} rose by {n % 97} %.", "", "", "", "") for n in range(3000)])
    changes = ["teacher.engine=noop", "teacher.columns=[]", "teacher.batch_size=16"]
    changes += ["teacher.engine_options={seconds: 0.02}", "teacher.budget.hours=0.0008"]  # 2.88 seconds
    spec = job.spec(*changes)
    store, found = answer_store.answers_folder(job.run, spec), []
    cluster = Cluster()
    try:
        for _ in range(2):
            progress = Progress(job.said, "json")
            label.probe(pipeline.run_up_to(label.NAME, spec, job.run, cluster, progress), 10_000)
            found.append((len(answer_store.read_answers(store)), spent([store]).seconds))
    finally:
        cluster.stop()
    assert 0 < found[0][0] < 3000 and found[0][1] >= 2.88
    assert found[1] == found[0], "nothing was left, so nothing was asked"
    assert job.said.getvalue().count('"budget_used_up"') == 2
    assert not store.names(".over")


NEVER = [
    "http://169.254.169.254/v1",
    "http://169.254.1.1:8000/v1",
    "http://2852039166/v1",
    "http://0xa9fea9fe/v1",
    "http://0251.0376.0251.0376/v1",
    "http://169.254.43518/v1",
    "http://169.254.169.254./v1",
    "http://[::ffff:169.254.169.254]/v1",
    "http://[::169.254.169.254]/v1",
    "http://[64:ff9b::a9fe:a9fe]/v1",
    "http://[64:ff9b:1::a9fe:a9fe]/v1",
    "http://[::ffff:0:169.254.169.254]/v1",
    "http://[2002:a9fe:a9fe::1]/v1",
    "http://[fe80::1]/v1",
    "http://[fe80::1%25eth0]/v1",
    "http://[fd00:ec2::254]/v1",
    "http://[fd20:ce::254]/v1",
    "http://100.100.100.200/v1",
    "http://metadata.google.internal/v1",
    "http://METADATA.google.internal./v1",
    "http://metadata/v1",
]


@pytest.mark.parametrize("allow_external", [False, True])
@pytest.mark.parametrize("url", NEVER)
def test_23_link_local_and_metadata_addresses_are_never_asked(url: str, allow_external: bool) -> None:
    with pytest.raises(UserError, match=r"link-local address or a cloud's metadata service"):
        check_host(url, allow_external)
    with pytest.raises(UserError, match=r"link-local address or a cloud's metadata service"):
        EndpointEngine(url, None, Letters(), 1, retries=0, allow_external=allow_external)


@pytest.mark.parametrize(
    ("address", "allowed"), [("10.0.0.7", {False, True}), ("8.8.8.8", {True}), ("169.254.169.254", set())]
)
@pytest.mark.parametrize("host", ["llm.corp.internal", "gpu.local", "llm", "llm.example.com"])
def test_23_a_name_is_what_it_resolves_to(
    host: str, address: str, allowed: set[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 0))])
    for allow_external in (False, True):
        with nullcontext() if allow_external in allowed else pytest.raises(UserError):
            check_host(f"http://{host}/v1", allow_external)


class Letters:
    """A tokenizer whose tokens are characters."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(map(ord, text))}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


@pytest.fixture
def budget_server() -> Iterator[tuple[int, list[str]]]:
    """A small server on this machine: its port, and the Host of each request."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.headers["Host"])
            self.answer({"data": [{"id": "small", "max_model_len": 64}]})

        def do_POST(self) -> None:
            asked.append(self.headers["Host"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer({"choices": [{"text": "".join(map(chr, body["prompt"])) + "."}]})

        def answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


def test_23_each_connection_goes_to_the_address_that_was_judged(
    budget_server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is another machine's when it is looked up again, as in DNS rebinding."""
    port, asked = budget_server
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def lookup(host: str, *more: Any, **options: Any) -> Any:
        if host != "llm.corp.internal":
            return real(host, *more, **options)
        looked_up.append(host)
        # The first look-up judges the connection, which is kept; a second one would lead elsewhere.
        address = "127.0.0.1" if len(looked_up) == 1 else "10.255.255.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    engine = EndpointEngine(f"http://llm.corp.internal:{port}/v1", None, Letters(), 1, retries=0)
    assert engine.model == "small"
    assert asked == [f"llm.corp.internal:{port}"] * len(asked), "the request is about the name"
    engine.close()


def test_23_a_name_that_moves_to_a_metadata_address_is_not_asked(
    budget_server: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged before the run is judged again in the worker, when it connects."""
    port, asked = budget_server
    places = iter(["127.0.0.1", "169.254.169.254"])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (next(places), 0))])
    url = f"http://llm.corp.internal:{port}/v1"
    check_host(url, allow_external=False)
    with pytest.raises(UserError, match="metadata service"):
        EndpointEngine(url, None, Letters(), 1, retries=0)
    assert not asked


def test_23_a_servers_teacher_needs_its_tokenizer_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the Hub's cache and as a folder, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repo = tmp_path / "models--org--served"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, snapshot / name)
    with pytest.raises(ModelError, match=r"the model org/served is not in the Hub's local cache"):
        models.ensure("org/served")
    assert models.ensure("org/served", weights=False) == snapshot
    assert models.describe("org/served", weights=False).present and not models.describe("org/served").present
    assert load_tokenizer(snapshot)("Sales rose.")["input_ids"]
    folder = str(snapshot)
    assert models.ensure(folder, weights=False) == snapshot
    assert models.provenance(folder, weights=False)["identity"].startswith("folder:sha256:")
    with pytest.raises(ModelError, match="is not a Hugging Face model folder"):
        models.identity(folder)
    with pytest.raises(ModelError, match=r"the tokenizer of org/absent is not in .* no weights are needed"):
        models.ensure("org/absent", weights=False)
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="the tokenizer of org/served"):
        models.ensure("org/served", weights=False)


def test_23_a_plan_does_not_ask_this_machine_for_a_servers_memory(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(models.describe("mistralai/Mixtral-8x7B-Instruct-v0.1"), weight_bytes=10**13)
    monkeypatch.setattr(models, "describe", lambda *_, **__: facts)
    spec = job.spec(*LIVE, "teacher.endpoint=http://127.0.0.1:8000/v1")
    assert teacher_memory(spec, facts) == ({"arithmetic": "the server's own"}, [])
    assert teacher_memory(job.spec(*LIVE), facts)[1]
