"""Two tiers of tests: all of them, and with ``--fast`` those that start nothing and are quick.

A test that the fast tier leaves out is marked ``@pytest.mark.slow(REASON)``, with a reason of ``REASONS``. The marks
stay true because the fast tier refuses what they stand for: a test without the mark that starts a process, forks, or
imports vLLM fails, even where the code under test catches the refusal.
"""

from __future__ import annotations

import json
import multiprocessing.util
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
SECONDS = TESTS / "seconds.json"
"""Roughly how long the long files take; ``make test-seconds`` measures them again. The others take a few seconds."""
WORTH_NAMING = 10.0
REASONS = {
    "ray": "starts Ray",
    "vllm": "starts or imports vLLM",
    "subprocess": "starts a process",
    "long": "takes longer than a second",
}
FIXTURES = {"nodes_class": "ray"}
"""Fixtures that start something for whoever uses them: their tests need no mark."""
STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "import"})


class Refused(RuntimeError):
    """The fast tier starts nothing."""


def slow_reason(item: pytest.Item) -> str | None:
    """Why the fast tier leaves ``item`` out; None: it does not.

    :raises pytest.UsageError: when a mark gives no reason, or one that is not in ``REASONS``.
    """
    mark = item.get_closest_marker("slow")
    if mark is None:
        return next((FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in FIXTURES), None)
    if len(mark.args) != 1 or mark.args[0] not in REASONS:
        raise pytest.UsageError(f"{item.nodeid}: mark.slow expects one reason of {', '.join(REASONS)}")
    return str(mark.args[0])


def longest_files_first(items: list[pytest.Item]) -> None:
    """So that no long file is left to one process when the others are done; the order within a file stays."""
    seconds: dict[str, float] = json.loads(SECONDS.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -seconds.get(str(item.path.relative_to(TESTS)), 0))


class FileTimes:
    """Adds up what the tests of each file took, and writes ``SECONDS`` when all is over."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0].removeprefix(f"{TESTS.name}/")
        self._seconds[file] += report.duration  # type: ignore[assignment]  # a counter of floats

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):  # of pytest-xdist: its main process hears of all tests
            long = {file: round(took) for file, took in self._seconds.most_common() if took >= WORTH_NAMING}
            SECONDS.write_text(json.dumps(long, indent=1) + "\n", encoding="utf-8")


class FastTier:
    """Leaves slow tests out, counts them by reason, and refuses what tests without a mark start."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left_out: Counter[str] = Counter()
        self._watched = False
        self._started: list[str] = []
        sys.addaudithook(self._refuse)
        self._spawn = multiprocessing.util.spawnv_passfds  # type: ignore[attr-defined]
        multiprocessing.util.spawnv_passfds = self._refuse_spawn  # type: ignore[attr-defined]  # it has no audit event

    def _refuse(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STARTS or not self._watched:
            return
        if event == "import":
            if arguments[0] != "vllm":
                return
            what = "imports vLLM"
        else:
            what = f"starts {_command(arguments[1])}" if event == "subprocess.Popen" else f"calls {event}"
        self._started.append(what)
        raise Refused(f"the fast tier starts nothing, but this test {what}")

    def _refuse_spawn(self, path: Any, arguments: Any, descriptors: Any) -> int:
        self._refuse("subprocess.Popen", (path, arguments))
        pid: int = self._spawn(path, arguments, descriptors)
        return pid

    def _watch(self) -> Iterator[None]:
        self._started.clear()
        self._watched = True
        try:
            return (yield)
        finally:
            self._watched = False
            if self._started:
                pytest.fail(
                    f"in the fast tier this test {self._started[0]}: mark it with @pytest.mark.slow(REASON), "
                    f"where REASON is one of {', '.join(REASONS)}",
                    pytrace=False,
                )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        return (yield from self._watch())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        return (yield from self._watch())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        return (yield from self._watch())

    @pytest.hookimpl(trylast=True)  # what -m and -k leave out is not counted
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        reasons = [slow_reason(item) for item in items]
        left_out = [item for item, reason in zip(items, reasons, strict=True) if reason]
        self._left_out.update(reason for reason in reasons if reason)
        self._config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item, reason in zip(items, reasons, strict=True) if not reason]

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["left_out"] = dict(self._left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Of pytest-xdist: every worker collects all tests, so that one worker's count is that of all."""
        self._left_out = Counter(getattr(node, "workeroutput", {}).get("left_out", self._left_out))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        counts = [f"{count} {REASONS[reason]} ({reason})" for reason, count in self._left_out.most_common()]
        terminalreporter.write_line(
            f"fast tier: left out {self._left_out.total()} tests: {'; '.join(counts)}; `make test` runs them"
        )


def _command(arguments: Any) -> str:
    words = [arguments] if isinstance(arguments, str | bytes | os.PathLike) else arguments
    return " ".join(os.fsdecode(word) for word in words)[:200]
