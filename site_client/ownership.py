"""Whose files are whose, where a site's programs run as users of their own.

Root may write into a folder that the gateway's user owns; what it leaves there has to be readable by that user.
"""

from __future__ import annotations

import os
from pathlib import Path


def give_to_owner_of(folder: Path, *paths: Path) -> None:
    """Give paths to the owner of a folder, where this process is root; elsewhere they have the right owner already."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in paths:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
