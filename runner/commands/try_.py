"""``tutelage try``: label a few rows and show them, once or again after each change of the spec."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import (
    Count,
    address_option,
    json_option,
    runs_dir_option,
    set_option,
    spec_argument,
    wait_option,
)


@click.command(epilog=example("tutelage try specs/quickstart.yaml --rows 10 --watch"))
@spec_argument
@click.option(
    "--rows",
    type=Count(10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many; half of them with experts' labels where there are any.",
)
@click.option("--watch", is_flag=True, help="Keep the teacher ready, and show what each saved change of SPEC changes.")
@set_option
@runs_dir_option
@address_option()
@wait_option
@json_option("One JSON object a line for each version of the spec.")
def command(
    spec: str,
    rows: int,
    watch: bool,
    overrides: tuple[str, ...],
    runs_dir: str,
    address: str | None,
    wait: int,
    as_json: bool,
) -> Work:
    """Label a few rows and show what the teacher says.

    The answers are kept: a run does not ask for them again.
    """
    return Work(partial(try_rows, spec, overrides, runs_dir, rows, watch, address, wait, as_json), watched=True)


def try_rows(
    path: str,
    overrides: Sequence[str],
    runs_dir: str,
    rows: int,
    watch: bool,
    address: str | None,
    wait: int,
    as_json: bool,
) -> int:
    """Show the rows of the spec as it is; with ``watch`` again after each change, until it is stopped."""
    from runner.cluster.kept import KeptCluster  # spares ray
    from runner.commands.ray_cluster import ray_cluster
    from runner.commands.try_pass import Trying, watched

    with ray_cluster(address, wait, "try", KeptCluster) as cluster:
        trying = Trying(path, overrides, runs_dir, rows, as_json, cluster, sys.stdout)
        if watch:
            watched(trying)
        else:
            trying.once()
    return 0
