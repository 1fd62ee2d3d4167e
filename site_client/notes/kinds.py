"""Telling what kind of file an export is: by the end of its name, then by its first bytes."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

from site_client.notes.sources import DamagedSourceError, open_source

Kind = Literal["csv", "tsv", "jsonl", "parquet", "text"]

SUPPORTED = "CSV, TSV and JSON lines (plain or .gz), Parquet, and folders of these or of .txt files"

_BY_SUFFIX: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
}
_COMPRESSIBLE: frozenset[Kind] = frozenset({"csv", "tsv", "jsonl"})
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_HEAD = 512  # [bytes]; white space may come before the first brace


def detect_kind(path: Path) -> Kind | None:
    """Tell the kind of a file.

    Returns:
        The kind, or None when no reader can read the file.

    Raises:
        DamagedSourceError: the file is empty, not UTF-8, or a broken archive from its first byte on.
        OSError: the file cannot be opened.
    """
    if not path.is_file():  # a pipe or a device could be waited for without end
        return None
    kind = kind_of_name(path.name)
    if kind in ("text", "parquet"):
        return kind
    try:
        with open_source(path) as stream:
            head = stream.read1(_HEAD)
    except EOFError:
        raise DamagedSourceError("truncated_archive", 1, "line") from None
    except zlib.error:
        raise DamagedSourceError("damaged_archive", 1, "line") from None
    if not head:
        raise DamagedSourceError("empty_file")
    if head.startswith(_UTF16_MARKS):
        raise DamagedSourceError("bad_utf8")
    if kind is not None:
        return kind
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.removeprefix(_UTF8_MARK).lstrip().startswith(b"{") else None


def kind_of_name(name: str) -> Kind | None:
    """The kind that a file name promises; None where it says nothing.

    Example:
        >>> kind_of_name("NOTEEVENTS.csv.gz")
        'csv'
    """
    path = Path(name.lower())
    if path.suffix == ".gz":
        kind = _BY_SUFFIX.get(Path(path.stem).suffix)
        return kind if kind in _COMPRESSIBLE else None
    return _BY_SUFFIX.get(path.suffix)
