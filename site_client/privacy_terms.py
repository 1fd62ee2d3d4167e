"""May this plan have this site's differential privacy, and on which terms? The site's policy decides."""

from __future__ import annotations

from privacy.accountant import PrivacySpend, calibrate
from privacy.ledger import BudgetError
from privacy.ledger_entries import PrivacyAccount
from privacy.mechanism import Mechanism
from privacy.policy import PrivacyPolicy
from privacy.witness import require_agreement
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import UsageError, WorkError
from protocols.messages import PRIVATE_REPLIES, PrivacyRecipe, TrainRequest
from site_client.folder import SiteFolder
from site_client.privacy_account import dataset_id, ledger_of
from site_client.receipts import ReceiptBook

FEWEST_EXPECTED_UNITS = 4.0
"""A step that expects fewer units is nearly all noise, and mostly empty."""


def require_terms(recipe: PrivacyRecipe, policy: PrivacyPolicy) -> None:
    """Refuse a plan that passes a bound of the site's policy.

    The texts name settings and public numbers only: they go into the site's log.

    Raises:
        ContractError: PRIVACY_REFUSED.
    """
    expected = recipe.sampling_rate * policy.public_units
    wrong = {
        f"the plan protects the {recipe.unit}, the site's policy the {policy.unit}": recipe.unit != policy.unit,
        "public_units is not set in site.toml": policy.public_units == 0,
        f"sampling rate {recipe.sampling_rate:g} is above max_sampling_rate {policy.max_sampling_rate:g}": (
            recipe.sampling_rate > policy.max_sampling_rate
        ),
        f"{recipe.max_records} records a unit are above max_records {policy.max_records}": (
            recipe.max_records > policy.max_records
        ),
        f"a step would expect {expected:.3g} of {policy.public_units} {policy.unit}s, fewer than "
        f"{FEWEST_EXPECTED_UNITS:g}": expected < FEWEST_EXPECTED_UNITS,
        f"delta {policy.delta:g} is not below 1 / public_units {policy.public_units}": (
            policy.delta * policy.public_units >= 1
        ),
    }
    for reason, holds in wrong.items():
        if holds:
            raise ContractError(ErrorCode.PRIVACY_REFUSED, reason)


def charge_round(folder: SiteFolder, request: TrainRequest, recipe: PrivacyRecipe) -> tuple[Mechanism, PrivacySpend]:
    """Pay for a round, before anything of it is computed.

    The noise is calibrated in a study's first round, over all its steps, for the smaller of what the plan asks for and
    what is left of the site's limit; it stays the same for the life of the study.

    Args:
        folder: the site.
        request: the round.
        recipe: its differential privacy, within the policy.

    Returns:
        The mechanism that was paid for, and what the study has spent, this round included.

    Raises:
        BudgetError: the site's limit would be passed; nothing was charged.
        FednotesError: the ledger is missing, broken, locked or for something else, or two accountants disagree.
    """
    policy, dataset = folder.config().privacy, dataset_id(folder)
    ledger = ledger_of(folder)
    account = ledger.account()
    _require_all_releases(folder, account)
    planned_steps = request.rounds * request.recipe.steps
    begun = account.studies.get(request.study)
    noise = begun.noise_multiplier if begun else _calibrated(recipe, policy, account, planned_steps)
    mechanism = mechanism_for(recipe, policy, noise)
    ledger.begin_study(
        request.study,
        target=recipe.target_epsilon,
        mechanism=mechanism,
        planned_steps=planned_steps,
        policy=policy,
        dataset=dataset,
    )
    charged = ledger.charge(request.study, request.round, mechanism, request.recipe.steps, policy, dataset)
    require_agreement(charged.total, charged.events)
    return mechanism, charged.study


def _require_all_releases(folder: SiteFolder, account: PrivacyAccount) -> None:
    """Refuse a ledger that was put back from a backup: a round that left, by the receipts, has to be paid in it."""
    charged = {(charge.study, charge.round) for charge in account.charges}
    kinds = {kind.__name__ for kind in PRIVATE_REPLIES.values()}
    for receipt in ReceiptBook(folder.receipts).read():
        if receipt.kind in kinds and (receipt.study, receipt.round) not in charged:
            raise WorkError(
                f"Receipt {receipt.number} says that round {receipt.round} of study {receipt.study} left, but the "
                "privacy ledger has no charge for it: the ledger is older than the receipts.",
                hint="restore the newest ledger and its head; never go on from an older one",
            )


def _calibrated(recipe: PrivacyRecipe, policy: PrivacyPolicy, account: PrivacyAccount, steps: int) -> float:
    wanted = calibrate(recipe.target_epsilon, account.delta, recipe.sampling_rate, steps)
    try:
        affordable = calibrate(policy.max_epsilon, account.delta, recipe.sampling_rate, steps, account.events)
    except UsageError as error:
        raise BudgetError(f"The site's limit leaves nothing for this study. {error.message}") from None
    return max(wanted, affordable, policy.min_noise_multiplier)


def mechanism_for(recipe: PrivacyRecipe, policy: PrivacyPolicy, noise_multiplier: float) -> Mechanism:
    """Join the plan's constants with the site's public number of units.

    Args:
        recipe: of the plan.
        policy: of the site.
        noise_multiplier: calibrated, or that of the study's first round.
    """
    return Mechanism(
        sampling_rate=recipe.sampling_rate,
        noise_multiplier=noise_multiplier,
        max_grad_norm=recipe.max_grad_norm,
        max_records=recipe.max_records,
        expected_units=recipe.sampling_rate * policy.public_units,
    )
