"""Finding the files of a folder, in a fixed order, without leaving it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from site_client.notes.mapping import FOLDER, ColumnMapping
from site_client.notes.quarantine import Quarantine
from site_client.notes.records import Origin


def files_below(folder: Path, quarantine: Quarantine) -> Iterator[Path]:
    """Yield the files below a folder: those of a folder first, by name, then its subfolders, by name.

    Hidden files and folders are passed over. Symbolic links are quarantined, so that no loop and no file elsewhere is
    read; so are folders that may not be listed.
    """

    def unreadable(error: OSError) -> None:
        quarantine.add(source_name(folder, Path(os.fsdecode(error.filename))), 0, "unreadable_file", "file")

    for parent, subfolders, files in os.walk(folder, onerror=unreadable):
        for name in sorted(subfolders):
            link = Path(parent, name)
            if link.is_symlink() and not name.startswith("."):
                quarantine.add(source_name(folder, link), 0, "link_not_followed", "file")
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                quarantine.add(source_name(folder, path), 0, "link_not_followed", "file")
            else:
                yield path


def source_name(folder: Path, path: Path) -> str:
    """The path of a file relative to the folder that was asked for, printable whatever bytes its name has."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def place(source: str, mapping: ColumnMapping) -> Origin:
    """Read hospital and patient off the folders of a file, where the mapping says ``"folder"``.

    Args:
        source: path of the file relative to the folder that was asked for.
        mapping: ``group="folder"`` takes the first subfolder, ``patient_id="folder"`` the whole path to the file.

    Returns:
        The origin; a file that lies in no subfolder has neither.

    Example:
        >>> place("north/p1/discharge.txt", ColumnMapping(group="folder")).group
        'north'
    """
    folders = source.split("/")[:-1]
    return Origin(
        source=source,
        group=folders[0] if folders and mapping.group == FOLDER else None,
        patient_id="/".join(folders) if folders and mapping.patient_id == FOLDER else None,
    )
