"""The kinds of tasks besides a few labels, in one table: 150 labels, and several labels at once.

    python bench/tasks.py            # what two cores can do in about an hour; less data where it says so
    python bench/tasks.py --full     # every row, three seeds, the larger encoder: hours without a GPU

TUTELAGE_DATA names the folder with clinc150 and go_emotions; a part whose data is missing is left out, with a word.
Gold labels are recorded teachers, but for the first part, which asks a teacher of 1.5 B parameters. Each part can be
run by itself (bench/tasks_*.py), with options of its own. Kept in bench/out/tasks.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tasks_direct
import tasks_labels
import tasks_multi
from common import keep

OUT = Path(__file__).resolve().parent / "out"
SOME_ROWS, SMALL = 6_000, "catalog:all-minilm-l6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every row of every data set")
    full = parser.parse_args().full
    results = tasks_direct.cases()
    results += tasks_labels.cases()
    if full:
        results += tasks_labels.all_rows(None, seeds=3, student=tasks_labels.STUDENT, epochs=3)
        emotions = tasks_multi.cases()
    else:
        emotions = tasks_multi.cases(SOME_ROWS, SMALL, seeds=1, recipe="head")
    results += [result | {"at_least": tasks_multi.AT_LEAST[result["name"]] if full else None} for result in emotions]
    if not results:
        sys.exit("no data: set TUTELAGE_DATA to the folder that holds clinc150/ and go_emotions/")
    for result in results:
        print(f"{result['name']:<72} {result['ours']:.4f} {result['peer']:.4f} {result['ratio']:.3f}")
    keep(results, OUT / "tasks.json")


if __name__ == "__main__":
    sys.path.insert(0, str(OUT.parent.parent))
    main()
