"""``tutelage doctor``: say what will work on this machine."""

from __future__ import annotations

import json
from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import json_option
from runner.commands.output import on_terminal, put, put_table
from runner.system.errors import UserError
from runner.system.paths import absolute


@click.command(epilog=example("tutelage doctor"))
@json_option("Findings as JSON.")
@click.option(
    "--runs-dir",
    metavar="DIR|URL",
    help="Also see whether runs can be kept there; exit status 1 where they cannot.",
)
def command(as_json: bool, runs_dir: str | None) -> Work:
    """Say what will work on this machine.

    And what to do about what will not.
    """
    return Work(partial(doctor, as_json, runs_dir))


def doctor(as_json: bool, runs_dir: str | None) -> int:
    """A line for each finding, and a line of advice where something is wrong."""
    from runner.system.doctor import RUNS_FOLDER, examine  # spares huggingface_hub

    findings = examine(None if runs_dir is None else absolute(runs_dir))
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
    elif on_terminal():
        from runner.observe.tables import Column  # spares rich

        rows = [
            (
                "look" if finding.advice else "ok",
                finding.name,
                finding.value + (f"\n-> {finding.advice}" if finding.advice else ""),
            )
            for finding in findings
        ]
        put_table([Column(""), Column("what", style="bold"), Column("finding")], rows)
    else:
        for finding in findings:
            put(f"{'ok  ' if not finding.advice else 'look'} {finding.name:<14} {finding.value}")
            if finding.advice:
                put(f"     {'':<14} -> {finding.advice}")
    return UserError.exit_code if any(finding.name == RUNS_FOLDER and finding.advice for finding in findings) else 0
