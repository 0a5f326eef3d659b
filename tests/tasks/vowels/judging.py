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


def judge(spec, rows, answers):
    verdicts = {}
    for id_, records in by_row(answers[0]).items():
        read = [Count().read(record["text"] or "") for record in records]
        votes = [vote for vote in read if vote is not None]
        middle = statistics.median(votes) if votes else None
        sure = middle is not None and middle == int(middle)
        verdicts[id_] = {"label": int(middle) if sure else None, "votes": read, "reason": None if sure else "tie"}
    labelled = [row for row in rows if verdicts.get(row["id"], {}).get("label") is not None]
    if not labelled:
        raise DataError("teacher.nothing-answered", "the teacher counted nothing")
    mean = statistics.mean(verdicts[row["id"]]["label"] for row in labelled)
    return Judgement(verdicts, {"rows": len(rows), "abstained": len(verdicts) - len(labelled), "mean_count": mean})
