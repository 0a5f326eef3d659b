"""The table of commands: in which section of the help each stands. One file each, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from keyword import iskeyword

import click

from runner.system.errors import did_you_mean

SECTIONS = {
    "Write and check a spec": ("init", "validate", "try", "plan"),
    "Run": ("run", "review", "predict", "report", "push"),
    "Jobs of a Ray cluster": ("submit", "status", "logs", "stop"),
    "Kubernetes": ("render",),
    "This machine": ("models", "doctor"),
}


def example(words: str) -> str:
    """The end of a command's help, on one line however long it is."""
    return f"\b\nexample: {words}"


@dataclass(frozen=True)
class Work:
    """What a command is to do, once its options are known to be good; ``do`` returns the exit status.

    What may start Ray is ``watched`` over by a process of its own.
    """

    do: Callable[[], int]
    watched: bool = False


class Commands(click.Group):
    """Loads a command's module when the command is asked for, and shows the commands in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in self.list_commands(ctx):
            ctx.fail(f"there is no command {cmd_name!r}{did_you_mean(cmd_name, self.list_commands(ctx))}")
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"runner.commands.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            with click.Context(command, ctx, info_name=name) as context:
                rest = list(_checked(context, command.get_params(context), rest))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for section, names in SECTIONS.items():
            commands = [(name.ljust(width), self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl([(name, each.get_short_help_str(80)) for name, each in commands if each])


def _checked(context: click.Context, parameters: list[click.Parameter], words: list[str]) -> Iterator[str]:
    """The words of a command, where no option takes another for its value, as click would let it; ``-o=FILE`` as
    ``-o FILE``.

    :raises click.BadParameter: for ``--runs-dir --json`` and ``--probe=-3``.
    """
    options = [each for each in parameters if isinstance(each, click.Option)]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    valued = {name for option in options if not option.is_flag and not _optional(option) for name in option.opts}
    optional = {name for option in options if _optional(option) for name in option.opts}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            yield from (word, *rest)
            return
        if word[2:3] == "=" and word[:2] in valued:
            yield from (word[:2], word[3:])
            continue
        name, _, value = word.partition("=")
        if name in optional and value.startswith("-"):  # click would take the value for an option
            raise click.BadParameter(f"expected a value, got {value!r}", context, param_hint=repr(name))
        yield word
        if word in valued and rest:
            if rest[0] == "--" or rest[0].partition("=")[0] in known:
                raise click.BadParameter(f"expected a value, got {rest[0]!r}", context, param_hint=repr(word))
            yield rest.pop(0)


def _optional(option: click.Option) -> bool:
    """Whether an option may stand without its value: ``--probe [ROWS]``."""
    return isinstance(option.flag_value, int | str)
