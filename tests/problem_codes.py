"""The problem codes of the package as they stand in its source, and the page about them: ``docs/errors.md``.

``make docs-errors``, or ``python -m tests.problem_codes`` in the root folder, writes the page again. A code stands
right before its message: in the call that makes the error (``DataError("data.not-found", f"{path}: no such file")``),
or in a tuple that a rule yields. In a message of the page, ``{name}`` stands for what is filled in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from pathlib import Path

from tests.problem_remedies import REMEDIES

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "runner"
PAGE = ROOT / "docs" / "errors.md"

PARTS = {
    "spec": "The spec, as `tutelage validate` and every command that takes one check it. Exit status 2; the message "
    "names line and column, or the `--set`.",
    "data": "Data files: those that the spec names, and those of `predict` and `init --data`. Found by `validate` and "
    "`plan` where the file is on this machine (exit status 2, at the field that names it), else by the run.",
    "file": "Files that a command writes.",
    "init": "What `tutelage init --data` must be told.",
    "model": "Models: names, downloads, the cache, folders.",
    "teacher": "The teacher: its engine or server, its prompt, its answers.",
    "student": "The student: training, export, runtimes.",
    "benchmark": "Costs and carbon.",
    "run": "The run folder and its storage.",
    "review": "Decisions of reviewers.",
    "report": "The report of a run.",
    "predict": "`tutelage predict`.",
    "push": "`tutelage push`.",
    "cluster": "Ray, on this machine or on a cluster.",
    "job": "Jobs that were submitted to a Ray cluster.",
    "kubernetes": "`tutelage render`.",
}
"""What comes before the dot of a code, and what it is about; the sections of the page."""

CODE = re.compile(rf"(?:{'|'.join(PARTS)})\.[a-z0-9]+(?:-[a-z0-9]+)+")

HEAD = """\
# Errors

Every problem that you can mend has a code, which stays the same when its message is reworded: scripts may rely on it.
It is the field `code` of `run_failed` and `stage_failed` in `events.jsonl` and with `--json`
([observability](observability.md)), that of each problem of `validate --json`, and the attribute `code` of an error in
Python.
A message says what is wrong, where, and what to do; here `{name}` and `…` stand for what is filled in.

The exit status is 2 where the spec or the command line is wrong, 1 for everything else here, 3 for a bug of tutelage
(which has no code: please report it with the log file that is named), and 130 for Ctrl-C.

Made from the source by `make docs-errors`; a test keeps the two equal.

"""

VERBS = (
    "accept add ask change check choose copy correct create cast download drop export fetch free give install leave "
    "let make mend move name open pip put raise remove rename restore review run save say see set shorten spell "
    "start submit take train try unpack unset upgrade use wait write"
)
ADVICE = re.compile(rf"(?:[:;.] )(?=(?:{'|'.join(VERBS.split())})\b)", re.IGNORECASE)
"""Where a message goes on with what to do."""

OPAQUE = ("value", "node")
"""Names of the source that tell a reader of the page nothing."""
DEPTH = 4


@dataclass(frozen=True)
class Site:
    """A place in the source where a code stands: ``runner/spec/load.py:67``, and the message's patterns."""

    place: str
    code: str
    messages: tuple[str, ...]


@cache
def modules() -> dict[str, ast.Module]:
    """The package's modules by dotted name."""
    files = sorted(RUNNER.rglob("*.py"))
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)
    return {name: ast.parse(file.read_text("utf-8"), str(file)) for name, file in zip(names, files, strict=True)}


@cache
def kinds() -> frozenset[tuple[str, str]]:
    """The classes of errors that carry one code, each with its module; a ``SpecError`` has those of its problems."""
    found = {("runner.system.errors", "TutelageError")}
    while True:
        more = {
            (module, node.name)
            for module, tree in modules().items()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and any(class_of(module, base) in found for base in node.bases)
        }
        if more <= found:
            return frozenset(found - {("runner.system.errors", "SpecError")})
        found |= more


def class_of(module: str, node: ast.expr) -> tuple[str, str]:
    """The module and the name of a class that an expression in ``module`` names."""
    name = node.id if isinstance(node, ast.Name) else ""
    return imports(module).get(name, module), name


@cache
def imports(module: str) -> dict[str, str]:
    """The names that a module imports from others, each with the module that has it."""
    nodes = [node for node in ast.walk(modules()[module]) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module or "" for node in nodes for alias in node.names}


def path_of(module: str) -> str:
    file = ROOT / (module.replace(".", "/") + ".py")
    return str((file if file.exists() else file.with_suffix("") / "__init__.py").relative_to(ROOT))


@cache
def sites() -> tuple[Site, ...]:
    """Every code of the package with its place and its messages, in the order of the source."""
    return tuple(_sites())


def _sites() -> Iterator[Site]:
    for module, tree in modules().items():
        if not CODE.search((ROOT / path_of(module)).read_text("utf-8")):
            continue
        words = Words(module)
        for scope, row in _rows(tree):
            for code, message in pairwise(row):
                if isinstance(code, ast.Constant) and isinstance(code.value, str) and CODE.fullmatch(code.value):
                    said = tuple(dict.fromkeys(words.of(message, scope)))
                    yield Site(f"{path_of(module)}:{code.lineno}", code.value, said)


def _rows(tree: ast.Module) -> Iterator[tuple[ast.AST, list[ast.expr]]]:
    """Arguments of calls and elements of tuples, each with the function that they stand in."""
    waiting: list[tuple[ast.AST, ast.AST]] = [(tree, tree)]
    while waiting:
        scope, node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            scope = node
        if isinstance(node, ast.Call):
            yield scope, node.args
        elif isinstance(node, ast.Tuple):
            yield scope, node.elts
        waiting += [(scope, child) for child in reversed(list(ast.iter_child_nodes(node)))]


class Words:
    """Expressions of a module as the texts that they may come to, with ``…`` for what only a run knows."""

    def __init__(self, module: str, given: Mapping[str, list[str]] | None = None) -> None:
        self._module, self._tree, self._given = module, modules()[module], given or {}

    def of(self, node: ast.expr, scope: ast.AST, depth: int = 0) -> list[str]:
        """The texts of an expression in the function ``scope``: several where it depends on a condition."""
        if isinstance(node, ast.Constant):
            return [str(node.value)] if node.value else []
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(part, scope) for part in node.values]
            return ["".join(chosen) for chosen in product(*parts)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return [a + b for a in self.of(node.left, scope, depth) for b in self.of(node.right, scope, depth)]
        if isinstance(node, ast.IfExp | ast.BoolOp):
            either = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            return [text for value in either for text in self.of(value, scope, depth)]
        if isinstance(node, ast.Name | ast.Attribute) and depth < DEPTH and (values := self._values(node, scope)):
            return [text for words, value, within in values for text in words.of(value, within, depth + 1)]
        if isinstance(node, ast.Call) and depth < DEPTH and (function := self._function(node.func)):
            words, body = self._called(node, *function, scope, depth)
            returned = [each.value for each in ast.walk(body) if isinstance(each, ast.Return) and each.value]
            return [text for value in returned for text in words.of(value, body, depth + 1)]
        return [f"{{{name}}}" if (name := _name(node)) else "…"]

    def _called(
        self, node: ast.Call, words: Words, body: ast.FunctionDef, scope: ast.AST, depth: int
    ) -> tuple[Words, ast.FunctionDef]:
        """A function with its parameters as the call gives them, where it gives texts."""
        names = [each.arg for each in body.args.args if each.arg != "self"]
        given = {name: self.of(value, scope, depth + 1) for name, value in zip(names, node.args, strict=False)}
        texts = {name: said for name, said in given.items() if any(" " in text for text in said)}
        return Words(words._module, texts), body

    def _part(self, part: ast.expr, scope: ast.AST) -> list[str]:
        if not isinstance(part, ast.FormattedValue):
            return [str(part.value)] if isinstance(part, ast.Constant) else [""]
        if isinstance(part.value, ast.Name) and part.value.id in self._given:
            return self._given[part.value.id]
        constant = isinstance(part.value, ast.Name | ast.Attribute) and _last(part.value).isupper()
        texts = self.of(part.value, scope) if constant else [f"{{{name}}}" if (name := _name(part.value)) else "…"]
        return [f"'{text}'" for text in texts] if part.conversion in (ord("r"), ord("a")) else texts

    def _values(self, node: ast.Name | ast.Attribute, scope: ast.AST) -> list[tuple[Words, ast.expr, ast.AST]]:
        """What a name is set to: in the function right before, else in its module, else where it is imported from."""
        if isinstance(node, ast.Attribute):
            source = self._module_of(node.value)
            words = Words(source) if source else None
            return [(words, value, words._tree) for value in _assigned(words._tree, node.attr)] if words else []
        if scope is not self._tree and (values := list(_assigned(scope, node.id, before=node))):
            return [(self, value, scope) for value in values]
        for words in filter(None, (self, self._imported_words(node.id))):
            if values := list(_assigned(words._tree, node.id)):
                return [(words, value, words._tree) for value in values]
        return []

    def _function(self, node: ast.expr) -> tuple[Words, ast.FunctionDef] | None:
        """The function or method that is called, where the package has it."""
        if isinstance(node, ast.Attribute):
            source = self._module_of(node.value)
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            places = [self] if of_self else [Words(source)] if source else []
            name = node.attr
        elif isinstance(node, ast.Name):
            places, name = [self, *filter(None, [self._imported_words(node.id)])], node.id
        else:
            return None
        for words in places:
            for each in ast.walk(words._tree):
                if isinstance(each, ast.FunctionDef) and each.name == name:
                    return words, each
        return None

    def _imported_words(self, name: str) -> Words | None:
        source = imports(self._module).get(name)
        return Words(source) if source in modules() else None

    def _module_of(self, node: ast.expr) -> str | None:
        """The module that ``carbon`` in ``carbon.MISSING`` is."""
        module = f"{imports(self._module).get(node.id)}.{node.id}" if isinstance(node, ast.Name) else ""
        return module if module in modules() else None


def _assigned(tree: ast.AST, name: str, before: ast.expr | None = None) -> Iterator[ast.expr]:
    """The values that a name is set to in a function or module; in a function the last one ``before`` its use, and
    those that it may replace: what is set in a deeper block may not have been."""
    assigned: list[tuple[int, int, ast.expr]] = []
    for statement in ast.walk(tree) if before is not None else ast.iter_child_nodes(tree):
        if not isinstance(statement, ast.stmt):
            continue
        if isinstance(statement, ast.Assign) and [getattr(each, "id", "") for each in statement.targets] == [name]:
            assigned.append((statement.lineno, statement.col_offset, statement.value))
        elif isinstance(statement, ast.If):
            found = (each for each in ast.walk(statement.test) if isinstance(each, ast.NamedExpr))
            assigned += [
                (statement.lineno, statement.col_offset, each.value) for each in found if each.target.id == name
            ]
    assigned.sort(key=lambda each: each[0], reverse=True)
    here = _statement(tree, before) if before is not None else None
    for line, column, value in assigned:
        if here is None or line <= here.lineno:
            yield value
            if here is None or column <= here.col_offset:
                return


def _statement(tree: ast.AST, node: ast.expr) -> ast.stmt:
    """The innermost statement of a function that an expression stands in."""
    around = (each for each in ast.walk(tree) if isinstance(each, ast.stmt) and not isinstance(each, ast.FunctionDef))
    return max(
        (each for each in around if each.lineno <= node.lineno <= (each.end_lineno or 0)), key=lambda each: each.lineno
    )


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _name(node: ast.expr) -> str:
    """What is filled in, where one word says it: a name of the source, or nothing."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("first_line", "str", "_said")
    ):
        return _name(node.args[0])
    name = _last(node) if isinstance(node, ast.Name | ast.Attribute) else ""
    return "" if name.startswith("_") or name in OPAQUE else name


def table(part: str) -> str:
    """The codes of a part: what they say, and what is to be done about it."""
    rows = ["| code | message | what to do |", "|---|---|---|"]
    for code, messages in sorted(by_code().items()):
        if code.startswith(f"{part}."):
            said = [parted(message) for message in messages]
            advice = [advice for _, advice in said] + [REMEDIES.get(code, "")]
            cells = [f"`{code}`", *(_lines(column) for column in ([wrong for wrong, _ in said], advice))]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _lines(texts: list[str]) -> str:
    return "<br>".join(dict.fromkeys(text for text in texts if text))


def by_code() -> dict[str, list[str]]:
    """The messages of each code: those that say something, where one does."""
    messages: dict[str, list[str]] = {}
    for site in sites():
        messages.setdefault(site.code, []).extend(site.messages)
    return {code: _telling(said) for code, said in messages.items()}


def _telling(messages: list[str]) -> list[str]:
    """Each message once, without a hint at its end; one that is filled in as a whole only where there is no other."""
    short = dict.fromkeys(
        re.sub(r"(?<=[^ ])(?:\{hint\}|\{more\}|\{near\}|…)$", "", message) or "…" for message in messages
    )
    return [message for message in short if re.sub(r"\{\w+\}|…", "", message).strip(" :")] or ["…"]


def parted(message: str) -> tuple[str, str]:
    """What is wrong, and what to do: the part that begins with a verb that asks for something."""
    match = ADVICE.search(message)
    if match is None:
        return message, ""
    advice = message[match.end() :]
    return message[: match.start()], (advice[0].upper() + advice[1:]).removesuffix(".") + "."


def page() -> str:
    """``docs/errors.md``."""
    parts = [f"## {part}\n\n{about}\n\n{table(part)}" for part, about in PARTS.items()]
    return HEAD + "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
