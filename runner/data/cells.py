"""How a cell of a data file becomes text: one rule for all formats. Which label a text is, is not decided here.

==============================  =================================================================
text                            as it is; half a surrogate pair becomes U+FFFD
null, NaN                       empty
whole numbers, truth values     as JSON writes them
other numbers                   as the file writes them, where it is a text file
bytes                           decoded as UTF-8, or refused
an object of JSON, a struct     JSON, in columns of recorded answers (probabilities); refused elsewhere
lists                           JSON, in columns of answers of tasks whose values are lists; refused elsewhere
dates, times, decimals          refused: there is more than one way to write them
==============================  =================================================================
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")

_ADVICE = "write it as text, in the form that shall be read"

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((list, tuple), "a list"),
    (dict, "an object"),
    (datetime.datetime, "a date with time"),
    (datetime.date, "a date"),
    (datetime.time, "a time"),
    (datetime.timedelta, "a duration"),
    (decimal.Decimal, "a decimal"),
)


class Number(float):
    """A number of a text file that keeps how it was written: ``1.10`` stays ``1.10``."""

    written: str

    def __new__(cls, written: str) -> Number:
        """From JSON's spelling of it."""
        number = super().__new__(cls, written)
        number.written = written
        return number


def text_of(value: object, structured: bool = False, lists: bool = False) -> str:
    """The text of one cell; ``structured`` columns may hold objects, with ``lists`` lists too, which stay JSON.

    :raises ValueError: when it has no text of its own, with what it is and what to do.
    """
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("\ufffd", value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    if structured and isinstance(value, (dict, list) if lists else dict):
        return text_of(_json(value))
    raise ValueError(f"{kind_of(value)}, which is no text: {_ADVICE}")


def kind_of(value: object) -> str:
    """What a value is called in messages."""
    named = next((name for kinds, name in _KINDS if isinstance(value, kinds)), None)
    return named or f"a value of type {type(value).__name__}"


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    if isinstance(value, Number):
        return value.written
    if math.isinf(value):
        raise ValueError(f"an infinite number, which is no text: {_ADVICE}")
    return repr(value)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes that are not UTF-8 (byte 0x{raw[error.start]:02x}): decode the column first") from None


def _json(value: dict[Any, Any] | list[Any]) -> str:
    try:
        return json.dumps(_without_nulls(value), ensure_ascii=False)
    except (TypeError, ValueError):
        what = "a list" if isinstance(value, list) else "an object"
        raise ValueError(f"{what} that JSON cannot hold: {_ADVICE}") from None


def _without_nulls(value: Any) -> Any:
    """Null members are left out: a struct of parquet has all fields in every row. Those of lists stay."""
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


def arrow_without_text(kind: Any, structured: bool = False, lists: bool = False) -> str:
    """What an Arrow column of type ``kind`` holds instead of text, as a noun; empty where its cells have one."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return arrow_without_text(kind.value_type, structured)
    if structured and lists and any(is_list(kind) for is_list in _list_types()):
        return arrow_without_text(kind.value_type, structured, lists)
    if hasattr(kind, "extension_name") and kind.extension_name != "arrow.json":
        return f"values of type {kind}"
    fine = [types.is_string, types.is_large_string, types.is_string_view, types.is_null, types.is_boolean]
    fine += [types.is_integer, types.is_floating, types.is_binary, types.is_large_binary, types.is_binary_view]
    fine += [types.is_fixed_size_binary, *([types.is_struct] if structured else [])]
    known = hasattr(kind, "extension_name") or any(is_fine(kind) for is_fine in fine)
    return "" if known else f"values of type {kind}"


def _list_types() -> tuple[Any, ...]:
    import pyarrow.types as types

    return types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
