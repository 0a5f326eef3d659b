"""``tutelage models``: list the model catalog, or fetch models ahead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.options import json_option
from runner.commands.output import put, put_table


@click.group(invoke_without_command=True, epilog=example("tutelage models pull all-minilm-l6-v2"))
@json_option("The catalog as JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> Work | None:
    """List the model catalog, or fetch models ahead."""
    return Work(partial(list_catalog, as_json)) if context.invoked_subcommand is None else None


@command.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def pull_command(names: tuple[str, ...]) -> Work:
    """Fetch models into the cache, for use without a network: of the catalog, or on the Hub (OWNER/NAME[@REVISION])."""
    return Work(partial(pull, names))


def pull(names: Sequence[str]) -> int:
    """Fetch each, and say where it lies."""
    from runner import models  # spares huggingface_hub
    from runner.models.places import check_writable  # spares huggingface_hub
    from runner.models.reference import pulled  # spares huggingface_hub

    wanted = {name: pulled(name) for name in names}
    check_writable(wanted.values())
    for name, (reference, revision) in wanted.items():
        put(str(models.ensure(reference, revision, progress=partial(_say, name))))
    return 0


def _say(name: str, text: str) -> None:
    put(f"{name}: {text}")


def list_catalog(as_json: bool) -> int:
    """A line for each model."""
    from runner import models  # spares huggingface_hub
    from runner.observe.tables import Column  # spares rich

    catalog = models.list_models()
    if as_json:
        print(json.dumps([vars(model) for model in catalog]))
        return 0
    columns = [
        Column("model", whole=True),
        Column("role", width=7),
        Column("parameters", width=8, right=True),
        Column("size", width=8, right=True),
        Column("licence", width=10),
        Column("here", width=4),
        Column("sources"),
    ]
    rows = [
        (
            f"catalog:{model.name}",
            model.role,
            f"{model.parameters / 1e6:.0f} M",
            f"{model.size_bytes / 1e6:.0f} MB",
            model.licence,
            "here" if model.present else "-",
            model.sources,
        )
        for model in catalog
    ]
    put_table(columns, rows)
    return 0
