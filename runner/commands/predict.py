"""``tutelage predict``: label files with a trained student."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import click

from runner.commands.group import Work, example
from runner.commands.options import (
    Count,
    Delimiter,
    Encoding,
    Share,
    address_option,
    json_option,
    quiet_option,
    wait_option,
)
from runner.commands.output import progress_mode, put
from runner.commands.ray_cluster import ray_cluster
from runner.data.file_kinds import KINDS, READABLE
from runner.system.paths import absolute


@click.command(epilog=example("tutelage predict runs/quickstart 'texts/*.csv' -o labelled"))
@click.argument("student", metavar="MODEL_OR_RUN")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="OUT",
    help="A folder for parquet parts, or a file: .csv, .tsv, .jsonl, .json, .parquet, .csv.gz, ...",
)
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="The column with the text.")
@click.option("--format", type=click.Choice(["auto", *KINDS]), default="auto", help="Of the inputs (by their names).")
@click.option("--encoding", type=Encoding(), metavar="NAME", help="The inputs' character set (UTF-8).")
@click.option("--delimiter", type=Delimiter(), metavar="CHARACTER", help="Between the columns of csv files (,).")
@click.option("--keep", multiple=True, metavar="COLUMN", help="A column that goes along.")
@click.option(
    "--abstain-below",
    type=Share(),
    default=0.0,
    metavar="P",
    help="Abstain where the probability is under this (0).",
)
@click.option(
    "--part-rows", type=Count(1_000_000), default=10_000, show_default=True, metavar="N", help="Rows in each part."
)
@click.option("--cpus", type=Count(1024), metavar="N", help="Cores for each replica (default: all of a node).")
@click.option("--gpus", type=Count(16, 0), metavar="N", help="GPUs for each replica (default: one if there is).")
@click.option(
    "--replicas", type=Count(10_000), default=1, show_default=True, metavar="N", help="Students side by side, at most."
)
@address_option()
@wait_option
@json_option()
@quiet_option
def command(address: str | None, wait: int, as_json: bool, quiet: bool, **options: Any) -> Work:
    """Label files with a trained student.

    The student is that of a run folder, or a folder with a trained classifier.
    """
    return Work(partial(predict, options, address, wait, as_json, quiet), watched=True)


command.help = f"{command.help}\n\nInputs are {READABLE}: files, globs or URLs."


def predict(options: dict[str, Any], address: str | None, wait: int, as_json: bool, quiet: bool) -> int:
    """``options`` are the fields of ``PredictOptions``, with paths as they were typed."""
    from runner.commands import predict_files  # spares ray
    from runner.observe.progress import Progress  # spares pyarrow

    asked = predict_files.PredictOptions(
        **options
        | {
            "student": absolute(options["student"]),
            "inputs": tuple(map(absolute, options["inputs"])),
            "out": absolute(options["out"]) + ("/" if options["out"].endswith("/") else ""),
        }
    )
    with ray_cluster(address, wait, "predict") as cluster:
        summary = predict_files.predict(asked, cluster, Progress(sys.stdout, progress_mode(as_json, quiet)))
    if as_json:
        print(json.dumps(summary))
    else:
        put(labelled(summary))
    return 0


def labelled(summary: dict[str, Any]) -> str:
    """What `predict` says in the end."""
    labels = ", ".join(f"{label} {count:,}" for label, count in sorted(summary["labels"].items())) or "no label"
    rate = f"; {summary['texts_per_second']:.1f} texts/s" if summary["texts_per_second"] else ""
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in summary.get("abstained_by_reason", {}).items())
    abstained = f"{summary['abstained']:,} abstained" + (f" ({reasons})" if reasons else "")
    lines = [f"{summary['rows']:,} texts: {labels}; {abstained}{rate}"]
    lines += [f"{summary['reused']:,} were labelled already"] if summary["reused"] else []
    return "\n".join([*lines, f"output: {summary['out']}"])
