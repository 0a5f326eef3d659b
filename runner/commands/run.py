"""``tutelage run``: run a spec, or what of it is not there yet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import (
    address_option,
    json_option,
    quiet_option,
    runs_dir_option,
    set_option,
    spec_argument,
    wait_option,
)
from runner.commands.output import progress_mode, show_report, write_report
from runner.commands.ray_cluster import address_and_source, ray_cluster
from runner.commands.spec_and_run import load, run_folder


@click.command(epilog=example("tutelage run specs/quickstart.yaml --set student.epochs=3"))
@spec_argument
@set_option
@runs_dir_option
@address_option()
@wait_option
@json_option()
@quiet_option
def command(
    spec: str,
    overrides: tuple[str, ...],
    runs_dir: str,
    address: str | None,
    wait: int,
    as_json: bool,
    quiet: bool,
) -> Work:
    """Run a spec, or what of it is not there yet."""
    return Work(partial(run, spec, overrides, runs_dir, address, wait, as_json, quiet), watched=True)


def run(
    path: str,
    overrides: Sequence[str],
    runs_dir: str,
    address: str | None,
    wait: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """All stages that are not there yet, then the report."""
    from runner.cluster import attempts  # spares ray
    from runner.observe.progress import Progress  # spares pyarrow
    from runner.planning.check import check_models  # spares pyarrow
    from runner.rundir.lock import locked  # spares pyarrow
    from runner.stages import pipeline  # spares ray

    spec = load(path, overrides)
    check_models(spec, elsewhere=address_and_source(address)[0] is not None)
    folder = run_folder(spec, runs_dir)
    progress = Progress(sys.stdout, progress_mode(as_json, quiet))
    with (
        ray_cluster(address, wait, spec.name) as cluster,
        locked(folder, progress.say, patient=cluster.address is not None),
        progress.recorded(folder, "run"),
        attempts.counted(folder, spec),
    ):
        record = pipeline.execute(spec, folder, cluster, progress)
        if all(stage["cached"] for stage in record["stages"]):
            progress.say("nothing to do: every stage is finished already")
        report = write_report(folder)
    show_report(folder, report, as_json)  # the last line of --json, behind all events
    return 0
