"""How far a review has come, in a sentence for the page, and whether it is enough."""

from __future__ import annotations

from runner.review.decisions import ListName, read
from runner.review.lists import Lists
from runner.review.page.server import Status
from runner.review.settle import rows
from runner.rundir.folder import Folder
from runner.spec import Spec


def status(run: Folder, spec: Spec, lists: Lists, name: ListName) -> Status:
    """Of the queue: how many labels were changed. Of the sample: how sure the teacher's figure is by now."""
    decided = {id_: row for (which, id_), row in rows(read(run)).items() if which == name}
    if name == "queue":
        teacher = {item.id: item.value for item in lists.queue}
        changed = sum(row.value is not None and row.value != teacher.get(id_) for id_, row in decided.items())
        return Status(f"{len(decided):,} checked, {changed:,} of them changed" if decided else "")
    return Status("")
