"""``tutelage validate``: check specs and their data files, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from runner.commands.group import Work, example
from runner.commands.options import json_option, set_option
from runner.commands.output import put
from runner.system.errors import SpecError
from runner.system.paths import at_home

if TYPE_CHECKING:  # spares jsonschema
    from runner.spec import Spec


@click.command(epilog=example("tutelage validate specs/*.yaml"))
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option("--deep", is_flag=True, help="Also ask vLLM, where it is installed, about teachers on GPUs: 10 to 50 s.")
@set_option
@json_option("The problems as JSON, one on each line.")
def command(specs: tuple[str, ...], deep: bool, overrides: tuple[str, ...], as_json: bool) -> Work:
    """Check specs and their data files, offline."""
    return Work(partial(validate, specs, overrides, deep, as_json))


def validate(specs: Sequence[str], overrides: Sequence[str], deep: bool, as_json: bool = False) -> int:
    """Say what is wrong with each spec: all problems at once, on stderr, or as JSON on stdout."""
    from runner.planning.files import check_spec  # spares jsonschema

    problems = []
    for path in map(at_home, specs):
        try:
            spec = check_spec(path, overrides)
            words = _asked_vllm(spec) if deep else []
        except SpecError as error:
            problems += error.problems
        else:
            if not as_json:
                put("\n".join([f"{path}: OK", *words]))
    for problem in problems:
        if as_json:
            print(json.dumps(asdict(problem)))
        else:
            put(str(problem), sys.stderr)
    return SpecError.exit_code if problems else 0


def _asked_vllm(spec: Spec) -> list[str]:
    """What vLLM says of the spec's teachers, a line each. :raises SpecError: where it refuses one."""
    from runner.teacher.engines import vllm_config  # spares vllm

    facts = vllm_config.report(spec)
    if refused := [teacher for teacher in facts if teacher["problem"]]:
        raise SpecError(
            [
                spec.places.problem(tuple(teacher["field"]), "teacher.refused-by-vllm", teacher["problem"])
                for teacher in refused
            ]
        )
    return vllm_config.lines(facts) or ["vLLM       was not asked: no teacher of this spec runs on GPUs"]
