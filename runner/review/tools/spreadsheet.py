"""Workbooks of Excel: answers from a drop-down, a header that stays, ids in hidden columns.

Every cell is text, never a formula, a number or a date. What a cell cannot hold is written so that nothing is lost:
control characters as ``_x0007_`` (ECMA-376, part 1, 22.9.2.19), which spreadsheet programs read as that character, and
texts over 32,767 UTF-16 units in several columns (``text``, ``text 2`` ...).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from runner.data.cells import text_of
from runner.data.tables import positions
from runner.data.workbook import check_workbook
from runner.review.lists import Item
from runner.review.tools.answers import About, Answer, Unreadable
from runner.review.tools.cells import MORE, NEEDED, answer_of, columns_of, row_of
from runner.review.tools.choices import Choices
from runner.review.tools.files import new, write
from runner.system.errors import DataError, UserError

NAME = "xlsx"

CELL = 32_767
"""Characters of a cell: of UTF-16 for Excel, of what is written for openpyxl, which cuts without a word."""
_ESCAPED = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_PIECE, _SPLIT = 512, 6
"""A long text is measured by so many characters; what an escape that stands across two of them in the text adds."""
_COLUMNS = 16_384
_TEXT = re.compile(r"text( \d+)?")
"""The columns that a text is split over."""
_WIDTHS = {"text": 80, "reason": 60, "teacher": 16, "label": 16, "reviewer": 16}
_HIDDEN = ("list", "id")


def export(items: Sequence[Item], target: Path, about: About) -> list[Path]:
    """Write one workbook; see :class:`runner.review.tools.answers.Tool`. Needs openpyxl."""
    openpyxl, target = _openpyxl(), new(target, ".xlsx")
    choices = Choices(about.question)
    answers = [*choices.offered, choices.skip]
    parts = [_parts(item.text) for item in items]
    texts = ["text", *(f"text {number}" for number in range(2, max(map(len, parts), default=1) + 1))]
    columns = [*texts, *columns_of(items)[1:]]
    if len(columns) > _COLUMNS:
        raise UserError(
            "review.text-too-long", f"{target}: a text has {len(texts)} times what a cell holds: export to csv instead"
        )
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("review")
    _lay_out(sheet, columns, len(items), len(answers), choices.several)
    rows = _Rows(sheet, len(columns))
    rows.append(columns)
    for item, pieces in zip(items, parts, strict=True):
        cells = {name: _escaped(cell) for name, cell in row_of(item, choices).items()}
        cells |= dict(zip(texts, pieces, strict=False))
        rows.append([cells.get(column, "") for column in columns])
    listed = _Rows(book.create_sheet("answers"), 1)
    for name in answers:
        listed.append([_escaped(name)])
    if about.instructions:
        told = _Rows(book.create_sheet("instructions"), 1)
        for line in about.instructions.splitlines():
            for piece in _parts(line):
                told.append([piece])
    buffer = io.BytesIO()
    book.save(buffer)
    return [write(target, buffer.getvalue())]


def read(path: Path) -> Iterator[Answer | Unreadable]:
    """The answers of a workbook. :raises DataError: when it is none, is broken, or a column is missing."""
    openpyxl = _openpyxl()
    try:
        file = io.BytesIO(path.read_bytes())
        check_workbook(file, path.name)
        book = openpyxl.load_workbook(file, read_only=True)
        sheet = book["review"] if "review" in book.sheetnames else book.worksheets[0]
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = sheet.iter_rows()
        header = [str(cell.value or "") for cell in next(rows, ())]
        positions(path.name, header, NEEDED)
        ours = [column in (*NEEDED, *MORE) or _TEXT.fullmatch(column) is not None for column in header]
        for number, cells in enumerate(rows, start=2):
            if any(cell.value is not None for cell in cells):
                named = dict(compress(zip(header, cells, strict=False), ours))
                yield _answer(f"{path.name}, row {number}", named)
    except OSError as error:
        raise DataError(
            "data.not-readable", f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error
    except (KeyError, ValueError, IndexError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "data.workbook-broken",
            f"{path.name}: no workbook, or a broken one ({error}): the file may have been cut off; get it again",
        ) from error


def _answer(place: str, cells: Mapping[str, Any]) -> Answer | Unreadable:
    texts: dict[str, str] = {}
    for column, cell in cells.items():
        if cell.data_type == "f":
            return Unreadable(place, f"column {column!r} holds a formula: write what it stands for")
        try:
            texts[column] = _unescaped(text_of(cell.value))
        except ValueError as error:
            return Unreadable(place, f"column {column!r} holds {error} (a spreadsheet program has converted it)")
    whole = "".join(text for column, text in texts.items() if _TEXT.fullmatch(column))
    return answer_of(place, {"label": "", "list": "", "id": ""} | texts | {"text": whole})


def _openpyxl() -> Any:
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            "review.openpyxl-missing", "workbooks need openpyxl: pip install 'tutelage[xlsx]', or use csv"
        ) from None
    return openpyxl


class _Rows:
    """Appends rows of text. The cells of a write-only sheet are written at once, so that they can be used again."""

    def __init__(self, sheet: Any, columns: int) -> None:
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Alignment

        self._sheet, self._cells = sheet, [WriteOnlyCell(sheet) for _ in range(columns)]
        for cell in self._cells:
            cell.number_format, cell.quotePrefix = "@", True
            cell.alignment = Alignment(wrap_text=True, vertical="top")

    def append(self, texts: Sequence[str]) -> None:
        """Add a row; what openpyxl takes for a formula or an error is text all the same."""
        for cell, text in zip(self._cells, texts, strict=True):
            cell.value = text or None
            if text:
                cell.data_type = "s"
        self._sheet.append(self._cells)


def _lay_out(sheet: Any, columns: Sequence[str], rows: int, answers: int, several: bool) -> None:
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    sheet.freeze_panes = "A2"
    for number, column in enumerate(columns, start=1):
        dimensions = sheet.column_dimensions[get_column_letter(number)]
        dimensions.width, dimensions.hidden = _WIDTHS.get(column, 12), column in _HIDDEN
    offered = DataValidation(type="list", formula1=f"answers!$A$1:$A${answers}", allow_blank=True)
    offered.error, offered.errorTitle, offered.showErrorMessage = "Choose one of the list.", "No answer", True
    if several:  # a cell holds as many names as apply, which no list offers: it may hold anything, and says how
        offered = DataValidation(allow_blank=True)
        offered.promptTitle, offered.showInputMessage = "Labels", True
        offered.prompt = "One or several of those on the sheet answers, with ; between them."
    letter = get_column_letter(columns.index("label") + 1)
    offered.add(f"{letter}2:{letter}{rows + 1}")
    sheet.data_validations.append(offered)


def _parts(text: str) -> list[str]:
    """What the cells hold that a text is split over, as it is written; none of them is too long."""
    escaped = _escaped(text)
    if _cost(escaped) <= CELL:
        return [escaped]
    parts, size = [""], 0
    for piece in (text[at : at + _PIECE] for at in range(0, len(text), _PIECE)):
        size += _cost(_escaped(piece)) + _SPLIT
        if size > CELL:
            parts.append("")
            size = _cost(_escaped(piece)) + _SPLIT
        parts[-1] += piece
    return list(map(_escaped, parts))


def _cost(written: str) -> int:
    """How much of a cell a written text takes, in UTF-16 units."""
    return len(written.encode("utf-16-le", "surrogatepass")) // 2


def _escaped(text: str) -> str:
    """A text as it is written into XML; an underscore that would be read as an escape is one itself."""
    return _ESCAPED.sub(lambda match: f"_x{ord(match.group()):04X}_", text)


def _unescaped(cell: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), cell)
