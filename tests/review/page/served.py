"""The page of a small job in a process of its own, for tests that kill it, fill its disk, or show it in a browser.

``python served.py RUN REVIEWER PLAN``: the plan is a JSON object with ``sample`` and ``queue`` (lists of fields of
items; the number N stands for N rows), ``labels``, and what else a test needs. Prints the address.
"""

import json
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any

from runner.review.lists import Item
from runner.review.page.server import About, Status, serve
from runner.rundir.folder import Folder
from runner.system import signals
from runner.tasks.shared.shown import Choice, Question


def items(name: Any, rows: int | Sequence[dict[str, Any]]) -> list[Item]:
    if isinstance(rows, int):
        rows = [{"text": f"Text {number} of the {name}."} for number in range(rows)]
    return [Item(**({"list": name, "id": f"{name}-{number}"} | row)) for number, row in enumerate(rows)]


def question(labels: Sequence[str], several: bool = False) -> Question:
    return Question("choices" if several else "choice", tuple(Choice(label, label) for label in labels))


def main(run: str, reviewer: str, plan: dict[str, Any]) -> None:
    if "file_bytes" in plan:  # a disk that is full: writes beyond fail
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan["file_bytes"], resource.RLIM_INFINITY))
    if plan.get("watch_connections"):
        sys.addaudithook(
            lambda event, arguments: print("connects", arguments[1], flush=True) if event == "socket.connect" else None
        )
    status = Status(plan.get("status", ""), bool(plan.get("enough")))
    serve(
        Folder(run),
        {name: items(name, plan.get(name, 0)) for name in ("sample", "queue")},
        About(
            plan.get("name", "a job"),
            plan.get("instructions", ""),
            question(plan.get("labels", ["no", "yes"]), plan.get("several", False)),
        ),
        reviewer,
        status=lambda name: status,
        port=plan.get("port", 0),
        opened=lambda address: print(address, flush=True),
    )


if __name__ == "__main__":
    with signals.listening():
        try:
            main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
        except KeyboardInterrupt as stop:
            signals.left(stop)
            sys.exit(signals.SIGNALLED + signals.received())
