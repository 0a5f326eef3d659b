"""The command line: exit statuses, what goes to which stream, and what is not imported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.commands import cli, doctor
from runner.commands.cli import main
from runner.commands.group import SECTIONS, Work
from runner.system.errors import DataError

COMMANDS = (
    "init",
    "validate",
    "try",
    "plan",
    "run",
    "review",
    "submit",
    "status",
    "logs",
    "stop",
    "predict",
    "render",
    "report",
    "push",
    "models",
    "doctor",
)
HEAVY = ("ray", "torch", "vllm", "transformers", "sklearn", "datasets")


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs of bugs go, so that tests leave none behind."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    found = re.search(r"^ *example: tutelage (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert found
    words = found[1].split()
    assert words[0] == command
    assert isinstance(cli.app.main(words, standalone_mode=False), Work)


def test_every_command_is_known_to_these_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert sorted(re.findall(r"^  (\w+)  ", shown, re.MULTILINE)) == sorted(COMMANDS)
    assert re.findall(r"^(\S.*):$", shown, re.MULTILINE) == ["Options", *SECTIONS], "in sections"
    assert "..." not in shown.replace("[ARGS]...", ""), "each is said in one sentence"


@pytest.mark.parametrize("words", [[], ["labell"], ["plan"], ["run", "s.yaml", "--epochs", "3"], ["init", "a", "b"]])
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Usage: tutelage" in capsys.readouterr().err


def test_a_mistyped_command_or_option_is_told_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu", "spec.yaml"]) == 2
    assert "there is no command 'rnu' (did you mean 'run'?)" in capsys.readouterr().err
    assert main(["run", "spec.yaml", "--quite"]) == 2
    assert "--quiet" in capsys.readouterr().err
    assert main(["plan", "spec.yaml", "--probe=-3"]) == 2
    assert "Invalid value for '--probe': expected a value, got '-3'" in capsys.readouterr().err
    assert main(["plan", "spec.yaml", "--probe", "0"]) == 2
    assert "expected an integer from 1 to 100000, got '0'" in capsys.readouterr().err
    assert main(["predict", "m", "x.csv", "-o", "\x1b[31mred", "--gpus", "\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err, "nothing that was typed speaks to the terminal"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "s.yaml", "--runs-dir", "--json"],
        ["run", "--runs-dir", "--set=a=b", "s.yaml"],
        ["render", "s.yaml", "-o", "--online"],
        ["predict", "m", "a.csv", "-o", "--"],
        ["push", "runs/a", "--to", "--no-private"],
    ],
)
def test_an_option_is_never_the_value_of_another(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "expected a value, got '-" in capsys.readouterr().err


def test_values_may_look_like_options_and_stand_in_any_form() -> None:
    work = cli.app.main(["predict", "m", "--delimiter", "-", "-o=x.csv", "--", "-a.csv"], standalone_mode=False)
    options = work.do.args[0]
    assert (options["delimiter"], options["out"], options["inputs"]) == ("-", "x.csv", ("-a.csv",))
    work = cli.app.main(["run", "--set", "a=b", "s.yaml", "--set=c=--quiet", "--quiet"], standalone_mode=False)
    assert (work.do.args[0], work.do.args[1], work.do.args[-1]) == ("s.yaml", ("a=b", "c=--quiet"), True)


@pytest.mark.parametrize(("words", "rows"), [([], None), (["--probe"], 32), (["--probe", "5"], 5), (["--probe=7"], 7)])
def test_probe_may_name_its_rows(words: list[str], rows: int | None) -> None:
    work = cli.app.main(["plan", "spec.yaml", *words], standalone_mode=False)
    assert work.watched == (rows is not None)
    before = work.do.args[3]
    assert (before.keywords["rows"] if before else None) == rows


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "runner"],
        env=python_path(_TUTELAGE_COMPLETE=f"{shell}_source"),
        capture_output=True,
        text=True,
    )
    assert script.returncode == 0 and "tutelage" in script.stdout
    asked = {"COMP_WORDS": "tutelage pre", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "runner"],
        env=python_path(_TUTELAGE_COMPLETE="bash_complete", **asked),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "plain,predict\n"


def test_validate_says_all_problems_of_all_specs(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = job.root / "bad.yaml"
    bad.write_text(job.path.read_text().replace("engine:", "engin:") + "studnet: {}\n")
    assert main(["validate", str(job.path), str(bad)]) == 2
    out, err = capsys.readouterr()
    assert out == f"{job.path}: OK\n"
    assert "did you mean 'engine'?" in err
    assert "did you mean 'student'?" in err
    assert all(re.match(rf"{re.escape(str(bad))}:\d+:\d+: ", line) for line in err.splitlines())
    assert main(["validate", str(job.path), "--set", "student.epochs=none"]) == 2
    assert capsys.readouterr().err.startswith("--set student.epochs=none: student.epochs: ")


def test_validate_gives_problems_as_json(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bad = job.path.with_name("bad.yaml")
    bad.write_text(job.path.read_text().replace("train.csv", "nowhere.csv") + "tsk: {}\n")
    assert main(["validate", str(job.path), str(bad), "--json"]) == 2
    out, err = capsys.readouterr()
    problems = [json.loads(line) for line in out.splitlines()]
    assert [(problem["path"], problem["code"]) for problem in problems] == [
        ("data.train.path", "data.not-found"),
        ("", "spec.unknown-key"),
    ]
    assert {problem["file"] for problem in problems} == {str(bad)} and not err
    assert problems[1]["line"] == len(bad.read_text().splitlines())
    assert main(["validate", str(job.path), "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_init_writes_a_spec_that_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my-classifier"]) == 0
    assert main(["validate", "my-classifier.yaml"]) == 2, "its data files are not there yet"
    assert "there is no file 'data/train.csv'" in capsys.readouterr().err
    Path("data").mkdir()
    Path("data/train.csv").write_text("text\nNice.\nAwful.\n")
    Path("data/test.csv").write_text("text,label\nGood.,positive\nBad.,negative\n")
    assert main(["validate", "my-classifier.yaml"]) == 0
    Path("my-classifier.yaml").write_text("mine")
    assert main(["init", "my-classifier"]) == 1
    assert "already exists; choose another name" in capsys.readouterr().err
    assert Path("my-classifier.yaml").read_text() == "mine"


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("name", ["bad name!", "../up", "", "-x.yaml", "caf\u00e9", "x" * 101])
def test_init_refuses_a_name_that_will_not_do(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "init", "--", name], cwd=tmp_path, env=python_path(), capture_output=True
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*.yaml")] == []


def python_path(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2]), **more}


def imported(words: list[str], names: tuple[str, ...]) -> tuple[int, list[str]]:
    """The exit status of a command in a fresh process, and which of ``names`` it imported."""
    code = "import sys, json; from runner.commands.cli import main; status = main(sys.argv[2:]);"
    code += "print(json.dumps([status, [n for n in sys.argv[1].split(',') if n in sys.modules]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(names), *words], capture_output=True, text=True, env=python_path()
    )
    status, found = json.loads(done.stdout.splitlines()[-1])
    return status, found


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("command", ["validate", "plan", "render"])
def test_nothing_heavy_is_imported(job: Any, command: str) -> None:
    cold = ["pyarrow", "numpy", "fsspec"] if command == "validate" else []
    assert imported([command, str(job.path)], (*HEAVY, *cold)) == (0, [])


def test_a_report_of_no_run_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert f"tutelage: {tmp_path}: no finished run is there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def fails_with(error: BaseException) -> Callable[..., int]:
    def command(*options: Any) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("data.csv-broken", "mend the file"), 1, "tutelage: mend the file\n"),
        (KeyboardInterrupt(), 130, "tutelage: stopped; what was finished is kept, the same command goes on"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_what_a_command_raises_becomes_a_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    monkeypatch.setattr(doctor, "doctor", fails_with(error))
    assert main(["doctor"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert bool(err) is bool(said)


def test_a_bug_is_3_with_a_log_and_no_traceback(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = ZeroDivisionError("oops")
    bug.__cause__ = ValueError("half a pair \ud800")
    monkeypatch.setattr(doctor, "doctor", fails_with(bug))
    assert main(["doctor"]) == 3
    err = capsys.readouterr().err
    assert "this is a bug in tutelage: ZeroDivisionError: oops\n" in err
    assert "Traceback" not in err
    (log,) = logs.iterdir()
    assert f"please report it with {log}" in err
    assert "Traceback" in log.read_text()
    assert "\\ud800" in log.read_text()


def test_a_bug_on_a_full_disk_is_shown_instead(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(logs / "none"))
    monkeypatch.setattr(doctor, "doctor", fails_with(ZeroDivisionError("oops")))
    assert main(["doctor"]) == 3
    err = capsys.readouterr().err
    assert "no log could be written" in err
    assert "ZeroDivisionError: oops" in err


@pytest.mark.slow("subprocess")
def test_ctrl_c_is_130(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec.yaml")
    command = [sys.executable, "-m", "runner", "validate", str(tmp_path / "spec.yaml")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=python_path(),
        # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with open(tmp_path / "spec.yaml", "wb"):  # opens when the other side is there, and then it waits for us
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err.startswith("tutelage: stopped; ")


@pytest.mark.slow("subprocess")
def test_a_reader_that_leaves_early_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "runner", "models"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=python_path(PYTHONUNBUFFERED="1"))
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_models_and_doctor_speak_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["all-minilm-l6-v2"].items() >= {"role": "student", "licence": "Apache-2.0"}.items()
    assert main(["doctor", "--json"]) == 0
    findings = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"python", "ray", "torch", "processor", "memory", "free disk", "models here"} <= findings.keys()
    assert all(set(row) == {"name", "value", "advice"} for row in findings.values())


@pytest.mark.slow("subprocess")
def test_doctor_works_without_a_home() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "doctor"], env=python_path(HOME="/nonexistent/home"), capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"free disk" in done.stdout
