"""Options that several commands share, and the values that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runner.data.file_kinds import is_encoding

Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE_SECONDS = 300


class Count(click.ParamType[int]):
    """A whole number between two bounds."""

    name = "count"

    def __init__(self, most: int, least: int = 1) -> None:
        self.most, self.least = most, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit()) or not self.least <= int(text) <= self.most:
            self.fail(f"expected an integer from {self.least} to {self.most}, got {text!r}", param, ctx)
        return int(text)


class Share(click.ParamType[float]):
    """A probability."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"expected a probability from 0 to 1, got {value!r}", param, ctx)
        return share


class Encoding(click.ParamType[str]):
    """The name of a character set."""

    name = "encoding"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_encoding(value):
            self.fail(f"there is no character set {value!r}: name one such as cp1252 or shift_jis", param, ctx)
        return str(value)


class Delimiter(click.ParamType[str]):
    """One character; a tab may be written as ``\\t``."""

    name = "delimiter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        character = "\t" if value == r"\t" else str(value)
        if len(character) != 1 or character in '"\r\n\0':
            self.fail(f"expected one character such as ';' or '\\t', got {value!r}", param, ctx)
        return character


def spec_argument(function: Function) -> Function:
    return click.argument("spec", metavar="SPEC")(function)


def set_option(function: Function) -> Function:
    return click.option(
        "--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field of the spec."
    )(function)


def runs_dir_option(function: Function) -> Function:
    return click.option(
        "--runs-dir",
        default="runs",
        show_default=True,
        metavar="DIR|URL",
        help="Where runs are kept: a folder or a URL.",
    )(function)


def json_option(words: str = "One JSON object a line, the result last.") -> Callable[[Function], Function]:
    return click.option("--json", "as_json", is_flag=True, help=words)


def quiet_option(function: Function) -> Function:
    return click.option("--quiet", is_flag=True, help="No progress, only the result.")(function)


def address_option(words: str = "(default: Ray in this process)") -> Callable[[Function], Function]:
    return click.option("--address", metavar="auto|HOST:PORT", help=f"A running Ray cluster {words}.")


def wait_option(function: Function) -> Function:
    return click.option(
        "--wait",
        type=Count(86_400, 0),
        default=PATIENCE_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long a cluster may take to bring up nodes that are asked for.",
    )(function)


def dashboard_option(function: Function) -> Function:
    return click.option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard (default: RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265).",
    )(function)
