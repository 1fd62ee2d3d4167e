"""From a study's last checkpoint to a model folder that ``transformers`` loads, without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.numpy import save_file

from protocols.bundle import fednotes_version
from protocols.durable import whole_folder
from protocols.errors import UsageError
from server.state import RoundRecord
from server.studies import StudyFolder


def release(study: StudyFolder, out: Path) -> int:
    """Write the model of the last checkpoint.

    Args:
        study: with at least one finished round.
        out: folder to make.

    Returns:
        How many rounds are in it.

    Raises:
        UsageError: there is no round yet, or the folder exists.
    """
    if out.exists():
        raise UsageError(f"{out} exists already.", hint="choose another folder")
    state = study.server.load()
    if not state.history:
        raise UsageError(f"Study {study.name} has no finished round yet.", hint="fednotes server status")
    with whole_folder(out) as partial:
        shutil.copytree(study.server.model, partial, dirs_exist_ok=True)
        save_file(state.weights, partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "README.md").write_text(_card(study, state.history), encoding="utf-8")
    return len(state.history)


def _card(study: StudyFolder, history: list[RoundRecord]) -> str:
    plan = study.server.plan()
    took_part = sorted({site for record in history for site in record.accepted})
    spent = [facts for record in history for facts in record.privacy.values()]
    names = {name for facts in spent for name in facts if name.endswith("_level_epsilon")}
    most = {name: max(f[name] for f in spent if name in f) for name in names}
    privacy = ", ".join(f"{name} {value:g}, at the site that spent most" for name, value in most.items())
    noise = history[-1].site_level_epsilon
    central = "none" if noise is None else f"hospital-level epsilon {noise:.3f}, no part of what patients are promised"
    return f"""---
library_name: transformers
---
# {plan.study}

Made by fednotes {fednotes_version()}.

- Rounds: {len(history)} of {plan.rounds}.
- Sites: {len(took_part)} took part (numbers {", ".join(map(str, took_part))}); raw notes stayed at their site.
- Corpus: {plan.corpus}.
- Differential privacy: {privacy or "none was used for this model: it may remember its notes"}.
- Central noise: {central}.
- Evaluation: `fednotes model evaluate FOLDER --notes FILE` on notes that nobody trained on.
"""
