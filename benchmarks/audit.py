"""``python -m benchmarks.audit``: one hospital with canary patients, trained with and without privacy, then audited.

The hospital, its policy, ledger, training rounds and the audit are the product's own; the notes are generated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.notes import generated_notes
from modeling.arrays import to_arrays
from modeling.release import load_model, model_with, new_model, save_model
from modeling.tokenizer import default_tokenizer
from privacy.policy import PrivacyPolicy
from privacy.split import split_patients
from protocols.messages import InnerRecipe, PrivacyRecipe, TrainRequest
from site_client.audit.audit_cli import audit, plant
from site_client.folder import SiteConfig, SiteFolder
from site_client.pretrain import train_round
from site_client.privacy_account import open_account
from site_client.private_pretrain import train_private_round
from site_client.store import write_notes

_OPEN = InnerRecipe(steps=60, rows=16, row_length=128, peak_lr=3e-3, warmup_steps=10)
_PRIVATE = InnerRecipe(steps=10, rows=1, row_length=128, peak_lr=2e-3, warmup_steps=3, packing="patient")


def main() -> None:
    """Make the hospital, train two models from one start, and write the audit of both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--canaries", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    tokenizer = default_tokenizer()
    start = new_model("pico", tokenizer, seed=0, context=256)
    initial = arguments.out / "initial"
    save_model(initial, start, tokenizer, "The weights before training.\n")
    notes = generated_notes(1_500)
    patients = {note.patient_key for note in notes}
    policy = PrivacyPolicy(public_units=round(len(patients), -1), max_epsilon=2 * arguments.epsilon)
    config = SiteConfig(name="Audited hospital", number=0, model=str(initial.resolve()), privacy=policy)
    site = SiteFolder.create(arguments.out / "site", config)
    write_notes(site.notes, notes, split_patients(patients, "audit"))
    open_account(site)
    plant(canaries=arguments.canaries, repeats=arguments.repeats, site=site.path)
    recipe = PrivacyRecipe(target_epsilon=arguments.epsilon, sampling_rate=0.25, max_records=2)
    for study, inner, privacy in (("open", _OPEN, None), ("private", _PRIVATE, recipe)):
        weights = to_arrays(load_model(initial)[0])
        for number in range(1, arguments.rounds + 1):
            facts = {"study": study, "round": number, "rounds": arguments.rounds, "corpus": "real", "recipe": inner}
            request = TrainRequest.model_validate({**facts, "privacy": privacy})
            if privacy is None:
                change = train_round(site, request, weights).delta
            else:
                change = train_private_round(site, request, weights).change
            weights = {name: value + change[name] for name, value in weights.items()}
        save_model(arguments.out / study, model_with(initial, weights), tokenizer, f"Study {study}.\n")
    audit(
        arguments.out / "private",
        site=site.path,
        study="private",
        compare=arguments.out / "open",
        reference=initial,
        out=arguments.out / "audit",
    )


if __name__ == "__main__":
    main()
