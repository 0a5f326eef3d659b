"""``tutelage render``: write the Kubernetes manifest of a spec, for KubeRay."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from runner.commands.group import Work, example
from runner.commands.options import Count, set_option, spec_argument
from runner.commands.output import put, write_text
from runner.system.paths import at_home

EXAMPLE = "tutelage render specs/financial-sentiment.yaml --cloud eks --runs-dir s3://bucket/runs -o job.yaml"


@click.command(epilog=example(EXAMPLE))
@spec_argument
@set_option
@click.option("--target", type=click.Choice(["rayjob"]), default="rayjob", help="What to write: RayJob and ConfigMap.")
@click.option("--cloud", type=click.Choice(["gke", "eks", "aks", "plain"]), help="Whose nodes (plain).")
@click.option("-o", "--output", metavar="FILE", help="Where to write it (standard output).")
@click.option("--image", metavar="IMAGE", help="The image of all pods (tutelage:gpu or tutelage:cpu).")
@click.option(
    "--head-image",
    metavar="IMAGE",
    help="Of head and submitter (--image; without it, beside GPUs, tutelage-head:cpu).",
)
@click.option("--namespace", metavar="NAME", help="The namespace (tutelage).")
@click.option("--claim", metavar="NAME", help="The volume that all pods mount at /mnt/tutelage (tutelage).")
@click.option("--runs-dir", metavar="DIR|URL", help="Where runs are kept (/mnt/tutelage/runs).")
@click.option("--data-dir", metavar="DIR|URL", help="Where the spec's data lie (/mnt/tutelage/data).")
@click.option("--secret", "secrets", multiple=True, metavar="NAME", help="A Secret that becomes the pods' environment.")
@click.option(
    "--queue", metavar="NAME", help="A Kueue queue: suspended until admitted, all pods at once, no autoscaling."
)
@click.option("--hours", type=Count(24 * 365), metavar="N", help="The deadline of each attempt (24).")
@click.option(
    "--retries",
    type=Count(100, 0),
    metavar="N",
    help="Further attempts, each in a new cluster, from what is stored (2).",
)
@click.option(
    "--gcs-redis",
    metavar="HOST:PORT",
    help="Keep Ray's cluster state in Redis (redis-password in the first --secret).",
)
@click.option("--online", is_flag=True, help="Let the pods ask the Hugging Face Hub.")
@click.option("--plan", "with_plan", is_flag=True, help="Read the data here, and note what the plan expects.")
def command(spec: str, overrides: tuple[str, ...], output: str | None, with_plan: bool, **options: Any) -> Work:
    """Write the Kubernetes manifest of a spec, for KubeRay."""
    return Work(partial(render, spec, overrides, output, with_plan, options))


def render(path: str, overrides: tuple[str, ...], output: str | None, with_plan: bool, options: dict[str, Any]) -> int:
    """``options`` are the fields of ``RenderOptions``; what is not given has its default."""
    from dataclasses import fields

    from runner.kubernetes import manifest  # spares pyarrow
    from runner.kubernetes.options import RenderOptions  # spares pyarrow
    from runner.spec import load_spec  # spares jsonschema

    given = {field.name: options.get(field.name) for field in fields(RenderOptions)}
    wanted = RenderOptions(**{name: value for name, value in given.items() if value not in (None, ())})
    rendered = manifest.render(load_spec(at_home(path), overrides), wanted, with_plan)
    if output is None:
        print(rendered.yaml, end="")
    else:
        write_text(Path(at_home(output)), rendered.yaml)
    if rendered.needs:
        put("\n  ".join(["what the job needs in the cluster before it starts:", *rendered.needs]), sys.stderr)
    return 0
