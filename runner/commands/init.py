"""``tutelage init``: write a commented starter spec."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from runner.commands.group import Work, example
from runner.system.errors import SpecError, UserError


@click.command(epilog=example("tutelage init my-classifier"))
@click.argument("name", metavar="NAME")
def command(name: str) -> Work:
    """Write a commented starter spec."""
    return Work(partial(init, name))


def init(name: str) -> int:
    """Write ``NAME.yaml``, which is not there yet."""
    from runner.spec import load_spec, starter  # spares jsonschema

    text = starter(name)  # before the file is there: a name that will not do leaves none behind
    path = Path(f"{name}.yaml")
    try:
        with open(path, "x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise UserError(f"{path}: already exists; choose another name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        load_spec(path)
    except SpecError:
        path.unlink()
        raise
    print(f"{path}: written; edit it, then `tutelage validate {path}`")
    return 0
