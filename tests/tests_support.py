"""Paths and small helpers that several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FEDNOTES_DATA", REPOSITORY.parent / "shared" / "data"))
PACKAGES = ("protocols", "privacy", "modeling", "site_client", "server", "simulations")


def fednotes(*arguments: object, cwd: Path | None = None, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Type a command and wait for it."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, timeout=timeout)


def command(*arguments: object) -> list[str]:
    """The words of a command, run by this interpreter."""
    return [sys.executable, "-m", "fednotes", *map(str, arguments)]


def source_files() -> list[Path]:
    """All modules that ship."""
    return sorted([REPOSITORY / "fednotes.py", *(f for p in PACKAGES for f in (REPOSITORY / p).rglob("*.py"))])
