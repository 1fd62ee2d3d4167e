"""Scenarios: which hospitals, which arms, how much training. A scenario is a value; a variant replaces two fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from protocols.errors import UsageError
from protocols.messages import Corpus, InnerRecipe
from protocols.plan import OuterRecipe

Trainer = Literal["site", "federated", "private", "pooled"]
OUTER_RECIPES = {
    "fedavg": OuterRecipe(name="fedavg", lr=1.0),
    "nesterov": OuterRecipe(name="nesterov", lr=0.7, momentum=0.9),  # DiLoCo, arXiv 2311.08105
}
CORPUS_PREFERENCE: tuple[Corpus, ...] = ("real+synthetic", "real", "synthetic", "real-repeated")
"""Which corpus the released model is from; fixed, as choosing by held-out notes would train on them."""
_EVERYONE: tuple[Trainer, ...] = ("site", "federated", "pooled")


@dataclass(frozen=True)
class ArmSpec:
    """One row of the comparison; "site" stands for one arm a hospital.

    Args:
        trainer: who trains.
        corpus: on what.
    """

    trainer: Trainer
    corpus: Corpus


@dataclass(frozen=True, kw_only=True)
class PrivateTraining:
    """How a hospital trains under differential privacy, where it differs from how it trains without.

    Noise is paid per step and shared by the patients of the step, so steps are few and large
    (docs/guides/privacy.md, "What it costs").

    Attributes:
        steps: optimizer steps per round.
        peak_lr: learning rate after the warmup.
        sampling_rate: chance of a patient to enter a step.
        max_records: rows of a patient in a step.
        max_grad_norm: bound on a patient's gradient.
    """

    steps: int = 8
    peak_lr: float = 1e-3
    sampling_rate: float = 0.25
    max_records: int = 1
    max_grad_norm: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One study to simulate.

    Attributes:
        name: what is typed behind ``--scenario``.
        summary: one line for ``--help`` and the documentation.
        arms: what is compared, at equal training tokens.
        size: model size by name.
        rounds: exchanges of the federated arms.
        recipe: local training between two exchanges.
        outer: aggregation.
        private: local training of the arm under differential privacy, when one is asked for.
        site_map: name of a built-in map from column values to hospitals, or None.
    """

    name: str
    summary: str
    arms: tuple[ArmSpec, ...]
    size: str = "nano"
    rounds: int = 10
    recipe: InnerRecipe = InnerRecipe(steps=8, rows=2, row_length=256, peak_lr=4e-3, warmup_steps=8)
    outer: OuterRecipe = OUTER_RECIPES["fedavg"]
    private: PrivateTraining = PrivateTraining()
    site_map: str | None = None

    def with_private_arm(self) -> Scenario:
        """Put one federated arm under differential privacy beside the federated arm on the richest corpus."""
        corpora = [spec.corpus for spec in self.arms if spec.trainer == "federated"]
        corpus: Corpus = next((c for c in CORPUS_PREFERENCE if c in corpora), "real")
        return replace(self, arms=(*self.arms, ArmSpec("private", corpus)))


def _grid(trainers: tuple[Trainer, ...], corpora: tuple[Corpus, ...]) -> tuple[ArmSpec, ...]:
    return tuple(ArmSpec(trainer, corpus) for corpus in corpora for trainer in trainers)


_DEMO = Scenario(
    name="demo",
    summary="Every hospital alone, federated and pooled on real and rephrased notes; federated on real notes alone.",
    arms=(ArmSpec("federated", "real"), *_grid(_EVERYONE, ("real+synthetic",))),
)

SCENARIOS = {
    s.name: s
    for s in (
        _DEMO,
        replace(
            _DEMO,
            name="paper",
            summary="The full comparison: alone, federated, pooled on real, synthetic and mixed text, and a control.",
            arms=_grid(_EVERYONE, ("real", "synthetic", "real+synthetic", "real-repeated")),
        ),
        replace(
            _DEMO,
            name="five-hospitals",
            summary="MTSamples as five hospitals by specialty, with discharge summaries and generic notes held out.",
            arms=_grid(_EVERYONE, ("real", "real+synthetic")),
            site_map="five-hospitals",
            rounds=24,
            recipe=InnerRecipe(steps=12, rows=2, row_length=256, peak_lr=3e-3, warmup_steps=16),
        ),
        replace(
            _DEMO,
            name="privacy",
            summary="One federated model on real notes; with --dp-epsilon a second one, under differential privacy.",
            arms=(ArmSpec("federated", "real"),),
            rounds=5,
            recipe=InnerRecipe(steps=24, rows=16, row_length=256, peak_lr=1e-3, warmup_steps=12),
        ),
        replace(
            _DEMO,
            name="smoke",
            summary="One federated arm of two short rounds: does everything run here?",
            arms=(ArmSpec("federated", "real+synthetic"),),
            size="pico",
            rounds=2,
            recipe=InnerRecipe(steps=2, rows=16, row_length=128, peak_lr=3e-3, warmup_steps=1),
        ),
    )
}


def scenario(name: str) -> Scenario:
    """Find a scenario.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SCENARIOS:
        raise UsageError(f"There is no scenario {name!r}.", hint=f"choose one of: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
