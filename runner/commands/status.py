"""``tutelage status``: list the jobs of a cluster."""

from __future__ import annotations

import json
from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import dashboard_option, json_option
from runner.commands.output import put, put_table


@click.command(epilog=example("tutelage status quickstart"))
@click.argument("job", required=False, metavar="[RUN_OR_ID]")
@dashboard_option
@json_option("The jobs as JSON.")
def command(job: str | None, address: str | None, as_json: bool) -> Work:
    """List the jobs of a cluster.

    Or one of them: by its id, the spec's name, or the run folder.
    """
    return Work(partial(status, job, address, as_json))


def status(job: str | None, address: str | None, as_json: bool) -> int:
    """A line for each job."""
    from runner.cluster.jobs import Jobs  # spares ray
    from runner.observe.tables import Column  # spares rich

    jobs = Jobs(address)
    listed = [jobs.find(job)] if job else jobs.list()
    if as_json:
        print(json.dumps([each.to_dict() for each in listed]))
        return 0
    if not listed:
        put(f"no job of tutelage on {jobs.address}")
        return 0
    columns = [
        Column("job", whole=True),
        Column("status", width=9),
        Column("started"),
        Column("run folder"),
        Column("error"),
    ]
    errors = {each.id: each.message if each.status == "FAILED" else "" for each in listed}
    put_table(columns, [(each.id, each.status, each.started, each.run, errors[each.id]) for each in listed])
    return 0
