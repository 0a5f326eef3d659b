"""What a job of a cluster says, shown until it ends."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.commands.output import put
from runner.system import signals
from runner.system.errors import UserError
from runner.system.sanitize import for_terminal

if TYPE_CHECKING:  # spares ray
    from runner.cluster.jobs import Job, Jobs


def follow(jobs: Jobs, job: Job) -> int:
    """Show what the job says until it ends; the exit status is its own."""
    try:
        for text in jobs.follow(job):
            sys.stdout.write(for_terminal(text))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(jobs, job)
    job = jobs.ended(job)
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        put(f"tutelage: job {job.id} was stopped; the same command goes on from there", sys.stderr)
        return signals.SIGNALLED + signal.SIGINT
    if job.exit_code is None:
        raise UserError(
            "job.failed-early",
            f"job {job.id} did not run to its end: {job.message}; submit again: what is finished is kept",
        )
    return job.exit_code


def _interrupted(jobs: Jobs, job: Job) -> int:
    """Ctrl-C while following: the job goes on unless the user says that it shall not."""
    answer, number = "", signals.dealt_with() or signal.SIGINT
    if number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty():
        with suppress(EOFError, KeyboardInterrupt):
            answer = input(f"\nStop job {job.id}? [y/N] ").strip().lower()
    if answer in ("y", "yes"):
        jobs.stop(job)
        put(f"tutelage: job {job.id} is being stopped; the same command goes on from there", sys.stderr)
    else:
        where = f"{shlex.quote(job.id)} --address {shlex.quote(jobs.address)}"
        put(
            f"tutelage: detached, job {job.id} goes on; `tutelage logs {where} --follow` shows it, "
            f"`tutelage stop {where}` ends it",
            sys.stderr,
        )
    return signals.SIGNALLED + number
