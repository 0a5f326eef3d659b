"""Integers that stand for names: the ``ClassLabel`` columns of data sets made with Hugging Face's ``datasets``.

Their names stand in the parquet file's own metadata, or in the features of a data set from the Hub. A cell of such a
column is its name: the integer says nothing that another file of the same data set need mean by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runner.system.errors import DataError

METADATA = b"huggingface"


def names_in_parquet(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of each ``ClassLabel`` column, by the schema's metadata; none where it says nothing."""
    try:
        features = json.loads((metadata or {}).get(METADATA, b"{}"))["info"]["features"]
        found = {str(column): _of_class(feature) for column, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {column: names for column, names in found.items() if names and _are_names(names)}


def _of_class(feature: Any) -> Any:
    """The names of a ``ClassLabel``, or of the items of a list of them in each of the forms that `datasets` wrote."""
    if isinstance(feature, list):
        return _of_class(feature[0]) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") in ("Sequence", "LargeList", "List"):
        return _of_class(feature.get("feature"))
    return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def with_names(cells: Sequence[Any], classes: Sequence[Sequence[str] | None], place: str) -> tuple[Any, ...]:
    """A row's cells, those of classes by their names. :raises DataError: for an integer that has none."""
    return tuple(
        cell if names is None else _named(cell, names, place) for cell, names in zip(cells, classes, strict=True)
    )


def _named(value: object, names: Sequence[str], place: str) -> object:
    if isinstance(value, list):
        return [_named(one, names, place) for one in value]
    if isinstance(value, float) and value.is_integer():  # a column with gaps, written by pandas
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value == -1:  # what `datasets` writes where there is no label
        return None
    if not 0 <= value < len(names):
        raise DataError(
            "data.class-unnamed",
            f"{place}: the class {value} has no name: the file's metadata names 0 to {len(names) - 1} "
            f"({', '.join(names[:12])}{', ...' if len(names) > 12 else ''}); mend the file",
        )
    return names[value]


def _are_names(names: object) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)


def number_of(name: str, column: str, files: Iterable[Mapping[str, Sequence[str]]]) -> int | None:
    """The integer that stands for ``name`` in ``column`` of one of the ``files``, for a message."""
    return next((names[column].index(name) for names in files if name in names.get(column, ())), None)
