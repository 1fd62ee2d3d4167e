"""Simulated hospitals with notes, and the same study on Flower's simulation engine, to compare a deployed one with."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from protocols.plan import Plan
from server.state import ServerFolder
from simulations.federation import run_federated
from simulations.synthetic_notes import write_export
from site_client.folder import SiteFolder
from tests.tests_support import fednotes


@dataclass(frozen=True)
class Simulated:
    """A finished simulation.

    Attributes:
        sites: folders with notes.
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

    def with_plan(self, plan: Plan, where: Path) -> Simulated:
        """The same hospitals with another plan, simulated in a folder."""
        study = where / "study"
        shutil.copytree(self.model, study / "model")
        folder = ServerFolder.create(study, plan)
        self.site_folders(where / "sites")
        size = folder.manifest().num_bytes
        run_federated(
            study,
            where / "sites",
            num_sites=plan.sites,
            model_bytes=size,
            log=where / "flower.log",
            on_round=lambda _: None,
        )
        return Simulated(sites=self.sites, plan=plan, model=self.model, weights=folder.load().weights)


def simulate(folder: Path) -> Simulated:
    """Two hospitals of generated notes and a short study."""
    write_export(folder / "notes.csv", hospitals=2, notes=300, seed=1)
    done = fednotes(
        *("simulate", "--notes", folder / "notes.csv", "--site-by", "hospital"),
        *("--scenario", "smoke", "--out", folder / "run"),
    )
    assert done.returncode == 0, done.stderr
    (study,) = (folder / "run" / "studies").iterdir()
    plan = Plan.model_validate_json((study / "plan.json").read_bytes())
    weights = load_file(study / "checkpoints" / f"round-{plan.rounds:04d}" / "weights.safetensors")
    sites = sorted((folder / "run" / "sites").iterdir())
    return Simulated(sites=sites, plan=plan, model=study / "model", weights=weights)
