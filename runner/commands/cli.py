"""The command line: parses it, runs one command, and turns whatever comes of it into an exit status and a sentence."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import click

from runner import __version__
from runner.commands import aftermath
from runner.commands.group import Commands, Work
from runner.commands.output import put
from runner.system import signals, supervise, surroundings
from runner.system.errors import KEPT, SpecError, TutelageError, UserError
from runner.system.sanitize import without_secrets

BUG = 3


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="`tutelage COMMAND --help` explains a command.",
)
@click.version_option(__version__, message="tutelage %(version)s")
def app() -> None:
    """Turn a language model that you host into a small classifier that you own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is drawn in ``errors.py``, and 2 where the command line itself is wrong.

    What may start Ray is watched over by a process of its own, but where a program calls this with ``arguments``.
    """
    surroundings.open_streams()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # the Hub's client and vLLM tell others how they are used
    try:
        work = app.main(arguments, prog_name="tutelage", standalone_mode=False)
    except click.ClickException as error:
        return _misused(error)
    if not isinstance(work, Work):  # --help, --version
        return int(work or 0)
    if arguments is None and work.watched:
        return supervise.supervised(partial(_guarded, work.do), _gone)
    with signals.listening():
        return _guarded(work.do)


def _misused(error: click.ClickException) -> int:
    """A command line that nobody can act on."""
    context = getattr(error, "ctx", None)
    usage = [context.get_usage(), f"Try '{context.command_path} --help'.", ""] if context else []
    with suppress(OSError):  # the terminal may be gone
        put("\n".join([*usage, f"tutelage: {error.format_message()}"]), sys.stderr)
    return error.exit_code if error.exit_code != 1 else 2


def _guarded(do: Callable[[], int]) -> int:
    try:
        return do()
    except BaseException as raised:
        error = signals.left(raised)
        if isinstance(error, TutelageError):
            with suppress(OSError):  # the terminal may be gone
                put(f"{error}" if isinstance(error, SpecError) else f"tutelage: {error}", sys.stderr)
            return error.exit_code
        if isinstance(error, KeyboardInterrupt):
            return _stopped(signals.received())
        if isinstance(error, BrokenPipeError):
            return 0
        if fault := surroundings.fault(error):
            with suppress(OSError):
                put(f"tutelage: {fault}", sys.stderr)
            return UserError.exit_code
        if not isinstance(error, Exception):
            raise
        return _bug("".join(traceback.format_exception(error)))


def _stopped(number: int) -> int:
    with suppress(OSError):  # the terminal may be gone
        print(f"tutelage: stopped; {KEPT}", file=sys.stderr, flush=True)
    return signals.SIGNALLED + (number or signal.SIGINT)


def _gone(facts: dict[str, Any], status: int) -> int:
    """What is to be said in place of the process that did the work; see :func:`runner.system.supervise.supervised`."""
    with suppress(OSError):
        aftermath.record(facts, status)
    if -status in signals.STOPPING:
        return _stopped(-status)
    with suppress(OSError):
        put(f"tutelage: {aftermath.problem(facts, status)}", sys.stderr)
    return UserError.exit_code


def _bug(trace: str) -> int:
    trace = without_secrets(trace)
    name = f"tutelage-{time.strftime('%Y%m%d-%H%M%S')}-"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=name, suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(trace)
        kept = f"please report it with {log.name}"
    except OSError as error:
        kept = f"please report it; no log could be written ({error.strerror}), so here it is:\n{trace}"
    last = trace.strip().splitlines()[-1][:300]
    put(f"tutelage: this is a bug in tutelage: {last}\n{kept}", sys.stderr)
    return BUG
