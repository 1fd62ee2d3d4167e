"""The federated arm under differential privacy: its plan, the hospitals' policies, and what it spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from modeling.unit_rows import UnitRows
from privacy.policy import PrivacyPolicy
from protocols.messages import Corpus, PrivacyRecipe
from protocols.plan import CentralNoise, Plan
from simulations.options import PrivacyOptions
from simulations.results import PRIVATE, Arm, PrivacyFacts
from simulations.scenarios import PrivateTraining
from site_client.corpus import training_documents
from site_client.folder import SiteFolder

_ROUND_TO = 10
_LIMIT_OVER_TARGET = 1.5  # a round that was killed in the middle is charged twice, and the study must still end


def policy(options: PrivacyOptions, num_units: int) -> PrivacyPolicy:
    """The policy that a simulated hospital writes into its ``site.toml``.

    Args:
        options: of the run.
        num_units: that the hospital has. What it states publicly is a round figure; in a simulation it is made from
            the true one, where a hospital would take it from its annual report.
    """
    return PrivacyPolicy(
        unit=options.unit,
        max_epsilon=min(1_000.0, options.target_epsilon * _LIMIT_OVER_TARGET),
        delta=options.delta,
        public_units=max(_ROUND_TO, round(num_units / _ROUND_TO) * _ROUND_TO),
        max_records=options.max_records or PrivacyPolicy().max_records,
    )


def private_plan(plan: Plan, options: PrivacyOptions, training: PrivateTraining) -> Plan:
    """Put a plan under differential privacy.

    Args:
        plan: of the same arm without.
        options: epsilon, unit, and central noise.
        training: steps, batch and clipping.
    """
    warmup = plan.recipe.warmup_steps * training.steps // plan.recipe.steps
    recipe = plan.recipe.model_copy(
        update={
            "packing": "patient",
            "steps": training.steps,
            "peak_lr": training.peak_lr,
            "warmup_steps": warmup,
        }
    )
    central = None
    if options.central_noise is not None:
        central = CentralNoise(
            max_site_norm=options.central_norm, noise_multiplier=options.central_noise, delta=options.delta
        )
    changed = plan.model_copy(
        update={
            "recipe": recipe,
            "outer": plan.outer.model_copy(update={"weights": "equal"}),
            "privacy": PrivacyRecipe(
                unit=options.unit,
                target_epsilon=options.target_epsilon,
                sampling_rate=training.sampling_rate,
                max_records=training.max_records,
                max_grad_norm=training.max_grad_norm,
            ),
            "central": central,
        }
    )
    return Plan.model_validate(changed.model_dump())  # a copy is not checked


def expected_tokens(folder: SiteFolder, corpus: Corpus, plan: Plan, tokenizer: PreTrainedTokenizerFast) -> float:
    """Tokens of a step at one hospital, on average over the draw of its units."""
    assert plan.privacy is not None  # noqa: S101 - the caller asked for a private plan
    rows = UnitRows(
        training_documents(folder, corpus, tokenizer, plan.privacy.unit),
        row_length=plan.recipe.row_length,
        end_of_note=int(tokenizer.eos_token_id),
        padding=int(tokenizer.pad_token_id),
        each_row_alone=plan.privacy.unit == "record",
    )
    return rows.expected_tokens(plan.privacy.sampling_rate, plan.privacy.max_records)


def spent_by_unit(spent: Mapping[int, Mapping[str, float]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Turn the numbers of a round's replies into {"<unit>_level_epsilon": {site name: spent so far}}, and the noise.

    Args:
        spent: facts by site number, as the coordinator kept them.
        names: of the hospitals, by number.
    """
    by_unit: dict[str, dict[str, float]] = {}
    for site, facts in spent.items():
        for name, value in facts.items():
            if name.endswith("_level_epsilon") or name == "noise_multiplier":
                by_unit.setdefault(name, {})[names[site]] = value
    return by_unit


def privacy_facts(
    options: PrivacyOptions | None, training: PrivateTraining, arms: Sequence[Arm]
) -> PrivacyFacts | None:
    """Sum up what the private arm spent; None without one.

    Args:
        options: of the run.
        training: steps, batch and clipping.
        arms: all of the run.
    """
    arm = next((a for a in arms if a.name == PRIVATE), None)
    if options is None or arm is None:
        return None
    name = f"{options.unit}_level_epsilon"
    by_site: dict[str, float] = {}
    noise: dict[str, float] = {}
    for facts in arm.rounds:
        by_site |= getattr(facts, name)
        noise |= facts.noise_multiplier
    return PrivacyFacts.model_validate(
        {
            "unit": options.unit,
            "target_epsilon": options.target_epsilon,
            "delta": options.delta,
            name: max(by_site.values(), default=0.0),
            "by_site": by_site,
            "noise_multiplier": noise,
            "sampling_rate": training.sampling_rate,
            "max_records": training.max_records,
            "max_grad_norm": training.max_grad_norm,
            "steps": training.steps * len(arm.rounds),
            "site_level_epsilon": arm.rounds[-1].site_level_epsilon if arm.rounds else None,
            "site_level_delta": options.delta if options.central_noise is not None else None,
        }
    )
