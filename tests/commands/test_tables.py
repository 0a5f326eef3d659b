"""What commands print on a terminal and elsewhere: a pseudo-terminal is one end, a pipe the other."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.commands.cli import main

ROOT = Path(__file__).parents[2]
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_terminal(*words: str, **environment: str) -> str:
    """What a command prints on a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    variables |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "200", **environment}
    process = subprocess.Popen([sys.executable, "-m", "runner", *words], stdout=theirs, env=variables)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    return said.decode().replace("\r\n", "\n")


@pytest.mark.slow("subprocess")
def test_a_terminal_gets_a_table_with_a_header_and_a_pipe_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = CONTROL.sub("", on_terminal("models")).splitlines()
    assert header.split() == ["model", "role", "parameters", "size", "licence", "here", "sources"]
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row.split()[0] for row in rows if row.startswith("catalog:")]
    assert {line.index(" M ") for line in lines} == {lines[0].index(" M ")}, "aligned"
    assert {row.index(" M ") for row in rows if row.startswith("catalog:")} == {rows[0].index(" M ")}


@pytest.mark.slow("subprocess")
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["no-color", "dumb"])
def test_no_colour_where_none_is_wanted(environment: dict[str, str]) -> None:
    shown = on_terminal("doctor", **environment)
    assert "free disk" in shown
    assert not re.search(r"\x1b\[[0-9;]*3\dm", shown)
    assert ("\x1b" in shown) is (environment.get("TERM") != "dumb")


@pytest.mark.slow("subprocess")
def test_a_plan_says_the_same_on_a_terminal(job: object, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(job.path)  # type: ignore[attr-defined]
    assert main(["plan", path]) == 0
    plain = capsys.readouterr().out
    shown = CONTROL.sub("", on_terminal("plan", path, COLUMNS="1000"))
    assert shown.split() == plain.split()
    narrow = CONTROL.sub("", on_terminal("plan", path, COLUMNS="60"))
    assert max(map(len, narrow.splitlines())) <= 60
