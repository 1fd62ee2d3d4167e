"""The one place where raw notes enter a site: export files and folders in, a stream of RawNote out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from privacy.note_types import RawNote
from protocols.errors import UsageError
from site_client.notes.delimited import read_csv, read_tsv
from site_client.notes.folders import Labels, files_below, place, source_name
from site_client.notes.json_lines import read_json_lines
from site_client.notes.kinds import SUPPORTED, Kind, detect_kind
from site_client.notes.mapping import FOLDER, ColumnMapping
from site_client.notes.parquet import read_parquet
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import Origin
from site_client.notes.sources import DamagedSourceError
from site_client.notes.text_files import read_text_file

_Reader = Callable[[Path, Origin, ColumnMapping, Quarantine], Iterator[RawNote]]

_READERS: dict[Kind, _Reader] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_json_lines,
    "parquet": read_parquet,
    "text": read_text_file,
}


def read_notes(
    paths: Sequence[Path], *, mapping: ColumnMapping | None = None, quarantine: Quarantine
) -> Iterator[RawNote]:
    """Read the notes of export files and folders, one at a time.

    Args:
        paths: CSV, TSV, JSON lines (plain or gzip), Parquet or text files, or folders of these. A folder is read
            recursively, in a fixed order.
        mapping: columns by field; fields left None, or all of them, are guessed for each file.
        quarantine: where records go that cannot be read; reading goes on behind them.

    Returns:
        A stream of notes. ``source`` is the name of the file, or its path relative to the folder that was named;
        sources of one name are told apart as in ``notes#2.csv``. Where folders stand for patients, a path would give
        a patient away, and ``source`` is as in ``file 12``, in the order of reading. ``position`` is a line number
        in JSON lines, else a record number.

    Raises:
        UsageError: at once, if a path does not exist or a named file is of no supported kind; while reading, if a
            named file, or every file of a folder, lacks the columns.
        WorkError: while reading, at the first fault, if the quarantine is strict.
    """
    for path in paths:
        _check(path)
    return _read_all(list(dict.fromkeys(paths)), mapping or ColumnMapping(), quarantine)


def _check(path: Path) -> None:
    """Refuse what cannot be read whatever it holds; what may be a fault of the file is left to the reading."""
    try:
        path.stat()
        supported = path.is_dir() or detect_kind(path) is not None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(f"There is no file or folder {path}.", hint="check the spelling of the path.") from None
    except (OSError, DamagedSourceError):
        return
    if not supported:
        raise UsageError(
            f"{path} is of no kind that can be read as notes.",
            hint=f"supported are {SUPPORTED}; the kind is told by the end of the name, then by the first bytes.",
        )


def _read_all(paths: Sequence[Path], mapping: ColumnMapping, quarantine: Quarantine) -> Iterator[RawNote]:
    seen: Counter[str] = Counter()
    label = Labels(mapping)
    for path in paths:
        if _is_folder(path):
            yield from _read_folder(path, mapping, quarantine, seen, label)
        else:
            name = _distinct(source_name(path.parent, path), seen)
            yield from _read_file(path, Origin(source=label(name), path=name), mapping, quarantine)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it lies in a folder that may not be entered; opening it will say so
        return False


def _read_folder(
    folder: Path, mapping: ColumnMapping, quarantine: Quarantine, seen: Counter[str], label: Labels
) -> Iterator[RawNote]:
    """Read every file of a folder; a file without the columns of a note is set aside, unless there is no other."""
    columns = replace(
        mapping,
        group=None if mapping.group == FOLDER else mapping.group,
        patient_id=None if mapping.patient_id == FOLDER else mapping.patient_id,
    )
    any_fits = False
    misfit = UsageError(f"{folder} holds no file that can be read as notes.", hint=f"supported are {SUPPORTED}.")
    for path in files_below(folder, quarantine, label):
        name = _distinct(source_name(folder, path), seen)
        origin = place(name, label(name), mapping)
        try:
            any_fits |= yield from _read_file(path, origin, columns, quarantine)
        except UsageError as error:
            quarantine.add(origin.source, 0, "no_text_column", "file")
            misfit = error
    if not any_fits:
        raise misfit


def _read_file(
    path: Path, origin: Origin, mapping: ColumnMapping, quarantine: Quarantine
) -> Generator[RawNote, None, bool]:
    """Read one file; what ends its reading early goes to the quarantine. Returns whether it is of a supported kind."""
    try:
        kind = detect_kind(path)
        if kind is None:
            quarantine.add(origin.source, 0, "unsupported_file", "file")
            return False
        yield from _READERS[kind](path, origin, mapping, quarantine)
    except DamagedSourceError as damage:
        quarantine.add(origin.source, damage.position, damage.reason, damage.unit)
    except OSError:
        quarantine.add(origin.source, 0, "unreadable_file", "file")
    return True


def _distinct(source: str, seen: Counter[str]) -> str:
    """Number the sources of one name, as ``<path>:<position>`` and the names of text files identify notes."""
    seen[source] += 1
    path = PurePosixPath(source)
    return source if seen[source] == 1 else str(path.with_stem(f"{path.stem}#{seen[source]}"))
