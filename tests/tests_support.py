"""Paths and small helpers that several tests share."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FEDNOTES_DATA", REPOSITORY.parent / "shared" / "data"))
PACKAGES = ("protocols", "privacy", "modeling", "site_client", "server", "simulations")


def fednotes(*arguments: object, cwd: Path | None = None, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Type a command and wait for it."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, timeout=timeout)


def command(*arguments: object) -> list[str]:
    """The words of a command, run by this interpreter."""
    return [sys.executable, "-m", "fednotes", *map(str, arguments)]


def fednotes_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: the same ``main``, without the seconds that loading torch takes.

    For commands that end before Flower starts; the umask that a command sets is put back by a fixture.
    """
    import fednotes as root

    words = ["fednotes", *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
    ):
        try:
            root.main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def source_files() -> list[Path]:
    """All modules that ship."""
    return sorted([REPOSITORY / "fednotes.py", *(f for p in PACKAGES for f in (REPOSITORY / p).rglob("*.py"))])
