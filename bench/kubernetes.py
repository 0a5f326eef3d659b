"""GPU-hours that a job's stages use, of those that Ray's autoscaler buys for it on KubeRay: simulated.

    python bench/kubernetes.py

Ray's own autoscaler and KubeRay's own provider, over a simulated cluster, and the runner's own pipeline: see
`tests/kubernetes/autoscaler_life.py`. The published case as it is rendered for GKE, with its own rows and with a
million; labelling takes as long as `tutelage plan` says. "up" counts a pod from when Ray runs in it, "bought" from its
creation, so with the five minutes in which a node starts. What the cloud keeps a node for after its last pod, ten
minutes by default on GKE, is in neither.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from common import keep

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "kubernetes.json"
sys.path += [str(ROOT), str(ROOT / "tests" / "kubernetes")]

AT_LEAST = 0.8
"""Of the GPU-hours: not more than 1.25 are bought for each that is used."""
ROWS = (2259, 1_000_000)


def tiny_student(folder: Path) -> Path:
    """A random encoder: what it learns is of no interest."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from runner import models

    tokenizer = AutoTokenizer.from_pretrained(models.ensure("catalog:all-minilm-l6-v2"), local_files_only=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def lived(rows: int, student: Path, foresight: bool) -> Any:
    """The life of the published case with so many rows, as it is rendered or with all nodes asked for at once."""
    from simulated_job import everything_at_once, headline, live, planned, rendered_cluster

    lengths, replicas = planned(rows)
    cluster = rendered_cluster()
    with tempfile.TemporaryDirectory() as folder:
        spec = headline(Path(folder), student)
        return live(
            spec, Path(folder), lengths, cluster if foresight else everything_at_once(cluster), replicas=replicas
        )


def row(name: str, ours: int, peer: int, ratio: float, rows: int, at_least: float | None) -> dict[str, Any]:
    """A comparison, in GPU-hours."""
    result: dict[str, Any] = {"name": name, "ours": ours / 3600, "peer": peer / 3600, "ratio": ratio}
    return result | {"at_least": at_least, "rounds": 1, "rows": rows}


def compare(rows: int, student: Path) -> list[dict[str, Any]]:
    """What is used of what is bought, and what would be bought by a job that asks for everything at once."""
    life, before = (lived(rows, student, foresight) for foresight in (True, False))
    used, up, bought = (life.gpu_seconds(of) for of in ("used", "up", "bought"))
    wasted = before.gpu_seconds("bought")
    print(f"{rows:19,}" + "".join(f"{seconds / 3600:8.2f}" for seconds in (used, up, bought, wasted)))
    # A node takes longer to start than the published case needs it: no scaling gets around that.
    most = AT_LEAST if rows > ROWS[0] else None
    return [
        row("GPU-hours used, of those that pods are up", used, up, used / up, rows, AT_LEAST),
        row("GPU-hours used, of those bought", used, bought, used / bought, rows, most),
        row("GPU-hours bought, against all nodes asked for at once", bought, wasted, wasted / bought, rows, 1.2),
    ]


def main() -> None:
    import torch

    torch.set_num_threads(1)
    print("GPU-hours      rows    used      up  bought  bought by asking for all at once")
    with tempfile.TemporaryDirectory() as folder:
        student = tiny_student(Path(folder))
        keep([result for rows in ROWS for result in compare(rows, student)], OUT)


if __name__ == "__main__":
    main()
