"""The card of a released model: what it learnt from, how, and how well it does."""

from __future__ import annotations

from simulations.chart_privacy import spent
from simulations.results import PRIVATE, Arm, Results


def model_card(results: Results, arm: Arm) -> str:
    """Write the README of a model folder.

    Args:
        results: the run.
        arm: the arm that is released.
    """
    rows = "\n".join(
        f"| {name} | {i.value:.3f} | {i.ci_low:.3f} to {i.ci_high:.3f} |" for name, i in arm.bits_per_byte.items()
    )
    notes = sum(s.notes["train"] for s in results.sites)
    privacy = _privacy(results, arm)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
# {results.model} decoder, {arm.name} on {arm.corpus} text

Made by fednotes {results.fednotes_version}, scenario {results.scenario}, on {results.created}.

- Sites: {len(results.sites)} simulated hospitals, {notes} training notes; raw notes stayed at their site.
- Corpus: {arm.corpus}, {arm.corpus_tokens} tokens; rephrasings written by the `{results.gates.engine}` engine.
- Training: {len(arm.rounds)} rounds, {arm.train_tokens} tokens, {results.parameters} weights, seed {results.seed}.
- Differential privacy: {privacy}.
- Tokenizer: byte-level BPE, trained on synthetic text; it never saw a note.

| held-out notes | bits per byte | 95 % interval (by patient) |
|---|---|---|
{rows}
"""


def _privacy(results: Results, arm: Arm) -> str:
    facts = results.privacy
    if facts is None or arm.name != PRIVATE:
        return "none was used for this model: it may remember its notes"
    most = f"{facts.unit}-level epsilon {spent(facts):.3f} at delta {facts.delta:g}, at the hospital that spent most"
    if facts.site_level_epsilon is None:
        return most
    return f"{most}; and, apart from it, hospital-level epsilon {facts.site_level_epsilon:.3f} by central noise"
