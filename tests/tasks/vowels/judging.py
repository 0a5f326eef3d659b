"""The votes' median; an even number of votes that part in the middle abstains."""

import statistics

import pyarrow as pa

from runner.system.errors import DataError
from runner.tasks.protocol import Judgement
from runner.teacher.batch import by_row
from vowels.asking import Count

COLUMNS = (pa.field("label", pa.int64()), pa.field("votes", pa.list_(pa.int64())), pa.field("reason", pa.string()))


def key(spec):
    return {"median": 1}


def certain(spec, value):
    return {"label": value, "reason": None}


def verdicts(spec, rows, answers):
    found = {}
    for id_, records in by_row(answers[0]).items():
        read = [Count().read(record["text"] or "") for record in records]
        votes = [vote for vote in read if vote is not None]
        middle = statistics.median(votes) if votes else None
        sure = middle is not None and middle == int(middle)
        found[id_] = {"label": int(middle) if sure else None, "votes": read, "reason": None if sure else "tie"}
    return found


def judge(spec, rows, answers):
    found = verdicts(spec, rows, answers)
    labelled = [row for row in rows if found.get(row["id"], {}).get("label") is not None]
    if not labelled:
        raise DataError("teacher.nothing-answered", "the teacher counted nothing")
    mean = statistics.mean(found[row["id"]]["label"] for row in labelled)
    return Judgement(found, {"rows": len(rows), "abstained": len(found) - len(labelled), "mean_count": mean})
