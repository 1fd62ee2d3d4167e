"""Finding the files of a folder, in a fixed order, without leaving it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from site_client.notes.mapping import FOLDER, ColumnMapping
from site_client.notes.quarantine import Quarantine, Reason
from site_client.notes.records import Origin


def files_below(folder: Path, quarantine: Quarantine, label: Callable[[str], str]) -> Iterator[Path]:
    """Yield the files below a folder: those of a folder first, by name, then its subfolders, by name.

    Hidden files and folders are passed over. Symbolic links are quarantined, so that no loop and no file elsewhere is
    read; so are folders that may not be listed.

    Args:
        folder: where to begin.
        quarantine: where links and closed folders go.
        label: what to call one of these in the quarantine, by its path relative to ``folder``.
    """

    def set_aside(path: Path, reason: Reason) -> None:
        quarantine.add(label(source_name(folder, path)), 0, reason, "file")

    def unreadable(error: OSError) -> None:
        set_aside(Path(os.fsdecode(error.filename)), "unreadable_file")

    for parent, subfolders, files in os.walk(folder, onerror=unreadable):
        for name in sorted(subfolders):
            link = Path(parent, name)
            if link.is_symlink() and not name.startswith("."):
                set_aside(link, "link_not_followed")
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                set_aside(path, "link_not_followed")
            else:
                yield path


def source_name(folder: Path, path: Path) -> str:
    """The path of a file relative to the folder that was asked for, printable whatever bytes its name has."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


class Labels:
    """Names files for quarantine, errors and notes: by their path, or by their order where the path names a patient.

    Args:
        mapping: with ``patient_id="folder"``, what is met as the twelfth is called ``file 12``. Files, links and closed
            folders count, from one over all paths of an export.

    Example:
        >>> Labels(ColumnMapping(patient_id="folder"))("north/p1/discharge.txt")
        'file 1'
    """

    def __init__(self, mapping: ColumnMapping) -> None:
        self._hides_paths = mapping.patient_id == FOLDER
        self._number = 0

    def __call__(self, path: str) -> str:
        """Name the next file, whose path relative to the folder that was asked for is given."""
        self._number += 1
        return f"file {self._number}" if self._hides_paths else path


def place(path: str, label: str, mapping: ColumnMapping) -> Origin:
    """Read hospital and patient off the folders of a file, where the mapping says ``"folder"``.

    Args:
        path: of the file, relative to the folder that was asked for.
        label: what to call the file where people see it.
        mapping: ``group="folder"`` takes the first subfolder, ``patient_id="folder"`` the whole path to the file.

    Returns:
        The origin; a file that lies in no subfolder has neither.

    Example:
        >>> place("north/p1/discharge.txt", "file 1", ColumnMapping(group="folder")).group
        'north'
    """
    folders = path.split("/")[:-1]
    return Origin(
        source=label,
        path=path,
        group=folders[0] if folders and mapping.group == FOLDER else None,
        patient_id="/".join(folders) if folders and mapping.patient_id == FOLDER else None,
    )
