"""Small generated exports and finished runs that the end-to-end tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests_support import fednotes

from simulations.synthetic_notes import write_export


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated hospitals in one CSV."""
    path = tmp_path_factory.mktemp("export") / "notes.csv"
    write_export(path, hospitals=3, notes=450, seed=1)
    return path


@pytest.fixture(scope="session")
def finished(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of one finished smoke run; tests may read it and must not change it."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    done = fednotes("simulate", "--notes", export, "--site-by", "hospital", "--scenario", "smoke", "--out", out)
    assert done.returncode == 0, done.stderr
    return out
