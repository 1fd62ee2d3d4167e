"""What a hospital sees before it approves a study, and what it then signs.

The plan is checked against the site's own word first: who signed it, whom it invites, which model and which version it
is for, what the site's privacy policy says. What is left is a decision, and a person gets it in plain words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from privacy.policy import PrivacyPolicy
from protocols.bundle import bundle_hash, fednotes_version, installed_versions
from protocols.certificates import in_groups
from protocols.enrolment import Enrolment, read_document
from protocols.error_codes import ContractError
from protocols.errors import UsageError
from protocols.manifest import ParameterManifest
from protocols.messages import SiteLimits
from protocols.plan import Plan, SignedPlan
from protocols.signing import own_key, public_pem
from site_client.approval import Approval, read_approvals, write_approval
from site_client.folder import SiteFolder
from site_client.gateway.folder import GatewayFolder
from site_client.privacy_terms import require_terms

FEWEST_PATIENTS = 11
"""Below this many patients a number about a group is a number about its members; US Medicare's cell size rule."""

_REPLIES_A_ROUND = 3  # a cut link or a lost reply makes a round be asked for again


@dataclass(frozen=True, kw_only=True)
class Tighter:
    """What a site may lower below its own defaults for one study.

    Attributes:
        max_message_bytes: of one reply.
        max_total_bytes: of all replies.
    """

    max_message_bytes: int | None = None
    max_total_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A plan that this site could approve.

    Attributes:
        approval: what would be signed.
        plan_digest: of the plan, to compare with other hospitals.
        coordinator: name from the enrolment.
        warnings: what a person should know, in sentences.
        replaces: differences to an earlier approval of the study, in words; none when it is the first.
    """

    approval: Approval
    plan_digest: str
    coordinator: str
    warnings: tuple[str, ...] = ()
    replaces: tuple[str, ...] | None = None


def propose(folder: SiteFolder, file: Path, tighter: Tighter | None = None) -> Proposal:
    """Check a signed plan and make of it what this site could approve.

    Args:
        folder: the site.
        file: the coordinator's signed plan.
        tighter: bounds below the defaults.

    Raises:
        UsageError: the plan is not for this site, its model, its version or its policy; names what.
    """
    gateway, config = GatewayFolder(folder.gateway), folder.config()
    enrolment = gateway.enrolment()
    signed = read_document(file, SignedPlan)
    plan = signed.plan
    _require_signature(file, signed, enrolment)
    _require_invited(file, plan, enrolment)
    _require_version(file, signed)
    manifest = _matching_manifest(folder, file, plan)
    _require_policy(file, plan, config.privacy)
    most = manifest.num_bytes * 11 // 10 + 1_000_000
    wish = tighter or Tighter()
    # Patients are counted where training runs, by the limit of site.toml: an approval that promised another number
    # would promise what nobody keeps.
    norm = min(config.limits.max_update_norm, plan.max_update_norm)
    limits = config.limits.model_copy(update={"max_update_norm": norm})
    approval = Approval(
        site=enrolment.site,
        plan=plan,
        manifest=manifest,
        bundle_hash=signed.bundle_hash,
        versions=installed_versions(),
        limits=limits,
        max_message_bytes=_lowered("--max-message-bytes", wish.max_message_bytes, most),
        max_total_bytes=_lowered("--max-total-bytes", wish.max_total_bytes, most * plan.rounds * _REPLIES_A_ROUND),
        approved_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Proposal(
        approval=approval,
        plan_digest=plan.digest,
        coordinator=enrolment.coordinator,
        warnings=_warnings(folder, plan, limits),
        replaces=_differences(read_approvals(gateway).get(plan.study), approval),
    )


def approve(folder: SiteFolder, proposal: Proposal) -> Path:
    """Sign a proposal; the gateway takes it up by itself.

    Returns:
        The approval's file.

    Raises:
        UsageError: the approval key is missing, or is another than the gateway's.
        StorageError: the gateway's folder cannot be written.
    """
    keys, gateway = folder.path / "keys", GatewayFolder(folder.gateway)
    key = own_key(keys / "approval.key", keys / "approval.pub")
    known = gateway.keys / "approval.pub"
    if not known.exists() or known.read_text(encoding="utf-8") != public_pem(key.public_key()):
        raise UsageError(
            f"{keys / 'approval.key'} is not the key whose public half the gateway has ({known}).",
            hint="restore the key from your backup; the gateway would refuse what another one signs",
        )
    return write_approval(gateway, proposal.approval, key)


def in_words(proposal: Proposal) -> list[str]:
    """The proposal in plain words, a line each."""
    approval, plan = proposal.approval, proposal.approval.plan
    recipe, numbers = plan.recipe, approval.manifest.num_bytes // 4
    invited = f"{len(plan.invited)} named sites" if plan.invited else "every enrolled site"
    return [
        f"Study {plan.study} of {proposal.coordinator}, for this site (number {approval.site}).",
        f"Asked: at most {_count(plan.rounds, 'round')} of at most {_count(recipe.steps, 'step')}, {recipe.rows} "
        f"rows of {recipe.row_length} tokens each, on the corpus '{plan.corpus}' of this site's notes.",
        f"With whom: {invited}; {plan.sites} expected, and a round counts with {plan.quorum} or more.",
        f"What leaves after a round: an update of {len(approval.manifest.parameters):,} arrays ({numbers:,} numbers) "
        "and the few figures listed in docs/reference/egress.md. No notes, no texts.",
        _privacy_in_words(plan),
        f"Nothing leaves that rests on fewer than {approval.limits.min_patients} patients, and no update longer than "
        f"{approval.limits.max_update_norm:g} (L2).",
        f"At most {approval.max_message_bytes:,} bytes a reply and {approval.max_total_bytes:,} bytes in all.",
        f"A round may take {plan.deadline_s / 60:,.3g} minutes; a later reply is not used.",
        f"Code that runs: this site's own installation, {_listed(approval.versions)}; no code comes with the study.",
        f"Fingerprint of the plan, the same at every hospital: {in_groups(proposal.plan_digest)}",
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _privacy_in_words(plan: Plan) -> str:
    privacy = plan.privacy
    if privacy is None:
        return "Differential privacy: NONE. The update may give away what it was trained on."
    return (
        f"Differential privacy: the study may cost one {privacy.unit} at most epsilon {privacy.target_epsilon:g}; a "
        f"{privacy.unit} enters a step with chance {privacy.sampling_rate:g}."
    )


def _require_signature(file: Path, signed: SignedPlan, enrolment: Enrolment) -> None:
    try:
        is_theirs = signed.is_from(enrolment.plan_key)
    except ValueError:
        raise UsageError(
            "The plan_key of this site's enrolment is damaged.", hint="give the coordinator's answer to site enroll"
        ) from None
    if not is_theirs:
        raise UsageError(
            f"{file} is not signed by {enrolment.coordinator}, or was changed after it was signed.",
            hint="ask the coordinator for the file again, by another way",
        )


def _require_invited(file: Path, plan: Plan, enrolment: Enrolment) -> None:
    if plan.invited and enrolment.site not in plan.invited:
        raise UsageError(
            f"The plan {file} is for other sites: this is site {enrolment.site}, and it is not invited.",
            hint="ask the coordinator for the plan of this site",
        )


def _require_version(file: Path, signed: SignedPlan) -> None:
    if signed.bundle_hash != bundle_hash():
        raise UsageError(
            f"The plan {file} was made with fednotes {signed.fednotes_version}; this site runs fednotes "
            f"{fednotes_version()}.",
            hint="install the same version at both ends; if the numbers are equal, the version of flwr differs",
        )


def _matching_manifest(folder: SiteFolder, file: Path, plan: Plan) -> ParameterManifest:
    try:
        manifest = folder.manifest()
    except ContractError:
        raise UsageError(
            f"The model folder {folder.model} has no manifest.",
            hint="put the study's model there, or set model in site.toml",
        ) from None
    if manifest.digest != plan.manifest_digest:
        raise UsageError(
            f"The plan {file} is for another model than the one in {folder.model}.",
            hint="install the model that the coordinator gave out with this plan",
        )
    return manifest


def _require_policy(file: Path, plan: Plan, policy: PrivacyPolicy) -> None:
    if plan.privacy is None:
        if policy.required:
            raise UsageError(
                f"The plan {file} has no differential privacy, and this site requires it ([privacy] required).",
                hint="ask the coordinator for a plan with differential privacy",
            )
        return
    try:
        require_terms(plan.privacy, policy)
    except ContractError as error:
        raise UsageError(
            f"The plan {file} does not fit this site's [privacy] policy: {error.detail}.",
            hint="change site.toml if the policy may change, or ask the coordinator for another plan",
        ) from None


def _lowered(option: str, wish: int | None, most: int) -> int:
    if wish is not None and not 1 <= wish <= most:
        raise UsageError(f"{option} {wish} is not between 1 and {most}.", hint="an option can only lower the limit")
    return wish or most


def _warnings(folder: SiteFolder, plan: Plan, limits: SiteLimits) -> tuple[str, ...]:
    warnings = []
    if limits.min_patients < FEWEST_PATIENTS:
        warnings.append(
            f"[limits] min_patients is {limits.min_patients}: numbers about fewer than {FEWEST_PATIENTS} patients can "
            "leave this site."
        )
    if plan.privacy is None:
        warnings.append("The plan has no differential privacy.")
    else:
        warnings += _account_warnings(folder, plan.privacy.target_epsilon)
    return tuple(warnings)


def _account_warnings(folder: SiteFolder, target: float) -> list[str]:
    from site_client.privacy_account import ledger_of

    policy, ledger = folder.config().privacy, ledger_of(folder)
    if not ledger.exists():
        return ["The privacy account is not open: fednotes site privacy open, before the first round."]
    left = max(0.0, policy.max_epsilon - ledger.account().spent().pld_bound)
    if target <= left:
        return []
    return [f"The plan asks for epsilon {target:g}, the account has {left:.3g} left: it gets more noise, or an end."]


def _differences(before: Approval | None, now: Approval) -> tuple[str, ...] | None:
    """What would change against an earlier approval, by the names of the settings."""
    if before is None:
        return None
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    names = sorted(name for name in old | new if old.get(name) != new.get(name))
    return tuple(
        f"{name}: {old.get(name)} -> {new.get(name)}"
        for name in names
        if name != "approved_at" and not name.startswith("manifest.")
    )


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, below in value.items() for k, v in _flat(below, f"{name}.{key}".lstrip(".")).items()}


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
