"""What a submitted job runs: ``python -m runner.cluster.entry``, in the folder that ``bundle.py`` packed.

Whatever Python the cluster has reads this file, so that it must parse in older ones, and imports nothing that may not
be there before it has looked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

PYTHON = ((3, 11), (3, 13))
NEEDED = ("ray", "pyarrow", "fsspec", "yaml", "jsonschema", "torch", "transformers", "tokenizers", "jinja2", "sklearn")
"""Of the cluster's image: the code of tutelage itself comes along, what it stands on does not."""


def main() -> int:
    """Run the job; the exit status is that of `tutelage run`."""
    if problem := _unfit():
        print("tutelage: " + problem, file=sys.stderr)
        return 1
    with open("job.json", encoding="utf-8") as handle:
        job = json.load(handle)
    os.environ.update(job["environment"])
    from runner.commands.cli import main as run  # imports what NEEDED names: pyarrow, ray, ...

    # As on a command line: `tutelage stop` reaches the job as SIGTERM, and it lets go of the run folder first.
    sys.argv[1:] = job["arguments"]
    return run()


def _unfit() -> str:
    """Why the job cannot run here; empty when it can."""
    version = ".".join(map(str, sys.version_info[:2]))
    if not PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]:
        return (
            f"the cluster's `python` is {version}, and tutelage needs 3.11 to 3.13: use another image, "
            "or put the right one first on the PATH of the head node"
        )
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        return (
            f"the cluster's `python` ({sys.executable}) lacks {', '.join(lacking)}: install tutelage's requirements on "
            "all nodes, and have their environment first on the PATH of the head node when `ray start` is called"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
