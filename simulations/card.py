"""The card of a released model: what it learnt from, how, and how well it does."""

from __future__ import annotations

from simulations.results import Arm, Results


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
    privacy = "none was used" if results.privacy is None else f"{results.privacy}"
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
