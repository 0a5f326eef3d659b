"""What this machine's GPUs do with the runner, as one dated record: `make bench-gpu`.

    python bench/gpu.py [--record OUT] [--minutes 15] [--rehearse] [--only teacher,student]
    python bench/gpu.py --compare A.json B.json

About fifteen minutes, offline, on any NVIDIA GPU. The largest teacher that `plan` says fits, and one of 1.5 B: start
of the engine, prompts `direct` and `cot` with three votes, rows and generated tokens a second, against `vllm.LLM.chat`
with its defaults and with our options; requests in the engine on average, processor time a row, the share of prompts
out of the cache, memory beside what `plan` says. The student in fp16 and bf16 against `transformers`. Models that are
not here are stood in for by ones of their size without weights (`load_format: dummy`): answers say nothing then.

Each part is a process of its own with a time limit; a part that fails or is late is left out with its reason.
Without a GPU nothing is measured, and what can be computed is printed. `--rehearse` goes the same way on the processor
with tiny random models: it shows that the bench works, its figures say nothing of any GPU, and the record says so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_computed
import gpu_teacher
from gpu_machine import here
from gpu_models import TEACHERS, TINY_TEACHER, Teacher, teacher

FORMAT = 1
OUT = Path(__file__).resolve().parent / "out" / "gpu-{date}.json"
CONTENDERS = ("ours", "chat", "careful")
PARTS = ("teacher", "student")
REHEARSED = "a rehearsal on the processor with tiny random models: no figure here says anything of a GPU"
USABLE = 0.9
"""Of a GPU's memory, for weights and one context."""
FULL = {"rows": 64, "most_rows": 8192, "seconds": 20.0, "max_tokens": 128}
SHORT = {"rows": 4, "most_rows": 4, "seconds": 0.0, "max_tokens": 16}
STUDENT = {"tiny": False, "train_rows": 2048, "predict_rows": 8192, "rounds": 2}
TINY_STUDENT = {"tiny": True, "train_rows": 32, "predict_rows": 32, "rounds": 1}


@dataclass
class Session:
    """One run of the bench: until when it may go on, and what it has found."""

    end: float
    rehearsal: bool
    record: dict[str, Any]
    left_out: list[str] = field(default_factory=list)

    def part(self, name: str, job: dict[str, Any], who: str) -> dict[str, Any] | None:
        """What a part of the bench found; None where it failed or there was no time, with the reason in the record."""
        left = self.end - time.monotonic()
        if left < 20:
            self.left_out.append(f"{who}: no time was left (--minutes)")
            return None
        print(f"{who} ...", flush=True)
        start = time.monotonic()
        found, reason = _run(name, job, left)
        print(f"    {reason or 'done'}, {time.monotonic() - start:.0f} s", flush=True)
        if reason:
            self.left_out.append(f"{who}: {reason}")
        return found


def _run(name: str, job: dict[str, Any], seconds: float) -> tuple[dict[str, Any] | None, str | None]:
    """A part in a process of its own; what it found, or why there is nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        command = [sys.executable, __file__, "--part", name, "--job", json.dumps(job), "--record", str(out)]
        with open(Path(scratch) / "said", "w+", encoding="utf-8", errors="replace") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return None, f"not done within the {seconds:.0f} s that were left"
            finally:
                _end(process)
            said.seek(0)
            lines = [line.strip() for line in said.read().splitlines() if line.strip()]
        if not out.exists():
            return None, f"ended with status {status}: {_cause(lines)}"
        return json.loads(out.read_text(encoding="utf-8")), None


def _cause(lines: list[str]) -> str:
    """The last line that names an error, else the last line."""
    errors = [line for line in lines if "Error: " in line]
    return ([*lines, *errors] or ["no word"])[-1][:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started: an engine that is left would keep the GPU's memory."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def teachers(session: Session, machine: dict[str, Any], scratch: Path) -> None:
    """The largest teacher that fits and the smallest, each with all contenders."""
    for one, gpus in _chosen(session, machine, scratch):
        job, real = _job(session, machine, scratch, one, gpus)
        found: dict[str, Any] = {"name": one.name, "gpus": gpus, "weights": "real" if real else "random"}
        found["plan"] = session.part("plan", job, f"{one.name}: what plan says")
        for contender in CONTENDERS:
            found[contender] = session.part("teacher", job | {"contender": contender}, f"{one.name}: {contender}")
        found["ratios"] = gpu_teacher.rates([part for name in CONTENDERS if (part := found[name])], real)
        session.record["teachers"].append(found)


def _job(
    session: Session, machine: dict[str, Any], scratch: Path, one: Teacher, gpus: int
) -> tuple[dict[str, Any], bool]:
    model, real = teacher(one, scratch)
    job = {"model": model, "real": real, "gpus": gpus, "kind": machine["kind"]}
    return job | (SHORT if session.rehearsal else FULL), real


def _chosen(session: Session, machine: dict[str, Any], scratch: Path) -> Iterator[tuple[Teacher, int]]:
    """Teachers and their numbers of GPUs: the first that fits, and the smallest."""
    if session.rehearsal:
        yield TINY_TEACHER, 0
        return
    *larger, smallest = TEACHERS
    for one in larger:
        for gpus in (number for number in (1, 2, 4, 8) if number <= machine["count"]):
            job, _ = _job(session, machine, scratch, one, gpus)
            said = session.part("plan", job, f"{one.name} on {gpus}: whether it fits")
            if said is None:
                continue
            # Of a kind that plan does not know, the memory is what the driver says.
            short = said["memory"]["need_gib"] > USABLE * gpus * machine["gpu_gib"]
            if not said["problems"] and not short:
                yield one, gpus
                yield smallest, 1
                return
            session.left_out.append(f"{one.name} on {gpus}: {[*said['problems'], said['memory']['arithmetic']][0]}")
    yield smallest, 1


def students(session: Session) -> None:
    """The student in both half precisions."""
    job = TINY_STUDENT if session.rehearsal else STUDENT
    session.record["student"] = session.part("student", job, "student")


def measure(options: argparse.Namespace, machine: dict[str, Any]) -> dict[str, Any]:
    """Measure, and return the record."""
    start = time.monotonic()
    record: dict[str, Any] = {"format": FORMAT, "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    record |= {"what": REHEARSED if options.rehearse else "measured on GPUs", "rehearsal": options.rehearse}
    record |= {"machine": machine, "teachers": [], "student": None}
    session = Session(start + 60 * options.minutes, options.rehearse, record)
    if machine["kind"] is None and not options.rehearse:
        session.left_out.append(f"{machine['product']}: a kind that plan does not know; what fits is not checked")
    with tempfile.TemporaryDirectory() as scratch:
        if "student" in options.only:
            students(session)
        if "teacher" in options.only:
            teachers(session, machine, Path(scratch))
    return record | {"left_out": session.left_out, "minutes": round((time.monotonic() - start) / 60, 1)}


def figures(record: dict[str, Any]) -> dict[str, float]:
    """All numbers that were measured, by where they stand."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, bool):
            return
        if isinstance(value, int | float):
            yield path, float(value)
        elif isinstance(value, dict):
            for name, one in value.items():
                yield from walk(one, f"{path} > {name}" if path else name)

    named = {f"{one['name']} on {one['gpus']}, {one['weights']}": one for one in record["teachers"]}
    parts = {name: {key: one[key] for key in one if key not in ("plan", "gpus")} for name, one in named.items()}
    return dict(walk({**parts, "student": record["student"]}, ""))


def compare(paths: list[str]) -> list[str]:
    """Two records beside each other, as lines; what only one of them has stands at the end."""
    records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    lines = []
    for letter, path, one in zip("AB", paths, records, strict=True):
        machine = one["machine"]
        gpus = f"{machine['count']} x {machine.get('product')}" if machine["count"] else machine["cpu"]
        lines.append(f"{letter}: {path}, {one['date']}, {gpus}, {one['what']}")
    if records[0]["rehearsal"] != records[1]["rehearsal"]:
        lines.append("one of them is a rehearsal: nothing follows from a comparison")
    one, other = map(figures, records)
    for name in (name for name in one if name in other):
        ratio = f"{other[name] / one[name]:8.2f}" if one[name] else "       -"
        lines.append(f"{one[name]:14.4g}{other[name]:14.4g}{ratio}  {name}")
    for letter, mine, theirs in (("A", one, other), ("B", other, one)):
        lines += [f"only {letter}: {name} {mine[name]:.4g}" for name in mine if name not in theirs]
    return lines


def _part(name: str, job: dict[str, Any]) -> dict[str, Any]:
    import gpu_student

    parts = {"plan": gpu_teacher.planned, "teacher": gpu_teacher.run, "student": gpu_student.run}
    return here() if name == "machine" else parts[name](job)  # in a process of its own: it makes a CUDA context


def main() -> int:
    """Run the bench, or compare two records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--record", metavar="OUT", help="a JSON file; {date} becomes the day (bench/out/gpu-{date}.json)"
    )
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"))
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rehearse", action="store_true", help="on the processor, with tiny random models")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), metavar=",".join(PARTS))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compare:
        print("\n".join(compare(options.compare)))
        return 0
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    out = Path((options.record or str(OUT)).replace("{date}", time.strftime("%Y-%m-%d")))
    if options.part:
        out.write_text(json.dumps(_part(options.part, options.job)), encoding="utf-8")
        return 0
    if options.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    machine, reason = _run("machine", {}, 120)
    if machine is None:
        parser.error(f"this machine could not be looked at: {reason}")
    if not options.rehearse and not machine["count"]:
        print(
            "torch sees no GPU here: nothing is measured, and this is computed (--rehearse tries the bench without one)"
        )
        print("\n".join(gpu_computed.lines()))
        return int(options.record is not None)  # a record was asked for, and there is none
    record = measure(options, machine)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join([f"{value:14.4g}  {name}" for name, value in figures(record).items()]))
    print("\n".join([f"left out: {reason}" for reason in record["left_out"]]))
    print(f"{record['what']}; {record['minutes']} minutes; {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
