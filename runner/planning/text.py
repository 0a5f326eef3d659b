"""A plan as text for people."""

from __future__ import annotations

from typing import Any

from runner.observe.progress import clock
from runner.planning.plan import Plan
from runner.teacher.engines import vllm_config

NAME_WIDTH = 11
"""Of the column with the names of a plan's rows."""


def plan_text(plan: Plan, show_prompt: bool = False) -> str:
    """The plan as plain lines, with the whole prompt of one row where that is asked for."""
    lines = [f"{name:<{NAME_WIDTH}}{value}" for name, value in plan_rows(plan)]
    if show_prompt:
        for turn in plan.teacher.get("prompt", []):
            lines += ["", f"[{turn['role']}]", turn["content"]]
    return "\n".join(lines)


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """The plan as pairs of a name and a value; the name is empty where a row goes on with the one before."""
    lines = ["stages     " + " > ".join(s["name"] + (" (kept)" if s["cached"] else "") for s in plan.stages)]
    lines.append("rows       {train} train, {test} test; {dropped} dropped".format(**plan.rows))
    for teacher in [plan.teacher, *plan.teacher.get("also", [])]:
        lines += _teacher_lines(teacher)
    lines += vllm_config.lines(plan.vllm)
    if budget := plan.teacher.get("budget"):
        lines.append(_budget_line(budget, several="also" in plan.teacher))
    student = plan.student
    tried = f", after {student['trials']} trials" if student["trials"] else ""
    epochs = "a head on the encoder as it is" if student["trainings"] == ["head"] else f"{student['epochs']} epochs"
    recipe = f"{epochs}, recipe {student['recipe']}{tried}"
    lines.append(f"student    {student['model']}{_absent(student)}, {recipe}")
    lines.append(f"           about {clock(student['hours'] * 3600)} ({student['basis']}){_cost(student)}")
    if (apply := plan.apply) is not None:
        counted = "an unknown number of" if apply["rows"] is None else f"about {apply['rows']:,}"
        spent = "" if apply["hours"] is None else f", {clock(apply['hours'] * 3600)} ({apply['basis']}){_cost(apply)}"
        lines.append(f"apply      {counted} texts of the corpus{spent}")
    lines += [f"note       {note}" for note in plan.notes]
    lines += [f"problem    {problem}" for problem in plan.problems]
    return [(line[:NAME_WIDTH].rstrip(), line[NAME_WIDTH:]) for line in lines]


def estimate_line(plan: Plan) -> str:
    """The plan's times and costs in one line."""
    parts = []
    for name, part in (("teacher", plan.teacher), ("student", plan.student), ("apply", plan.apply)):
        for estimate in (part, *part.get("also", [])) if part else ():
            if estimate.get("hours") is not None:
                said = _with_replicas(estimate) if name == "teacher" else ""
                said += f" ({estimate['basis']}){_after_start(estimate)}{_cost(estimate)}"
                parts.append(f"{name} about {clock(estimate['hours'] * 3600)}{said}")
    return "; ".join(parts)


def _teacher_lines(teacher: dict[str, Any]) -> list[str]:
    if teacher["engine"] == "recorded":
        return [f"teacher    recorded answers of {teacher['model']}: nothing is generated"]
    tokens = teacher["prompt_tokens"]
    options = ", ".join(f"{name}={value}" for name, value in teacher["engine_options"].items())
    lines = [
        f"teacher    {teacher['model']}{_absent(teacher)}",
        f"           {teacher['generate']} rows to label, {teacher['reuse']} answers already there",
        f"           {tokens['fixed']} shared prompt tokens, about {tokens['per_row']} a row "
        f"({tokens['counted']}), "
        f"{teacher['output_tokens_per_row']} generated{_asked_again(teacher)}",
        f"           vLLM: {options}",
        f"           memory: {teacher['memory']['arithmetic']}",
        f"           about {clock(teacher['hours'] * 3600)}{_with_replicas(teacher)} ({teacher['basis']})"
        f"{_after_start(teacher)}{_cost(teacher)}, "
        f"{teacher['kwh']:.2g} kWh" + (f", {teacher['gpu_hours']:.2g} GPU-hours" if teacher["gpu_hours"] else ""),
    ]
    return lines


def _after_start(teacher: dict[str, Any]) -> str:
    """How long the engine takes to start, which is often longer than the labelling; nothing where it is not known."""
    start = teacher.get("start_hours")
    return f", after about {clock(start * 3600)} in which the engine starts" if start else ""


def _with_replicas(teacher: dict[str, Any]) -> str:
    """How many replicas a time is of; nothing where there is one."""
    replicas = teacher["replicas"]
    least, most = replicas["at_work"], replicas["at_work_most"]
    if most == 1 == replicas["held"]:
        return ""
    said = f" with {least} replica{'s' if least > 1 else ''} at work"
    return said + (f", {clock(teacher['hours'] * 3600 * least / most)} with {most}" if most > least else "")


def _budget_line(budget: dict[str, float], several: bool) -> str:
    whole, left = budget["hours"] * 3600, budget["left_hours"] * 3600
    of_all = " of all teachers together" if several else ""
    rest = "" if left == whole else f", of which {clock(left)} are left"
    return f"budget     labelling stops after {clock(whole)}{of_all}{rest} (teacher.budget)"


def _asked_again(teacher: dict[str, Any]) -> str:
    """What rows cost that take more than one request."""
    if teacher["prompt_tokens"]["read_again"] == 0:
        return ""
    number, most = teacher["requests_per_row"], teacher["requests_per_row_most"]
    requests = f"{number} requests" if number == most else f"about {number:.2g} requests"
    up_to = "" if number == most else f" (at most {most})"
    return (
        f"; {requests} a row{up_to}, one wherever the answers' tokens part, which read about "
        f"{teacher['prompt_tokens']['read_again']} tokens more"
    )


def _absent(part: dict[str, Any]) -> str:
    return "" if part["present"] else " (not on this machine: will be fetched)"


def _cost(part: dict[str, Any]) -> str:
    return f", USD {part['usd']:.2f}" if part["usd"] is not None else ""
