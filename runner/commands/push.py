"""``tutelage push``: hand on the trained model with its cards, spec and report."""

from __future__ import annotations

from functools import partial

import click

from runner.commands.group import Work, example
from runner.commands.output import put
from runner.system.paths import absolute


@click.command(epilog=example("tutelage push runs/quickstart --to my-classifier"))
@click.argument("run", metavar="RUN")
@click.option("--to", required=True, metavar="DIR|hf:OWNER/NAME", help="A local folder, or a name on the Hub.")
@click.option("--data", is_flag=True, help="The labelled texts as well, as a data set (without it no text leaves).")
@click.option(
    "--private/--no-private",
    default=True,
    show_default=True,
    help="Whether a repository that is made on the Hub is private.",
)
def command(run: str, to: str, data: bool, private: bool) -> Work:
    """Write or upload the trained model with its cards, spec and report."""
    return Work(partial(push, run, to, data, private))


def push(run: str, to: str, data: bool, private: bool) -> int:
    """Say where it went, and whether texts went along."""
    from runner.publish.push import push as hand_on  # spares pyarrow
    from runner.rundir.folder import Folder  # spares pyarrow

    pushed = hand_on(Folder(absolute(run)), to, data=data, private=private)
    texts = f"{pushed.texts:,} labelled texts" if pushed.texts else "no texts of the data (--data adds them)"
    for place in pushed.places:
        put(f"pushed: {place}")
    put(f"with model, card, spec and report; {texts}")
    return 0
