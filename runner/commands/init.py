"""``tutelage init``: write a commented starter spec, or with ``--data`` one for a data file and this machine."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from runner.commands.group import Work, example
from runner.commands.options import Delimiter, Encoding


@click.command(epilog=example("tutelage init my-classifier --data texts.csv --labels complaint,question,praise"))
@click.argument("name", metavar="NAME")
@click.option("--data", metavar="FILE", help="The file with the texts: the spec is made for it and for this machine.")
@click.option("--text", metavar="COLUMN", help="Its column with the texts (default: guessed, or asked).")
@click.option(
    "--labels", metavar="A,B,...", help="What each text is to be called (default: those of --label, or asked)."
)
@click.option("--label", metavar="COLUMN", help="Its column with experts' labels, in some rows or in all: to measure.")
@click.option("--instructions", metavar="TEXT", help="What you would tell a new colleague (default: asked).")
@click.option("--encoding", type=Encoding(), metavar="NAME", help="The file's character set (UTF-8).")
@click.option("--delimiter", type=Delimiter(), metavar="CHARACTER", help="Between its columns, of csv (found out).")
def command(name: str, data: str | None, **options: Any) -> Work:
    """Write a commented starter spec, or one for your texts."""
    if data is None:
        if given := next((option for option, value in options.items() if value is not None), None):
            raise click.UsageError(f"--{given} says something of a file: name it with --data")
        return Work(partial(init, name))
    return Work(partial(_for_data, name, data, options))


def init(name: str) -> int:
    """Write ``NAME.yaml``, which is not there yet."""
    from runner.commands.init_files import write_new  # spares jsonschema
    from runner.spec import load_spec, starter  # spares jsonschema

    text = starter(name)  # before the file is there: a name that will not do leaves none behind
    path = f"{name}.yaml"
    write_new({path: text}, lambda: load_spec(path))
    print(f"{path}: written; edit it, then `tutelage validate {path}`")
    return 0


def _for_data(name: str, data: str, options: dict[str, Any]) -> int:
    from runner.commands.init_data import Wishes, init_for_data  # spares pyarrow

    return init_for_data(name, data, Wishes(**options))
