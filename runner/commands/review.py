"""``tutelage review``: people label a sample that measures, and correct what the teacher probably got wrong."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.commands.group import Work, example
from runner.commands.options import Count, address_option, quiet_option, wait_option
from runner.commands.output import progress_mode, put
from runner.commands.ray_cluster import ray_cluster
from runner.system.paths import absolute

if TYPE_CHECKING:  # spares pyarrow
    from runner.review.decisions import ListName
    from runner.review.lists import Item, Lists
    from runner.rundir.folder import Folder
    from runner.spec import Spec

TOOLS = ("label-studio", "argilla", "prodigy", "xlsx", "csv")
LISTS: tuple[ListName, ...] = ("sample", "queue")


@click.command(epilog=example("tutelage review runs/quickstart"))
@click.argument("run", metavar="RUN")
@click.option("--reviewer", metavar="NAME", help="Who decides (default: the user's name).")
@click.option("--list", "names", multiple=True, type=click.Choice(LISTS), help="One list only (default: both).")
@click.option("--port", type=Count(65535, 0), default=0, help="The page's port (default: a free one).")
@click.option("--export", "tool", type=click.Choice(TOOLS), help="Write the rows for another tool; no page is opened.")
@click.option("-o", "--out", metavar="FILE", help="Where --export writes.")
@click.option("--rows", type=Count(1_000_000), metavar="N", help="So many rows of each list, the first ones (all).")
@click.option("--import", "files", multiple=True, metavar="FILE", help="Take in what was decided in another tool.")
@click.option("--skip-bad", is_flag=True, help="With --import: take in what can be, and count the rest.")
@address_option()
@wait_option
@quiet_option
def command(
    run: str,
    reviewer: str | None,
    names: tuple[ListName, ...],
    port: int,
    tool: str | None,
    out: str | None,
    rows: int | None,
    files: tuple[str, ...],
    skip_bad: bool,
    address: str | None,
    wait: int,
    quiet: bool,
) -> Work:
    """Label a blind sample, and correct doubtful labels.

    Opens a page on this machine, for one person. The sample says how often teacher and student are right; the queue
    has the labels that are most likely wrong. Run the spec again to learn from what was decided.
    """
    if (tool is None) != (out is None):
        raise click.UsageError("--export and -o go together: --export csv -o rows.csv")
    if tool and files:
        raise click.UsageError("--export and --import are two steps: give one of them")
    if "://" in "".join((out or "", *files)):
        raise click.UsageError("--export and --import work with files of this machine: copy them from or to elsewhere")
    who = reviewer or getpass.getuser()
    opened = partial(_opened, absolute(run), names, address, wait, quiet)
    if tool and out:
        return Work(partial(export, opened, tool, absolute(out), rows), watched=True)
    if files:
        return Work(partial(import_, opened, [absolute(file) for file in files], who, skip_bad), watched=True)
    return Work(partial(page, opened, who, port), watched=True)


@dataclass(frozen=True)
class Opened:
    """A run that is reviewed."""

    run: Folder
    spec: Spec
    lists: Lists
    names: tuple[ListName, ...]

    def items(self, rows: int | None = None) -> dict[ListName, list[Item]]:
        """The items of the lists that were asked for, the first ``rows`` of each."""
        return {name: list((self.lists.sample if name == "sample" else self.lists.queue)[:rows]) for name in self.names}


def _opened(place: str, names: tuple[ListName, ...], address: str | None, wait: int, quiet: bool) -> Opened:
    """The lists of a run; the audit that puts the queue in order is done first where it is not there yet.

    :raises UserError: when no run has finished there.
    """
    from runner.observe.progress import Progress  # spares pyarrow
    from runner.review.run_lists import open_lists, spec_of  # spares pyarrow
    from runner.rundir.folder import Folder  # spares pyarrow
    from runner.rundir.lock import locked  # spares pyarrow
    from runner.stages import pipeline  # spares ray

    run = Folder(place.rstrip("/"))
    spec = spec_of(run)
    progress = Progress(sys.stderr, progress_mode(False, quiet))
    with locked(run, progress.say):
        if pipeline.finished("audit", spec, run, asked="audit") is None:
            with ray_cluster(address, wait, spec.name) as cluster, progress.recorded(run, "review"):
                pipeline.run_stage("audit", spec, run, cluster, progress)
        places = {step.stage.NAME: step.folder for step in pipeline.steps(spec, run, asked="audit")}
        lists = open_lists(run, spec, places)
    return Opened(run, spec, lists, names or LISTS)


def page(opened: Callable[[], Opened], reviewer: str, port: int) -> int:
    """Serve the page until it is stopped; then what is to be done with what was decided."""
    from runner.review.page.server import About, serve  # spares starlette
    from runner.review.progress import Progress  # spares numpy
    from runner.review.sample import drawn  # spares numpy
    from runner.tasks.kinds import task_of  # spares pyarrow

    found = opened()
    about = About(found.spec.name, found.spec.task.instructions, task_of(found.spec).showing.question(found.spec))

    def said(address: str) -> None:
        put(f"Open {address}\nin a browser on this machine. Ctrl-C ends; every decision is kept as it is made.")

    sample = drawn(found.run)
    assert sample is not None, "the lists were opened, which draws it"
    status = Progress(found.run, found.spec, sample, found.lists.teacher)
    serve(found.run, found.items(), about, reviewer, status, port, said)
    return 0


def export(opened: Callable[[], Opened], tool: str, out: str, rows: int | None) -> int:
    """Write the rows that are still to be decided for another tool."""
    from runner.review.decisions import read  # spares pyarrow
    from runner.review.settle import rows as decided_rows  # spares pyarrow
    from runner.review.tools import TOOLS as tools  # spares pyarrow
    from runner.review.tools.answers import About  # spares pyarrow
    from runner.tasks.kinds import task_of  # spares pyarrow

    found = opened()
    known = decided_rows(read(found.run))
    items = [
        item
        for each in found.items().values()
        for item in [item for item in each if (item.list, item.id) not in known][:rows]
    ]
    question = task_of(found.spec).showing.question(found.spec)
    about = About(found.spec.name, question, found.spec.task.instructions, found.spec.teacher.model)
    for file in tools[tool].export(items, Path(out), about):
        put(str(file))
    put(f"{len(items):,} rows; take them in again with: tutelage review {found.run.url} --import FILE")
    return 0


def import_(opened: Callable[[], Opened], files: Sequence[str], reviewer: str, skip_bad: bool) -> int:
    """Take in what was decided in another tool, all of it or nothing."""
    from runner.review.decisions import Writer, read  # spares pyarrow
    from runner.review.tools.imports import import_answers  # spares pyarrow
    from runner.tasks.kinds import task_of  # spares pyarrow

    found = opened()
    items = [*found.lists.sample, *found.lists.queue]  # a file may have rows of both, whatever --list says
    question = task_of(found.spec).showing.question(found.spec)
    taken = import_answers(items, [Path(file) for file in files], question, reviewer, read(found.run), skip_bad)
    if taken.decisions:
        Writer(found.run).append(taken.decisions)
    counts = {
        "taken in": len(taken.decisions),
        "of them changed": taken.changed,
        "known before": taken.known,
        "older than what is known": taken.older,
        "without an answer": taken.open,
        "refused": len(taken.refused),
    }
    said = [f"{what}: {count:,}" for what, count in counts.items() if count or what == "taken in"]
    put("\n".join([*said, *map(str, taken.refused), *taken.notes]))
    if taken.decisions:
        put("Run the spec again to learn and measure with it: nothing is asked of the teacher.")
    return 0
