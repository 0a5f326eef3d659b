"""Stops, strange surroundings, lost locks: nothing hangs, nothing ends without a word, nobody is overwritten."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stopping

from runner.cluster import health
from runner.commands.cli import main
from runner.commands.predict_files import JOB, PredictOptions, _check_place, _job, find_student
from runner.observe.events import NAME
from runner.observe.progress import Progress
from runner.rundir import lock
from runner.rundir.folder import Folder
from runner.rundir.lock import LOCK, locked
from runner.system import signals, supervise
from runner.system.errors import BusyError, UserError

ROOT = Path(__file__).parents[2]
PROCESS_FAST = ("--set", "student.export=[]")


def process_python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python that has this package on its path."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )


@pytest.fixture
def process_remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder that is not on this machine, whose locks go stale within a second."""
    monkeypatch.setattr(lock, "STALE_LOCK_SECONDS", 0.8)
    made = Folder(f"memory://{uuid.uuid4().hex}/run")
    yield made
    made.clear()


# 13: predict ---------------------------------------------------------------------------------------------------------


def process_student(root: Path, runtime: str) -> Path:
    """A run folder whose student answers in ``runtime``, as far as looking for it goes."""
    run = Folder(str(root))
    run.write_json("train/t1/student/config.json", {"id2label": {"0": "a", "1": "b"}})
    run.write_json("export/e1/export.json", {"runtime": runtime})
    student = {"max_length": 128, "precision": "auto", "resources": {"cpus": None, "gpus": 0, "accelerator": None}}
    stages = [{"name": "train", "fingerprint": "t1"}, {"name": "export", "fingerprint": "e1"}]
    run.write_json("run.json", {"spec": {"student": student}, "stages": stages})
    return root


def test_13_an_output_belongs_to_the_runtime_that_answered(tmp_path: Path) -> None:
    options = PredictOptions(str(tmp_path / "run"), (str(tmp_path / "in.csv"),), str(tmp_path / "out"))
    process_student(tmp_path / "run", "onnx-int8")
    first = find_student(options)[1]
    assert find_student(options)[1] == first
    parts = Folder(options.out)
    parts.write_json(JOB, _job(first, options))
    parts.write("part-00000-0000000-x.parquet", b"")
    _check_place(parts, _job(first, options), options, None)
    process_student(tmp_path / "run", "torch")
    with pytest.raises(UserError, match="holds the output of a job with other student; remove it"):
        _check_place(parts, _job(find_student(options)[1], options), options, None)


def test_13_a_job_that_never_began_claims_nothing(tmp_path: Path) -> None:
    options = PredictOptions("run", ("a.csv",), str(tmp_path / "out"))
    Folder(options.out).write_json(JOB, _job("one", options))
    _check_place(Folder(options.out), _job("another", options), options, None)


# 16: signals ---------------------------------------------------------------------------------------------------------


AGAIN = """
import os, signal, sys, time
from runner.system import signals

signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # under nohup, or in a shell's background, it is ignored
number, kind = int(sys.argv[1]), {"KeyboardInterrupt": KeyboardInterrupt, "Terminated": signals.Terminated}[sys.argv[2]]
signals.AGAIN_SECONDS = 0.2
swallowed = 0
with signals.listening():
    for _ in range(2):
        try:
            if not swallowed:
                os.kill(os.getpid(), number)
            time.sleep(30)
        except KeyboardInterrupt:
            swallowed += 1
    try:
        time.sleep(30)
    except KeyboardInterrupt as error:
        caught = error
    assert type(caught) is kind
    assert type(signals.left(caught)) is kind
    assert type(signals.left(ValueError("what a library made of it"))) is kind
    os.kill(os.getpid(), number)
    time.sleep(0.3)  # on its way out nothing is raised again
assert swallowed == 2
"""


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated"), (signal.SIGHUP, "Terminated")],
)
def test_16_a_signal_is_raised_again_until_it_has_arrived(number: int, kind: str) -> None:
    """In a process of its own, where the signal is not ignored."""
    command = [sys.executable, "-c", AGAIN, str(int(number)), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SWALLOWED = """
import os, signal, sys, time
from runner.system import signals

class Dying:
    def __init__(self, error=None):
        self.error = error
    def __del__(self):
        if self.error:
            raise self.error
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.2)

signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # as above
signals.AGAIN_SECONDS = 0.5
with signals.listening():
    Dying(ValueError("of somebody else"))
    try:
        Dying()
        time.sleep(30)
    except KeyboardInterrupt as error:
        print(type(signals.left(error)).__name__)
    Dying(ValueError("of somebody else, too"))
Dying(KeyboardInterrupt("when all is over"))
"""


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")])
def test_16_a_signal_that_python_swallows_is_not_printed(number: int, kind: str) -> None:
    """In a finalizer, or in what runs around a fork, nothing can be raised: Python prints it, and goes on."""
    command = [sys.executable, "-c", SWALLOWED, str(int(number))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, f"{kind}\n"), done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith(("ValueError", "KeyboardInterrupt", "runner"))]
    assert told == [
        "ValueError: of somebody else",
        "ValueError: of somebody else, too",
        "KeyboardInterrupt: when all is over",
    ]


def test_16_handlers_of_a_library_do_not_stay() -> None:
    with signals.listening():
        before = signal.getsignal(signal.SIGTERM)
        with signals.kept():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is not before


def test_16_a_signal_that_a_librarys_handler_was_told_of_is_ours_all_the_same() -> None:
    """Ray's leaves by ``sys.exit``, from the first line of ``ray.init`` until ours are back."""
    with signals.listening():
        with pytest.raises(signals.Terminated) as found, signals.kept():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert signals.received() == signal.SIGTERM
        assert signals.left(found.value) is found.value
    with pytest.raises(SystemExit), signals.kept():
        sys.exit(3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_16_what_comes_of_a_signal_on_its_way_is_told_as_the_signal(number: signal.Signals) -> None:
    with signals.listening():
        with pytest.raises(KeyboardInterrupt) as found:
            try:
                os.kill(os.getpid(), number)
                time.sleep(1)
            except KeyboardInterrupt:
                raise KeyboardInterrupt from None  # as Ray does where it waits in C++
        why = signals.left(found.value)
    assert type(why) is (KeyboardInterrupt if number == signal.SIGINT else signals.Terminated)


def test_16_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGHUP, before)


WATCHED = """
import os, signal, subprocess, sys, time
from runner.system import supervise
def work():
    supervise.note(stage="train")
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    print("begun", flush=True)
    {what}
    return 0
def gone(facts, status):
    print("gone", facts["stage"], status, flush=True)
    return 1
supervise.STOP_SECONDS = 1.0
sys.exit(supervise.supervised(work, gone))
"""


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize(
    ("what", "said", "status"),
    [
        ("return 5", "", 5),
        ("os._exit(1)", "gone train 1\n", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", "gone train -9\n", 1),
        (
            "os.kill(os.getppid(), signal.SIGTERM); signal.pthread_sigmask(signal.SIG_BLOCK, {15}); time.sleep(60)",
            "gone train -15\n",
            1,
        ),
    ],
)
def test_16_whatever_becomes_of_the_work_it_is_said_and_nothing_is_left(
    tmp_path: Path, what: str, said: str, status: int
) -> None:
    mark = uuid.uuid4().hex
    done = process_python("-c", WATCHED.replace("{what}", what), cwd=tmp_path, TEST_MARK=mark)
    assert (done.stdout, done.returncode) == ("begun\n" + said, status), done.stderr
    left = [place for place in Path("/proc").glob("[0-9]*/environ") if mark.encode() in process_environment(place)]
    assert not left


def process_environment(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:
        return b""


@pytest.mark.slow("subprocess")
def test_16_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    script = WATCHED.replace("{what}", "time.sleep(60)")
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], env=variables, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        (child,) = [
            pid
            for pid in supervise._children(parent.pid)
            if b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes()[:6]
        ]
        parent.kill()
        end = time.monotonic() + 5
        while Path(f"/proc/{child}").exists() and supervise._children(1) and time.monotonic() < end:
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.05)
        else:
            assert not Path(f"/proc/{child}").exists()


@pytest.mark.signals
def test_16_a_job_that_is_stopped_in_every_stage_ends_as_one_that_never_was(tmp_path: Path) -> None:
    stopping.write_job(tmp_path / "quiet")
    quiet = stopping.run(tmp_path / "quiet", *PROCESS_FAST)
    assert quiet.ended(500) == 0, quiet.said[-3000:]
    folder = tmp_path / "stopped"
    stopping.write_job(folder)
    for place, stage in enumerate(one for one in stopping.STAGES if one != "export"):
        number = (signal.SIGTERM, signal.SIGINT)[place % 2]
        stopping.stop_in(folder, stage, number, 0.5, *PROCESS_FAST, again=0.2 if place > 4 else None)
    last = stopping.run(folder, *PROCESS_FAST)
    assert (last.ended(500), last.said) == (0, "")
    assert stopping.outcome(folder) == stopping.outcome(tmp_path / "quiet")


# 17: what lies around, and a Ray that dies ---------------------------------------------------------------------------


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("name", ["numpy", "json"])
def test_17_a_file_of_the_user_is_no_module_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    for path in (str(ROOT), f":{ROOT}"):  # an empty part of the path is the folder one stands in
        done = process_python("-m", "runner", "report", "none", cwd=tmp_path, PYTHONPATH=path)
        assert (done.returncode, done.stderr.count("no finished run is there")) == (1, 1), done.stderr


@pytest.mark.slow("subprocess")
def test_17_the_path_of_workers_does_not_have_it_either(tmp_path: Path) -> None:
    code = "import runner.system.surroundings as s, sys, os; s.clean_path();"
    code += " print(os.getcwd() in sys.path, s.own_folder(), os.environ['PYTHONPATH'])"
    done = process_python("-c", code, cwd=tmp_path, PYTHONPATH=f":.:{ROOT}:")
    assert done.stdout == f"False [] {ROOT}\n", done.stderr


def test_17_workers_that_die_at_their_start_are_said_with_their_last_line(tmp_path: Path) -> None:
    (tmp_path / "worker-1.err").write_text("Traceback\nImportError: cannot import name 'ndarray'\n\n")
    assert health._last_words(tmp_path).startswith("ImportError: cannot import name 'ndarray' (")
    assert "no word" in health._last_words(tmp_path / "none")


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("what", ["raylet/raylet", "gcs_server"])
def test_17_a_ray_that_dies_is_said(tmp_path: Path, what: str) -> None:
    stopping.write_job(tmp_path)
    (tmp_path / "numpy.py").write_text("raise ImportError('the wrong numpy')\n")  # and nobody reads it
    stopping.ray_dies_in(tmp_path, "train", what, *PROCESS_FAST)


# 18: the user's surroundings -----------------------------------------------------------------------------------------


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_18_letters_that_the_terminal_does_not_know_are_escaped(job: Any, encoding: str) -> None:
    job.csv("na\u00efve\u2013\u6b63.csv", [("Fine.",)], ("text",))
    done = process_python(
        "-m",
        "runner",
        "validate",
        str(job.path),
        "--set",
        "data.train.path=na\u00efve\u2013\u6b63.csv",
        "--set",
        "data.train.text=t\u2013xt",
        cwd=job.root,
        PYTHONIOENCODING=encoding,
    )
    assert done.returncode == 2, done.stderr
    assert "\\u2013" in done.stderr


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_18_a_closed_stream_is_no_bug(job: Any, closed: str) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    command = f'"{sys.executable}" -m runner validate "{job.path}" {number}>&-'
    done = subprocess.run(command, shell=True, cwd=job.root, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == 0


@pytest.mark.slow("subprocess")
def test_18_a_full_disk_behind_the_output_is_no_bug(job: Any) -> None:
    command = f'"{sys.executable}" -m runner validate "{job.path}" > /dev/full'
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=job.root, env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "tutelage: the disk is full; free some space and run again\n")


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("words", ["report none", "validate {spec}"])
def test_18_a_folder_that_is_gone_is_no_bug(job: Any, tmp_path: Path, words: str) -> None:
    command = f'mkdir here && cd here && rmdir ../here && "{sys.executable}" -m runner {words.format(spec=job.path)}'
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("the folder in which you stand is gone")) == (1, 1), done.stderr


class ProcessGone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_18_a_terminal_that_is_gone_ends_no_run() -> None:
    progress = Progress(ProcessGone(), "plain")
    progress.say("one")
    progress.begin("train", 3)
    progress.at(3)
    assert progress.mode == "quiet"


def test_18_a_lock_that_goes_while_it_is_looked_at(process_remote: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "exists", lambda self, name: True)  # as it was a moment ago
    with locked(process_remote):
        pass
    with locked(process_remote):
        pass


def test_18_half_a_lock_is_waited_for(process_remote: Folder) -> None:
    process_remote.write(LOCK, b'{"id": ')
    said: list[str] = []
    with locked(process_remote, said.append):
        pass
    assert "is locked by somebody" in said[0]


# 20: two runs in one folder ------------------------------------------------------------------------------------------


def test_20_who_lost_the_folder_is_stopped_and_leaves_the_others_lock_alone(process_remote: Folder) -> None:
    other = {"id": "x", "owner": "process 2 on there", "beat": 0.0}
    lost = pytest.raises(BusyError, match=r"another took the folder over \(process 2 on there\)")
    with signals.listening(), lost, locked(process_remote):
        process_remote.write_json(LOCK, other)
        time.sleep(30)
    assert process_remote.read_json(LOCK) == other


def test_20_who_cannot_be_stopped_is_told_at_the_end(process_remote: Folder) -> None:
    other = {"id": "x", "owner": "process 2 on there", "beat": 0.0}
    with pytest.raises(BusyError, match="another took the folder over"), locked(process_remote):
        process_remote.write_json(LOCK, other)
        time.sleep(0.6)
    assert process_remote.read_json(LOCK) == other


def test_20_what_a_watched_run_leaves_locked_is_let_go_by_its_id(process_remote: Folder) -> None:
    process_remote.write_json(LOCK, {"id": "mine", "owner": "me"})
    lock.let_go(process_remote, "another")
    assert process_remote.exists(LOCK)
    lock.let_go(process_remote, "mine")
    assert not process_remote.exists(LOCK)
    lock.let_go(process_remote, "mine")


# 24: addresses, lines and rows ---------------------------------------------------------------------------------------


def test_24_a_stale_ray_address_is_named(job: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for more in ([], ["--address", "auto"]):
        begun = time.monotonic()
        assert main(["run", str(job.path), "--runs-dir", str(job.runs_dir), *more]) == 1
        assert time.monotonic() - begun < 20
        assert "`unset RAY_ADDRESS`, which holds this address" in capsys.readouterr().err
    assert main(["run", str(job.path), "--runs-dir", str(job.runs_dir), "--address", "127.0.0.1:1"]) == 1
    assert "or leave --address out" in capsys.readouterr().err


def test_24_lines_of_two_threads_are_whole(tmp_path: Path) -> None:
    said = io.StringIO()
    progress = Progress(said, "json")
    with progress.recorded(Folder(str(tmp_path)), "run"):
        progress.begin("train", 4000)
        threads = [
            threading.Thread(target=lambda: [progress.say("x" * 50) or progress.add() for _ in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert progress.share == 1.0
    for text in (said.getvalue(), (tmp_path / NAME).read_text()):
        assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


@pytest.mark.slow("subprocess")
def test_24_a_lost_row_is_an_error_without_asserts_too(job: Any) -> None:
    code = (
        "import sys\nfrom runner.spec import load_spec\nfrom runner.data import splits\n"
        "read = splits.read_split\n"
        "def lossy(*given):\n    split = read(*given)\n    split.rows.popitem()\n    return split\n"
        "splits.read_split = lossy\n"
        "try:\n    splits.read_splits(load_spec(sys.argv[1]))\nexcept RuntimeError as error:\n    print(error)\n"
    )
    done = process_python("-O", "-c", code, str(job.path), cwd=job.root)
    assert done.stdout == "a row of data.train was lost\n", done.stderr


# What the command is started in --------------------------------------------------------------------------------------


def in_bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a command that is supervised, in ``work``."""
    code = "import sys; from runner.system import supervise;"
    code += " sys.exit(supervise.supervised(lambda: print('said') or 0, print))"
    (folder / "work.py").write_text(code)
    work = f'"{sys.executable}" work.py'
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", script.replace("WORK", work)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow("subprocess")
def test_16_what_the_shell_has_started_is_not_ended(tmp_path: Path) -> None:
    done = in_bash("exec WORK > >(sleep 1; cat > out.txt; touch over)", tmp_path)
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 10
    while not (tmp_path / "over").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "out.txt").read_text() == "said\n"


@pytest.mark.slow("subprocess")
def test_16_children_that_are_ignored_are_waited_for(tmp_path: Path) -> None:
    done = in_bash("trap '' CHLD; exec WORK", tmp_path)
    assert (done.returncode, done.stdout) == (0, "said\n"), done.stderr


@pytest.mark.slow("subprocess")
def test_16_a_stop_that_the_child_alone_was_told_of_is_no_kill(tmp_path: Path) -> None:
    """It notes the signal; letting go of Ray may take too long after that."""
    code = """
import signal, sys, time
from runner.system import supervise
def work():
    supervise.note(free=True, error="", stop=int(signal.SIGTERM))
    time.sleep(30)
sys.exit(supervise.supervised(work, lambda facts, status: print(status) or 0))
"""
    done = process_python("-c", code, cwd=tmp_path)
    assert done.stdout == f"{-int(signal.SIGTERM)}\n", done.stderr
