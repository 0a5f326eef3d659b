"""The plan of the package: what may stand where, who may import whom, and how large anything may be.

Read from the source alone. CONTRIBUTING.md says why; a rule that is broken is mended in the code, not here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "runner"

MOST_NAMES, MOST_LINES, MOST_FUNCTION_LINES = 20, 300, 50
"""Of ``ls runner/``, of a module, and of a function."""
MOST_LATE_IMPORTS = 15

LEARNING = (
    "student/",
    "models/gguf.py",
    "planning/hardware/meta.py",
    "tasks/multi_label/learner.py",
    "tasks/shared/classifier.py",
    "tasks/shared/linear_head.py",
    "tasks/shared/out_of_fold.py",
    "tasks/single_label/learner.py",
)
KNOWS = {
    "ray": ("cluster/",),
    "vllm": ("teacher/engines/vllm",),
    "torch": LEARNING,
    "transformers": LEARNING,
    "onnx": ("student/runtimes/",),
    "onnxruntime": ("student/runtimes/",),
    "openvino": ("student/runtimes/",),
    "codecarbon": ("economics/carbon.py",),
    "urllib3": ("teacher/engines/endpoint",),
    "starlette": ("review/page/",),
    "uvicorn": ("review/page/",),
}
"""The parts of the package that may import a heavy or outside library."""

BELOW = {
    "models": ("system", "rundir.writable"),
    "spec": ("system", "models", "data.file_kinds", "tasks.rules", "tasks.shared.label_list"),
}
"""What the spec's language and the catalog may import besides their own modules."""
OF_LABELS = r"task\.labels|\[\"labels\"\]|softmax|single[_-]label|mcnemar|confusion|\baccuracy\b|macro[_ ]f1"
"""Words that only a kind of task whose value is one of several labels has a use for."""
MAY_SAY_SO = {
    "spec/sections/evaluate.py": "published figures mirror schema.json, which names those of all kinds",
    "student/shortcuts.py": "an encoder's attention is a softmax, whatever the task",
    "student/corpus.py": "counts of each value: the field's name is that of files that are there",
    "commands/predict.py": "the same counts",
}
"""Modules outside ``tasks/`` that hold such a word, and why."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = sorted(RUNNER.rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[tuple[ast.stmt, str]]:
    """Each import statement of a module, wherever it stands, with the module that it names."""
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from ((node, name if name in modules() else node.module) for name in names)


def places(module: str, node: ast.stmt) -> str:
    return f"{modules()[module].relative_to(ROOT)}:{node.lineno}"


def test_the_package_has_few_names_at_the_top() -> None:
    names = sorted(path.name for path in RUNNER.iterdir() if path.name != "__pycache__")
    assert len(names) <= MOST_NAMES, names


def test_tests_mirror_the_package() -> None:
    """A wing with modules of its own has a folder of the same name in tests/, with tests."""
    wings = {
        module.split(".")[1]
        for module, file in modules().items()
        if file.parents[1] != ROOT and file.name != "__init__.py"
    }
    assert not {wing for wing in wings if not any((ROOT / "tests" / wing).rglob("test_*.py"))}


def test_modules_are_short() -> None:
    long = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in modules().values()}
    assert not {name: lines for name, lines in long.items() if lines > MOST_LINES}


def test_functions_are_short() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1}"
        for file in modules().values()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert not found


@pytest.mark.parametrize("library", KNOWS)
def test_a_library_is_known_in_one_place(library: str) -> None:
    found = [
        places(module, node)
        for module, file in modules().items()
        for node, name in imports(module)
        if name.split(".")[0] == library and not str(file.relative_to(RUNNER)).startswith(KNOWS[library])
    ]
    assert not found


def test_no_library_is_asked_for_behind_the_rules_back() -> None:
    asked = re.compile(r"sys\.modules(?:\.get\(|\[)\s*[\"'](\w+)")
    found = [
        f"{name}: {match[1]}"
        for name, file in modules().items()
        for match in asked.finditer(file.read_text("utf-8"))
        if match[1] in KNOWS and not str(file.relative_to(RUNNER)).startswith(KNOWS[match[1]])
    ]
    assert not found


def test_only_tasks_know_what_a_value_is() -> None:
    """Another kind of task needs no change outside ``tasks/`` but its name in the schema."""
    files = [path for pattern in ("*.py", "*.html", "*.jinja") for path in RUNNER.rglob(pattern)]
    texts = {str(path.relative_to(RUNNER)): path.read_text("utf-8") for path in files}
    found = {
        name: sorted(set(words))
        for name, text in texts.items()
        if not name.startswith("tasks/") and (words := re.findall(OF_LABELS, text, re.IGNORECASE))
    }
    assert found.keys() == MAY_SAY_SO.keys(), {name: found.get(name) for name in found.keys() ^ MAY_SAY_SO.keys()}


@pytest.mark.parametrize(("wing", "below"), BELOW.items())
def test_the_lower_wings_know_only_what_is_below_them(wing: str, below: tuple[str, ...]) -> None:
    allowed = tuple(f"runner.{name}" for name in (wing, *below))
    found = [
        places(module, node)
        for module in modules()
        if module.startswith(f"runner.{wing}.") or module == f"runner.{wing}"
        for node, name in imports(module)
        if name.startswith("runner.") and not f"{name}.".startswith(tuple(f"{each}." for each in allowed))
    ]
    assert not found


def test_no_stage_imports_another() -> None:
    stages = {f"runner.stages.{name}" for name in stage_names()}
    found = [
        places(module, node)
        for module in stages & modules().keys()
        for node, name in imports(module)
        if name in stages and name != module
    ]
    assert not found


def stage_names() -> list[str]:
    """The stages by the table, read as text: ``STAGES = (load, label, ...)``."""
    source = (RUNNER / "stages" / "pipeline.py").read_text("utf-8")
    match = re.search(r"^STAGES\b[^(]*\((?:\s*\"[^\"]*\",\s*\()?([^)]*)\)", source, re.MULTILINE)
    assert match is not None
    return [name.strip() for name in re.sub(r"#.*", "", match[1]).split(",") if name.strip()]


def test_nothing_imports_in_a_circle() -> None:
    """Imports in functions and those for types count as well."""
    edges = {module: {name for _, name in imports(module) if name in modules()} for module in modules()}
    state: dict[str, int] = {}

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert state.get(module) != 1, " -> ".join([*way[way.index(module) :], module])
        if state.get(module) == 2:
            return
        state[module] = 1
        for name in sorted(edges[module] - {module}):
            walk(name, (*way, module))
        state[module] = 2

    for module in edges:
        walk(module, ())


def test_imports_in_functions_are_few_and_say_which_library_they_spare() -> None:
    """The command line is spared: each command loads what it needs, so that ``--help`` is fast."""
    late = [
        (module, node)
        for module in modules()
        for node in {node for node, name in imports(module) if name in modules()}
        if node.col_offset and not module.startswith("runner.commands")
    ]
    lines = {module: modules()[module].read_text("utf-8").splitlines() for module, _ in late}
    spared = "|".join([*KNOWS, "scikit-learn", "scipy", "matplotlib", "datasets"])
    bare = [
        places(module, node)
        for module, node in late
        if not re.search(rf"#.*\b({spared})\b", "\n".join(lines[module][node.lineno - 2 : node.end_lineno]))
    ]
    assert not bare
    assert len(late) < MOST_LATE_IMPORTS, [places(*each) for each in late]


def test_system_knows_nothing_of_the_pipeline() -> None:
    allowed = ("runner.system", "runner.tasks.shared")
    found = [
        places(module, node)
        for module in modules()
        if module.startswith("runner.system") and module != "runner.system.doctor"
        for node, name in imports(module)
        if name.startswith("runner.") and not name.startswith(allowed)
    ]
    assert not found
