"""What people see on a terminal: lines that fit, tables that align in any script, and nothing that a label could do."""

from __future__ import annotations

import io
import re
import threading
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from runner.observe import progress as progress_module
from runner.observe.progress import Progress
from runner.observe.tables import Column, plain_lines, print_table

WIDE = "金融新聞分類器"
ROWS = [("catalog:small", "23 M", "here"), (WIDE, "1,544 M", "-"), ("[red]", "1 M", "[/]")]
COLUMNS = [Column("model"), Column("size", right=True), Column("here")]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 100 columns that knows colours, wherever the tests run."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setitem(progress_module.EVERY_SECONDS, "terminal", 0.0)


def table(rows: list[tuple[str, ...]] = ROWS) -> str:
    stream = io.StringIO()
    print_table(COLUMNS, rows, stream)
    return stream.getvalue()


def starts(lines: list[str], words: tuple[str, ...]) -> set[int]:
    """The cells at which the words of each line begin."""
    return {cell_len(line[: line.index(word)]) for line, word in zip(lines, words, strict=True)}


def test_wide_letters_keep_columns_aligned_on_a_terminal_and_elsewhere() -> None:
    shown = COLOUR.sub("", table()).splitlines()
    assert shown[0].split() == ["model", "size", "here"]
    for lines in (shown[1:], plain_lines(COLUMNS, ROWS)):
        assert {cell_len(line[: line.index(" M") + 2]) for line in lines} == {
            cell_len(lines[0][: lines[0].index(" M") + 2])
        }
        assert len(starts([line + " " for line in lines], ("here", "- ", "[/]"))) == 1


def test_markup_and_emoji_codes_in_foreign_text_are_shown_as_they_are() -> None:
    rows = [("[red]", "[/]", "[link=http://x]:smile:[/link]")]
    assert [line.split() for line in (COLOUR.sub("", table(rows)).splitlines()[-1], *plain_lines(COLUMNS, rows))] == [
        list(rows[0])
    ] * 2
    stream = io.StringIO()
    progress = Progress(stream, "terminal")
    progress.begin("label [red]", 10)
    progress.tell("message", words="column [/] is [bold]empty[/bold]")
    progress.at(3)
    assert "column [/] is [bold]empty[/bold]\n" in stream.getvalue()
    assert "label [red]: 3/10 rows" in stream.getvalue()


@pytest.mark.parametrize("foreign", ["\x1b[2J", "\u202eevil", "\x9b31m", "\x07"])
def test_nothing_foreign_speaks_to_the_terminal(foreign: str) -> None:
    stream = io.StringIO()
    progress = Progress(stream, "terminal")
    progress.begin(f"what {foreign}", 10)
    progress.add(3)
    progress.doing(f"what {foreign}", f"loads {foreign}")
    progress.say(f"says {foreign}")
    assert foreign not in stream.getvalue() + table([(foreign, "", "")]) + plain_lines(COLUMNS, [(foreign, "", "")])[0]


def test_no_color_is_respected_and_the_bar_still_shows_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def bar(share: int) -> str:
        stream = io.StringIO()
        progress = Progress(stream, "terminal")
        progress.begin("label", 100)
        progress.at(share)
        return stream.getvalue()

    assert COLOUR.search(bar(50)) and COLOUR.search(table())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3\dm", bar(50) + table()), "no colour of the foreground"
    assert bar(75).count("━") > bar(25).count("━") > 0


@pytest.mark.parametrize("columns", ["20", "40", "100"])
def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    progress = Progress(stream, "terminal")
    progress.begin(WIDE * 20, 10)
    progress.at(5)
    drawn = COLOUR.sub("", stream.getvalue()).removeprefix("\r\x1b[K")
    assert "\n" not in drawn and cell_len(drawn) < int(columns)
    assert "…" in drawn


def test_the_line_is_gone_when_the_run_ends(tmp_path: Path) -> None:
    from runner.rundir.folder import Folder

    stream = io.StringIO()
    progress = Progress(stream, "terminal")
    with progress.recorded(Folder(str(tmp_path)), "run"):
        progress.begin("label", 10)
        progress.at(10)
    assert stream.getvalue().endswith("\r\x1b[K")


class SlowStream(io.StringIO):
    """Lets other threads in before each write, as a terminal does."""

    def write(self, text: str) -> int:
        time.sleep(0.0005)
        return super().write(text)


def test_lines_of_several_threads_stay_whole() -> None:
    stream = SlowStream()
    progress = Progress(stream, "terminal")
    progress.begin("train", 400)

    def report(thread: int) -> None:
        for number in range(20):
            progress.say(f"thread {thread} says {number}")
            progress.add(1)
            progress.doing("train", f"step {number} of {thread}")

    threads = [threading.Thread(target=report, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [line.rpartition("\r\x1b[K")[2] for line in stream.getvalue().split("\n")[:-1]]
    assert sorted(said) == sorted(f"thread {thread} says {number}" for thread in range(8) for number in range(20))
    assert "train: 160/400 rows" in COLOUR.sub("", stream.getvalue()), "no count is lost"
