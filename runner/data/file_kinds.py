"""How rows are stored in a file: what its name says, what its first bytes say, and its text, decoded.

A name decides how a file is read; its first bytes tell packed files, and files that are something else than their
name says, for which there is advice instead of the first error that a parser would meet. Reads bytes, knows no rows.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

from runner.system.errors import DataError

LONGEST_BYTES = 2**26
"""Of a line, and of a cell: what is longer (a file of zeros that was packed, a quote that nobody closed) is refused
before it fills the memory."""

TEXT_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
ENDINGS = {**TEXT_ENDINGS, ".parquet": "parquet", ".xlsx": "xlsx"}
KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
PACKED = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz"}
"""Endings that may follow those of text formats."""

READABLE = ".csv, .tsv, .jsonl, .json, .parquet or .xlsx (.gz, .bz2, .zst or .xz may follow the text formats)"

BUFFER = 2**20
LOOKED_AT = 4096
GUESSED_BYTES = 2**16
READINGS = 3
"""Of a line that is not UTF-8, to choose from."""
_COMMON = frozenset(
    ["big5", "cp932", "cp949", "euc_jp", "euc_kr", "gb18030", "koi8_r", "shift_jis", *(f"cp125{n}" for n in range(9))]
)
"""Character sets that texts are in; a guess that is none of them is a wrong one."""

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
}
_SAVE = "save it as CSV in UTF-8"
_SOMETHING_ELSE = (
    (b"version https://git-lfs", "a pointer of Git LFS, and not the file itself: fetch it with `git lfs pull`"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"a workbook in Excel's old format: save it as .xlsx, or {_SAVE}"),
    (b"%PDF-", f"a PDF document: {_SAVE}, or another format with columns"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"ORC", "an ORC file: write it as Parquet"),
    (b"Obj\x01", "an Avro file: write it as Parquet"),
    (b"SQLite format 3\x00", f"an SQLite database: {_SAVE}, or another format with columns"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNMARKED = {
    "utf-16-le": re.compile(rb"([\x01-\x7f]\x00){4}"),
    "utf-16-be": re.compile(rb"(\x00[\x01-\x7f]){4}"),
}
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that stand for no character in any encoding whose lines end with a single byte."""
_NO_CHARACTER_SETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}


def stored_as(path: str, chosen: str = "auto") -> str | None:
    """``csv``, ``tsv``, ``jsonl``, ``json``, ``parquet``, ``xlsx`` or ``hub``: what was chosen, or with ``auto`` what
    the ending says. None when the ending says nothing.
    """
    if chosen != "auto":
        return chosen
    bare, packed = without_packing(path.lower())
    return next((kind for end, kind in (TEXT_ENDINGS if packed else ENDINGS).items() if bare.endswith(end)), None)


def without_packing(path: str) -> tuple[str, str | None]:
    """A file's name without the ending that says how it is packed, and that (``gzip``)."""
    for ending, packing in PACKED.items():
        if path.lower().endswith(ending):
            return path[: -len(ending)], packing
    return path, None


def is_encoding(name: str) -> bool:
    """Whether Python knows a character set of this name."""
    try:
        known = codecs.lookup(name).name.replace("-", "_") not in _NO_CHARACTER_SETS
        b"a".decode(name, "ignore")  # of nothing, Python decodes anything: hex and rot13 too
    except (LookupError, UnicodeError, ValueError):
        return False
    return known


class _Again(io.RawIOBase):
    """A stream from its beginning, after some of it has been read."""

    def __init__(self, begun: bytes, rest: Any) -> None:
        # What can be unpacked of a file that breaks off comes before the error.
        self._begun, self._read = begun, getattr(rest, "read1", rest.read)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What was read already comes first."""
        if self._begun:
            part, self._begun = self._begun[: len(buffer)], self._begun[len(buffer) :]
        else:
            part = self._read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


def _begun(stream: Any) -> tuple[bytes, io.BufferedReader]:
    """The first bytes of a stream, and the stream from its beginning."""
    head, read = b"", getattr(stream, "read1", stream.read)
    try:
        while len(head) < LOOKED_AT and (more := read(LOOKED_AT - len(head))):
            head += more
    except (OSError, EOFError, zlib.error):
        if not head:  # else it comes again, behind the rows that there are
            raise
    return head, io.BufferedReader(_Again(head, stream), BUFFER)


def unpacked(stream: Any, name: str) -> tuple[bytes, io.BufferedReader]:
    """The first bytes of a text file and all of it, unpacked where its first bytes say that it is packed.

    :raises DataError: when it is something else than text.
    :raises OSError: when its name says that it is packed, and it is not.
    """
    head, stream = _begun(stream)
    promised = without_packing(name)[1]
    packing = next((kind for kind, magic in _MAGIC.items() if magic.match(head)), None)
    # What is something else is not packed wrongly, but said below.
    if promised and packing is None and head and not something_else(head, name):
        raise OSError(f"Not a {'gzipped' if promised == 'gzip' else promised} file: take the ending off its name")
    if packing:
        head, stream = _begun(_opener(packing)(stream))
        if any(magic.match(head) for magic in _MAGIC.values()):
            raise DataError("data.packed-twice", f"{name}: this is packed twice: unpack it once")
    if else_ := something_else(head, name):
        raise DataError("data.format-unreadable", f"{name}: this is {else_}")
    return head, stream


def _opener(packing: str) -> Any:
    if packing == "gzip":
        return lambda stream: gzip.GzipFile(fileobj=stream, mode="rb")
    if packing == "zstd":
        import pyarrow as pa  # only now: few files are packed so

        return lambda stream: pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
    if packing == "xz":
        import lzma

        return lzma.LZMAFile
    return bz2.BZ2File


def something_else(head: bytes, name: str) -> str:
    """What a file that begins with ``head`` is, and what to do, where it is no text; empty where it may be."""
    for magic, said in _SOMETHING_ELSE:
        if head.startswith(magic):
            return said
    if head.startswith(b"PAR1"):
        return "a Parquet file: let its name end in .parquet, or set format: parquet"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if b"opendocument" in head[:200]:
            return f"an OpenDocument file: save it as .xlsx, or {_SAVE}"
        if any(name in head for name in (b"[Content_Types].xml", b"docProps/", b"xl/")):
            return f"a workbook of Excel, or another file of Office: let its name end in .xlsx, or {_SAVE}"
        return "a zip archive: unpack it, or pack the file with gzip"
    if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
        return "a page in HTML, as servers send it instead of a file: fetch the file itself"
    return ""


def decoded_lines(head: bytes, stream: BinaryIO, name: str, encoding: str | None) -> Iterator[str]:
    """The lines of a text file with their ends; a byte that is not of its encoding is an error, not a guess.

    Without ``encoding`` it is what a byte order mark at its beginning says, and else UTF-8. Lines end at LF, or at CR
    where there is no LF at the file's beginning.
    """
    chosen = _encoding(head, encoding, name)
    if encoding is None and (order := next((name for name, start in _UNMARKED.items() if start.match(head)), None)):
        advice = f"say so (encoding: {order}), or save it as UTF-8"
        raise DataError("data.utf16-unmarked", f"{name}: this is UTF-16 without its mark: {advice}")
    if not _bytes_are_lines(chosen):
        yield from _lines_of_text(stream, name, chosen)
        return
    lines = _lines_by_cr(stream) if b"\r" in head and b"\n" not in head else None
    lines = lines or iter(partial(stream.readline, LONGEST_BYTES + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_BYTES:
            raise _too_long(name, number)
        try:
            yield line.decode(chosen if number == 1 else chosen.removesuffix("-sig"))
        except UnicodeDecodeError as error:
            why = _undecoded(line, error, chosen, head)
            raise DataError("data.not-decodable", f"{name}:{number}: {why}") from error


def _encoding(head: bytes, encoding: str | None, file: str) -> str:
    """UTF-16 and UTF-32 without a mark of their order are read as Python reads them, if they are asked for."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is None:
        return marked or "utf-8"
    name = codecs.lookup(encoding).name
    if marked is None:
        return "utf-8-sig" if name == "utf-8" else name
    family = marked.removesuffix("-sig")
    if not name.startswith(family):
        raise DataError(
            "data.encoding-conflict",
            f"{file}: it begins with the mark of {family.upper()}, and encoding says {encoding}: leave encoding out, "
            "or name such files apart",
        )
    return marked


def _bytes_are_lines(encoding: str) -> bool:
    """Whether a line can be cut out of the bytes before they are decoded."""
    name = codecs.lookup(encoding).name
    if name.startswith(("utf-7", "iso2022", "hz", "utf-16", "utf-32")):
        return False
    return "\r\n".encode(encoding.removesuffix("-sig")) == b"\r\n"


def _lines_by_cr(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(BUFFER):
        *lines, rest = (rest + block).split(b"\r")
        yield from (line + b"\r" for line in lines)
        if len(rest) > LONGEST_BYTES:
            break
    if rest:
        yield rest


def _lines_of_text(stream: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Lines of encodings in which a line end is not one byte; an error knows its line only about."""
    text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
    number = 0
    try:
        for line in iter(partial(text.readline, LONGEST_BYTES + 1), ""):
            number += 1
            if len(line) > LONGEST_BYTES:
                raise _too_long(name, number)
            yield line
    except UnicodeError as error:
        why = f"not {encoding} from about line {number + 1} on: {error}"
        raise DataError("data.not-decodable", f"{name}: {why}") from error


def _too_long(name: str, number: int) -> DataError:
    return DataError(
        "data.line-too-long",
        f"{name}:{number}: a line of more than {LONGEST_BYTES // 2**20} MiB, which is no text to classify; "
        "see that this is the right file, and that it has line ends",
    )


def _undecoded(line: bytes, error: UnicodeDecodeError, encoding: str, head: bytes) -> str:
    """What is wrong, and how to find out what the encoding is: only whoever sees the text can tell."""
    byte = f"byte 0x{line[error.start]:02x}"
    if not encoding.startswith("utf-8"):
        return f"not {encoding} ({byte}); see that this is the file's encoding"
    if _NO_TEXT.search(head + line):
        return f"not UTF-8 ({byte}), and no text at all: it has bytes that no text has; see that this is the right file"
    read: dict[str, str] = {}
    for name in ("cp1252", *_guess(line)):
        with suppress(UnicodeDecodeError):
            place = len(line[: error.start].decode(name, errors="ignore"))
            found = line.decode(name)[max(0, place - 20) : place + 20].strip()
            if found not in read.values() and len(read) < READINGS:
                read[name] = found
    ways = " or ".join(f"encoding: {name} reads {text!r}" for name, text in read.items()) or "encoding: NAME"
    return f"not UTF-8 ({byte}); save the file as UTF-8 (iconv -f NAME -t utf-8), or say what it is: {ways}"


def _guess(line: bytes) -> list[str]:
    """The character sets that a line may be in, the likeliest first, to be shown to whoever can read it."""
    import charset_normalizer  # few files need it, and every command would wait for it

    cut = max(line.rfind(mark, 0, GUESSED_BYTES) for mark in (b" ", b",", b"\t")) if len(line) > GUESSED_BYTES else -1
    found = charset_normalizer.from_bytes(line[:cut] if cut > 0 else line[:GUESSED_BYTES])
    return [match.encoding for match in found if match.encoding in _COMMON]
