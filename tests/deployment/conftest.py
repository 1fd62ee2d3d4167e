"""Two simulated hospitals with notes, and the study that the simulation ran on them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tests_support import fednotes

from protocols.plan import Plan
from simulations.synthetic_notes import write_export
from site_client.folder import SiteFolder

OUR_KEYS = ("name", "number", "model")


@dataclass(frozen=True)
class Simulated:
    """A finished simulation.

    Attributes:
        sites: folders as they were before the first round.
        plan: of its federated arm.
        model: the model before the first round.
        weights: after the last round.
    """

    sites: list[Path]
    plan: Plan
    model: Path
    weights: dict[str, NDArray[np.float32]]

    def site_folders(self, where: Path) -> list[SiteFolder]:
        """Copies of the sites, that nothing was trained at yet."""
        copies = []
        for path in self.sites:
            copy = where / path.name
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("checkpoints", "receipts"))
            text = (copy / "site.toml").read_text().splitlines()
            lines = [f'model = "{self.model}"' if line.startswith("model = ") else line for line in text]
            (copy / "site.toml").write_text("\n".join(lines) + "\n")
            copies.append(SiteFolder(copy))
        return copies


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    folder = tmp_path_factory.mktemp("simulated")
    write_export(folder / "notes.csv", hospitals=2, notes=300, seed=1)
    done = fednotes(
        *("simulate", "--notes", folder / "notes.csv", "--site-by", "hospital"),
        *("--scenario", "smoke", "--out", folder / "run"),
    )
    assert done.returncode == 0, done.stderr
    (study,) = (folder / "run" / "studies").iterdir()
    plan = Plan.model_validate_json((study / "plan.json").read_bytes())
    return Simulated(
        sites=sorted((folder / "run" / "sites").iterdir()),
        plan=plan,
        model=study / "model",
        weights=load_file(study / "checkpoints" / f"round-{plan.rounds:04d}" / "weights.safetensors"),
    )
