"""The further the students' counts are from the teacher's, the more doubtful it is."""

import numpy as np
import pyarrow as pa

COLUMNS = (pa.field("opinion", pa.int64()), pa.field("consensus", pa.int64()))


def key(spec):
    return {"counts": "vowels"}


def learned(verdicts):
    return np.array([verdict["label"] is not None for verdict in verdicts], dtype=bool)


def targets(spec, verdicts):
    return np.array([[verdict["label"] or 0] for verdict in verdicts], dtype=np.float32)


def findings(spec, verdicts, opinions):
    mean = np.nanmean(opinions, axis=0)[:, 0]
    found = []
    for verdict, count in zip(verdicts, mean.tolist(), strict=True):
        label = verdict["label"]
        doubt = 1.0 if label is None else min(1.0, abs(label - count) / 2)
        found.append({"doubt": doubt, "opinion": round(count), "consensus": round(count) if label is None else label})
    return found


def agreed(verdict, finding):
    return {**verdict, "label": finding["consensus"]}
