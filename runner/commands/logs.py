"""``tutelage logs``: show what a job has said."""

from __future__ import annotations

import sys
from functools import partial

import click

from runner.commands.follow import follow
from runner.commands.group import Work, example
from runner.commands.options import dashboard_option
from runner.system.sanitize import for_terminal


@click.command(epilog=example("tutelage logs quickstart --follow"))
@click.argument("job", metavar="RUN_OR_ID")
@dashboard_option
@click.option("--follow", "until_its_end", is_flag=True, help="Until the job ends; its exit status becomes ours.")
def command(job: str, address: str | None, until_its_end: bool) -> Work:
    """Show what a job has said.

    A job is named by its id, the spec's name, or the run folder.
    """
    return Work(partial(logs, job, address, until_its_end))


def logs(job: str, address: str | None, until_its_end: bool) -> int:
    """What was said so far, or all of it until the end."""
    from runner.cluster.jobs import Jobs  # spares ray

    jobs = Jobs(address)
    named = jobs.find(job)
    if until_its_end:
        return follow(jobs, named)
    sys.stdout.write(for_terminal(jobs.logs(named)))
    return 0
