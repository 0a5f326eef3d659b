"""events.jsonl: every run adds to it, kills and full disks tear nothing that matters, and it quotes no text."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.commands.cli import main
from runner.observe import events
from runner.observe.events import EVENTS, NAME, EventLog, read_events
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
from runner.stages import pipeline
from runner.system.errors import DataError, UserError

ROOT = Path(__file__).parents[2]
SECRET = "Zanzibar Holding was bought in secret."


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A run folder on this machine, and one in a store that cannot append."""
    made = Folder(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")
    if made.local is not None:
        made.local.mkdir()
    yield made
    made.clear()


def quiet() -> Progress:
    return Progress(io.StringIO(), "quiet")


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["event"] for one in found]


def walk(job: Any, progress: Progress, last: str = "vote") -> None:
    """The first stages of a recorded job, as `run` does them."""
    with progress.recorded(job.run, "run"):
        for step in pipeline.steps(job.spec(), job.run):
            context = job.context(step.stage.NAME)
            pipeline.run_step(step, pipeline.Context(**{**vars(context), "progress": progress}))
            if last == step.stage.NAME:
                return


def test_a_run_tells_its_stages_in_order_with_all_fields(job: Any) -> None:
    job.run.local.mkdir(parents=True)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    walk(job, quiet())
    found = read_events(job.run)
    stages = [name for name in ("load", "label", "vote") for _ in range(2)]
    assert names(found) == ["run_started", *["stage_started", "stage_done"] * 3, "run_finished"]
    assert [one["stage"] for one in found] == [None, *stages, None]
    for one in found:
        assert list(one) == ["time", "event", "stage", *(key for key in one if key in EVENTS[one["event"]])]
        assert one.keys() == {"time", "event", "stage", *EVENTS[one["event"]]}
    times = [datetime.fromisoformat(one["time"]) for one in found]
    assert before <= times[0] and times == sorted(times) and times[-1] <= datetime.now(UTC)
    assert all(one["time"].endswith("+00:00") for one in found)
    assert (found[0]["run"], found[0]["command"], found[0]["attempt"]) == ("small", "run", 1)
    done = {one["stage"]: one for one in found if one["event"] == "stage_done"}
    assert (done["load"]["numbers"]["train"], done["label"]["numbers"]["rows"]) == (4, 7)
    steps = {step.stage.NAME: step for step in pipeline.steps(job.spec(), job.run)}
    for name, one in done.items():
        marker = steps[name].folder.done
        assert (one["fingerprint"], one["seconds"]) == (marker["fingerprint"], marker["seconds"])


def test_standard_output_has_the_same_lines_and_words_besides(job: Any) -> None:
    job.run.local.mkdir(parents=True)
    said = io.StringIO()
    walk(job, Progress(said, "json"))
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    for line in lines:
        line.pop("text", None)
    assert [line for line in lines if line["event"] != "message"] == read_events(job.run)


def test_people_read_what_they_always_read(job: Any) -> None:
    job.run.local.mkdir(parents=True)
    said = io.StringIO()
    walk(job, Progress(said, "plain"))
    lines = [re.sub(r"\d+:\d\d", "0:00", line) for line in said.getvalue().splitlines()]
    assert lines == ["load: done in 0:00", "label: done in 0:00", "vote: done in 0:00"]


def test_another_run_adds_and_is_numbered(folder: Folder) -> None:
    for command in ("plan --probe", "run", "run"):
        with quiet().recorded(folder, command):
            pass
    found = read_events(folder)
    assert names(found) == ["run_started", "run_finished"] * 3
    assert [one["attempt"] for one in found[::2]] == [1, 2, 3]
    assert [one["command"] for one in found[::2]] == ["plan --probe", "run", "run"]


def test_a_run_that_fails_says_where_and_what_kind_of_error(folder: Folder) -> None:
    with pytest.raises(DataError), quiet().recorded(folder, "run"):
        raise DataError("data.csv-broken", f"train.csv:3: {SECRET!r} is broken")
    last = read_events(folder)[-1]
    assert (last["event"], last["error"], last["code"]) == ("run_failed", "DataError", "data.csv-broken")
    assert SECRET not in json.dumps(read_events(folder))


def test_a_stage_that_fails_is_told_before_the_run(job: Any) -> None:
    job.run.local.mkdir(parents=True)
    job.csv("test.csv", [(SECRET, "positive", "", "", "")] * 2)
    with pytest.raises(DataError, match="all 1 rows have the one label"):
        walk(job, quiet())
    found = read_events(job.run)
    assert names(found) == ["run_started", "stage_started", "stage_failed", "run_failed"]
    assert (found[2]["stage"], found[2]["error"], found[2]["code"]) == ("load", "DataError", "data.one-class")


def test_no_text_of_the_data_and_no_variable_gets_there(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning quotes a row to people; the events have its number, and the words lie in the stage's marker."""
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    job.run.local.mkdir(parents=True)
    job.csv("test.csv", [(SECRET, "neutral", *["neutral"] * 3), ("A loss.", "negative", *["negative"] * 3)])
    job.csv("train.csv", [("Orders grew.", "", *["positive"] * 3), (f"{SECRET} Again.", "", *["negative"] * 3)])
    said = io.StringIO()
    walk(job, Progress(said, "json"))
    kept = (job.run.local / NAME).read_text(encoding="utf-8")
    assert SECRET in said.getvalue(), "people are told"
    assert "Zanzibar" not in kept and "canary" not in kept
    warned = [one for one in read_events(job.run) if one["event"] == "warning" and one["stage"] == "vote"]
    assert [one["number"] for one in warned] == [1]
    vote = next(step for step in pipeline.steps(job.spec(), job.run) if step.stage.NAME == "vote")
    assert SECRET in vote.folder.done["summary"]["warnings"][warned[0]["number"] - 1]


ENDLESS = """
import io, sys
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
progress = Progress(io.StringIO(), "quiet")
with progress.recorded(Folder(sys.argv[1]), "run"):
    print("begun", flush=True)
    while True:
        progress.tell("training_resumed", "train", done=1, total=10**300)
"""


@pytest.mark.slow("subprocess")
def test_a_kill_cuts_off_one_line_at_most_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """File systems copy a write page by page, and a kill stops between two pages: so a line may be cut off."""
    folder = Folder(str(tmp_path))
    for _ in range(3):
        running = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None and running.stdout.readline() == "begun\n"
        time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=30)
    lines = (tmp_path / NAME).read_bytes().splitlines()
    kept = read_events(folder)
    assert len(lines) - 3 <= len(kept) <= len(lines)
    assert [event["attempt"] for event in kept if event["event"] == "run_started"] == [1, 2, 3]
    assert "run_finished" not in names(kept) and len(kept) > 300


def test_a_line_that_was_cut_off_is_ignored_and_spoils_no_other(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with quiet().recorded(folder, "run"):
        pass
    with open(tmp_path / NAME, "ab") as handle:
        handle.write(b'{"time": "2026-01-01T00:00:00.000+00:00", "event": "run_st')
    assert names(read_events(folder)) == ["run_started", "run_finished"]
    with quiet().recorded(folder, "run"):
        pass
    assert names(read_events(folder)) == ["run_started", "run_finished"] * 2
    assert [one["attempt"] for one in read_events(folder)[::2]] == [1, 2]


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\n", b"[1, 2]\n", b"null\n", b"\n\n", b"x" * 10_000 + b"\n"])
def test_rubbish_in_the_file_breaks_no_reader(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / NAME).write_bytes(rubbish)
    with quiet().recorded(Folder(str(tmp_path)), "run"):
        pass
    assert names(read_events(Folder(str(tmp_path)))) == ["run_started", "run_finished"]


FULL = """
import io, resource, sys
from pathlib import Path
from runner.observe.progress import Progress
from runner.rundir.folder import Folder
endless = resource.RLIM_INFINITY
for room in map(int, sys.argv[2:]):
    run, progress = Path(sys.argv[1]) / str(room), Progress(io.StringIO(), "quiet")
    run.mkdir()
    with progress.recorded(Folder(str(run)), "run"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, endless))
        for done in range(20):
            progress.tell("training_resumed", "train", done=done, total=20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (endless, endless))
"""


@pytest.mark.slow("subprocess")
def test_a_disk_that_is_full_ends_no_run_and_tears_one_line_at_most(tmp_path: Path) -> None:
    """The write that meets the end is cut off wherever that is; what comes when there is room again is whole."""
    rooms = range(700, 830)
    command = [sys.executable, "-c", FULL, str(tmp_path), *map(str, rooms)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for room in rooms:
        found = read_events(Folder(str(tmp_path / str(room))))
        steps = [one["done"] for one in found if one["event"] == "training_resumed"]
        assert 0 < len(steps) < 20 and steps == list(range(len(steps)))
        assert names(found)[-1] == "run_finished"


def test_progress_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, progress = Folder(str(tmp_path)), quiet()
    with progress.recorded(folder, "run"):
        progress.begin("label", 100_000)
        for _ in range(100_000):
            progress.add()
    assert "progress" not in names(read_events(folder)), "it took no ten seconds"
    monkeypatch.setattr("runner.observe.progress.PROGRESS_SECONDS", 0.05)
    with progress.recorded(folder, "run"):
        progress.begin("apply", None, "texts")
        start = time.monotonic()
        while time.monotonic() < start + 0.5:
            progress.add(3)
    lines = [one for one in read_events(folder) if one["event"] == "progress"]
    assert 2 <= len(lines) <= (time.monotonic() - start) / 0.05
    assert {(one["stage"], one["unit"], one["total"], one["seconds_left"]) for one in lines} == {
        ("apply", "texts", None, None)
    }
    done = [one["done"] for one in lines]
    assert done == sorted(done) and all(count % 3 == 0 for count in done)


class TestObjectStore:
    @pytest.fixture
    def store(self) -> Iterator[Folder]:
        made = Folder(f"memory://{uuid.uuid4().hex}/run")
        yield made
        made.clear()

    def test_each_run_has_an_object_of_its_own(self, store: Folder) -> None:
        for _ in range(2):
            with quiet().recorded(store, "run"):
                pass
        assert store.names(".jsonl") == ["events-00001.jsonl", "events-00002.jsonl"]

    def test_it_is_written_now_and_then_and_whole_at_the_end(
        self, store: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        puts: list[int] = []
        write = Folder.write

        def counted(self: Folder, name: str, data: bytes) -> None:
            puts.append(data.count(b"\n"))
            write(self, name, data)

        monkeypatch.setattr(Folder, "write", counted)
        monkeypatch.setattr(events, "UPLOAD_SECONDS", 0.05)
        monkeypatch.setattr(events, "UPLOAD_BYTES_PER_SECOND", 1e9)
        progress, start = quiet(), time.monotonic()
        with progress.recorded(store, "run"):
            for done in range(2_000):
                progress.tell("training_resumed", "train", done=done, total=2_000)
            time.sleep(0.2)
            before = names(read_events(store))
            time.sleep(0.2)
        assert "training_resumed" in before, "it can be followed"
        assert len(puts) <= (time.monotonic() - start) / 0.05 + 1 and puts == sorted(set(puts))
        assert names(read_events(store)) == ["run_started", *["training_resumed"] * 2_000, "run_finished"]

    def test_a_large_one_is_written_less_often(self, store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "UPLOAD_SECONDS", 0.01)
        monkeypatch.setattr(events, "UPLOAD_BYTES_PER_SECOND", 1)
        log = EventLog(store)
        time.sleep(0.05)
        log.write({"event": "x" * 60})
        time.sleep(0.2)
        first = store.names(".jsonl")
        log.write({"event": "y"})
        time.sleep(0.2)
        assert first and names(read_events(store)) == ["x" * 60]
        log.close()
        assert names(read_events(store)) == ["x" * 60, "y"]

    def test_a_store_that_fails_ends_no_run(self, store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Folder, name: str, data: bytes) -> None:
            raise PermissionError("no")

        monkeypatch.setattr(Folder, "write", refuse)
        with quiet().recorded(store, "run"):
            pass
        assert read_events(store) == []


def test_something_else_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match=r"events.jsonl: events cannot be kept there .Is a directory.; move it away"):
        EventLog(Folder(str(tmp_path)))


def test_the_command_line_keeps_them_and_a_second_run_keeps_its_stages(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that ends where GPUs are asked for that nobody has, so that no Ray starts."""
    command = ["run", str(job.path), "--runs-dir", str(job.runs_dir), "--json"]
    command += ["--set", "student.resources.gpus=1", "--set", "student.resources.workers=16"]

    def lines() -> list[dict[str, Any]]:
        assert main(command) == 1
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    first, second = lines(), lines()
    done = [line["stage"] for line in first if line["event"] == "stage_done"]
    kept = [line["stage"] for line in second if line["event"] == "stage_kept"]
    assert done == kept and kept
    found = read_events(job.run)
    assert [one["attempt"] for one in found if one["event"] == "run_started"] == [1, 2]
    assert found[-1]["event"] == "run_failed" and found[-1]["code"] == "cluster.machine-too-small"
    assert found[-1] == second[-1]


def test_the_documentation_names_every_event_and_field() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text, flags=re.MULTILINE))
    for name, fields in EVENTS.items():
        assert name in rows, name
        assert {field for field in fields if f"`{field}`" not in rows[name]} == set(), name
