"""``tutelage plan``: say what a run would do and cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

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
from runner.commands.output import on_terminal, put, put_table
from runner.commands.ray_cluster import address_and_source, ray_cluster
from runner.commands.spec_and_run import load, run_folder

if TYPE_CHECKING:  # spares ray
    from runner.rundir.folder import Folder
    from runner.spec import Spec

PROBE_ROWS = 32


@click.command(epilog=example("tutelage plan specs/quickstart.yaml"))
@spec_argument
@set_option
@runs_dir_option
@click.option(
    "--probe",
    type=Count(100_000),
    is_flag=False,
    flag_value=PROBE_ROWS,
    metavar="[ROWS]",
    help=f"Label some rows first ({PROBE_ROWS}) and plan from what they took; their answers are kept.",
)
@click.option("--show-prompt", is_flag=True, help="Print the whole prompt of one row.")
@address_option("for --probe")
@wait_option
@json_option()
def command(
    spec: str,
    overrides: tuple[str, ...],
    runs_dir: str,
    probe: int | None,
    show_prompt: bool,
    address: str | None,
    wait: int,
    as_json: bool,
) -> Work:
    """Say what a run would do and cost."""
    before = partial(_probe, rows=probe, address=address, wait=wait, as_json=as_json) if probe else None
    return Work(partial(plan, spec, overrides, runs_dir, before, show_prompt, as_json), watched=probe is not None)


def plan(
    path: str,
    overrides: Sequence[str],
    runs_dir: str,
    before: partial[None] | None,
    show_prompt: bool,
    as_json: bool,
) -> int:
    """Print the plan, after what is to be done ``before``; exit status 1 where the run would fail."""
    from runner.planning.plan import make_plan  # spares pyarrow
    from runner.planning.text import plan_rows, plan_text  # spares pyarrow

    spec = load(path, overrides)
    run = run_folder(spec, runs_dir)
    if before is not None:
        before(spec, run)
    planned = make_plan(spec, run)
    if as_json:
        print(json.dumps(planned.to_dict()))
    elif on_terminal() and not show_prompt:
        from runner.observe.tables import Column  # spares rich

        put_table([Column("", style="bold"), Column("")], plan_rows(planned))
    else:
        put(plan_text(planned, show_prompt))
    return 1 if planned.problems else 0


def _probe(spec: Spec, run: Folder, *, rows: int, address: str | None, wait: int, as_json: bool) -> None:
    """Label some rows, and keep their answers."""
    from runner.observe.progress import Progress  # spares pyarrow
    from runner.planning.check import check_models  # spares pyarrow
    from runner.rundir.lock import locked  # spares pyarrow
    from runner.stages import label, pipeline  # spares ray

    check_models(spec, elsewhere=address_and_source(address)[0] is not None)
    progress = Progress(sys.stderr, "json" if as_json else "plain")
    with (
        ray_cluster(address, wait, spec.name) as cluster,
        locked(run, progress.say, patient=cluster.address is not None),
        progress.recorded(run, "plan --probe"),
    ):
        label.probe(pipeline.run_up_to(label.NAME, spec, run, cluster, progress), rows)
