"""The table of commands: in which section of the help each stands. One file each, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import click

from runner.system.errors import did_you_mean

SECTIONS = {
    "Write and check a spec": ("init", "validate", "plan"),
    "Run": ("run", "predict", "report", "push"),
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
        command: click.Command = import_module(f"runner.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for section, names in SECTIONS.items():
            commands = [(name.ljust(width), self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl([(name, each.get_short_help_str(80)) for name, each in commands if each])
