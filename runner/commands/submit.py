"""``tutelage submit``: run a spec as a job of a Ray cluster."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from runner.commands.follow import follow
from runner.commands.group import Work, example
from runner.commands.options import dashboard_option, json_option, quiet_option, set_option, spec_argument, wait_option
from runner.commands.output import put
from runner.system.errors import UserError
from runner.system.paths import at_home
from runner.system.sanitize import has_secret

EXAMPLE = "tutelage submit specs/quickstart.yaml --address http://HEAD:8265 --runs-dir s3://bucket/runs"


@click.command(epilog=example(EXAMPLE))
@spec_argument
@set_option
@dashboard_option
@click.option(
    "--runs-dir", required=True, metavar="URL", help="Where runs are kept: a URL or a path that all nodes reach."
)
@wait_option
@click.option("--detach", is_flag=True, help="Do not wait for the job's end.")
@json_option()
@quiet_option
def command(
    spec: str,
    overrides: tuple[str, ...],
    address: str | None,
    runs_dir: str,
    wait: int,
    detach: bool,
    as_json: bool,
    quiet: bool,
) -> Work:
    """Run a spec as a job of a Ray cluster, and show what it says."""
    passed_on = [f"--wait={wait}", *(["--json"] if as_json else []), *(["--quiet"] if quiet else [])]
    return Work(partial(submit, spec, overrides, address, runs_dir, passed_on, detach))


def submit(
    path: str, overrides: Sequence[str], address: str | None, runs_dir: str, passed_on: list[str], detach: bool
) -> int:
    """Pack the job, hand it to the cluster, and follow it; ``passed_on`` are options of `run` there."""
    from runner.cluster import bundle  # spares ray
    from runner.cluster.jobs import Jobs  # spares ray
    from runner.planning.check import check_models  # spares pyarrow
    from runner.planning.files import check_spec  # spares jsonschema

    _check_runs_dir(runs_dir)
    spec = check_spec(at_home(path), overrides, elsewhere=True)
    check_models(spec, elsewhere=True)
    jobs = Jobs(address)
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        package = Path(scratch) / "job"
        package.mkdir()
        fingerprint = bundle.pack(spec, list(overrides), runs_dir, passed_on, package)
        run = f"{runs_dir.rstrip('/')}/{spec.name}"
        job, started = jobs.submit(package, bundle.ENTRYPOINT, spec.name, fingerprint, run)
    put(f"job {job.id} {'is submitted' if started else 'is at work already'}; run folder: {run}", sys.stderr)
    return 0 if detach else follow(jobs, job)


def _check_runs_dir(runs_dir: str) -> None:
    """:raises UserError: for a place that the cluster's nodes do not reach, or with a secret in it."""
    if "://" not in runs_dir and not runs_dir.startswith("/"):
        raise UserError(
            "job.runs-dir-not-shared",
            f"--runs-dir {runs_dir!r}: a job needs a place that all nodes of the cluster reach: a URL such as "
            "s3://bucket/runs, or the absolute path of a shared folder",
        )
    if has_secret(runs_dir):
        raise UserError(
            "job.runs-dir-has-secret",
            "--runs-dir: no password, token or signature may stand in it, for everybody on the cluster would see it; "
            "put credentials into the environment of `ray start` on the nodes",
        )
