"""``tutelage stop``: stop a job; what it finished is kept."""

from __future__ import annotations

from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import dashboard_option
from runner.commands.output import put


@click.command(epilog=example("tutelage stop quickstart"))
@click.argument("job", metavar="RUN_OR_ID")
@dashboard_option
def command(job: str, address: str | None) -> Work:
    """Stop a job; what it finished is kept.

    A job is named by its id, the spec's name, or the run folder.
    """
    return Work(partial(stop, job, address))


def stop(job: str, address: str | None) -> int:
    """Stop it, and wait until it has ended."""
    from runner.cluster.jobs import Jobs  # spares ray

    jobs = Jobs(address)
    named = jobs.find(job)
    if not named.active:
        put(f"{named.id}: has ended already ({named.status})")
        return 0
    jobs.stop(named)
    put(f"{named.id}: {jobs.ended(named).status}")
    return 0
