"""What a hospital approved: one signed file a study, read by the gateway before anything is passed on.

The plan is the coordinator's wish, the approval the site's word. A request is admitted when it is what was approved, or
asks for less; a setting that nobody compared would be a hole, so everything that may not differ is compared whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from protocols.durable import flush, write_text
from protocols.error_codes import ContractError, ErrorCode
from protocols.errors import UsageError
from protocols.manifest import ParameterManifest
from protocols.messages import Digest, Message, PrivacyRecipe, SiteLimits, SiteNumber, TrainRequest
from protocols.plan import Plan
from protocols.signing import is_signed, public_key, sign
from site_client.ownership import give_to_owner_of

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from site_client.gateway.folder import GatewayFolder

_Bytes = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Approval(Message):
    """What one study may ask of this site, and what may leave for it.

    Attributes:
        kind: tells the signed document apart from others.
        site: this site's number.
        plan: as the coordinator signed it.
        manifest: the arrays that may leave, from the site's own installed model.
        bundle_hash: of the Flower app that a run has to name.
        versions: of the packages that were installed when the plan was approved.
        limits: minimum counts and norm bound, from the site's configuration.
        max_message_bytes: of one reply, all objects together.
        max_total_bytes: of all replies of the study together.
        approved_at: UTC, ISO 8601.
    """

    kind: Literal["fednotes approval"] = "fednotes approval"
    site: SiteNumber
    plan: Plan
    manifest: ParameterManifest
    bundle_hash: Digest
    versions: dict[str, str]
    limits: SiteLimits
    max_message_bytes: _Bytes
    max_total_bytes: _Bytes
    approved_at: Annotated[str, Field(max_length=40)]

    def admits(self, request: TrainRequest) -> None:
        """Refuse a request that is not what was approved, or tighter.

        Raises:
            ContractError: PLAN_NOT_APPROVED; the detail names the setting, for the local log.
        """
        plan = self.plan
        fits = {
            "study": request.study == plan.study,
            "rounds": request.round <= request.rounds <= plan.rounds,
            "corpus": request.corpus == plan.corpus,
            "steps": request.recipe.steps <= plan.recipe.steps,
            "recipe": request.recipe == plan.recipe.model_copy(update={"steps": request.recipe.steps}),
            "privacy": _is_as_private(request.privacy, plan.privacy),
        }
        for setting, holds in fits.items():
            if not holds:
                raise ContractError(ErrorCode.PLAN_NOT_APPROVED, setting)


class SignedApproval(Message):
    """An approval as it lies in the gateway's folder.

    Attributes:
        approval: what is approved.
        signature: Ed25519 with the site's approval key (hex).
    """

    approval: Approval
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def write_approval(folder: GatewayFolder, approval: Approval, key: Ed25519PrivateKey) -> Path:
    """Sign an approval and put it where the gateway reads it; an older one of the same study is replaced.

    Returns:
        The file.

    Raises:
        StorageError: the folder cannot be written.
    """
    signed = SignedApproval(approval=approval, signature=sign(approval.model_dump(mode="json"), key))
    path = _file(folder, approval.plan.study)
    write_text(path, signed.model_dump_json(indent=2) + "\n")
    give_to_owner_of(folder.path, path.parent, path)
    return path


def read_approvals(folder: GatewayFolder) -> dict[str, Approval]:
    """Read all approvals, by study.

    Raises:
        UsageError: a file is damaged, has another study's name, or was changed after it was signed; names the file.
    """
    files = sorted(folder.approvals.glob("*.json"))
    if not files:
        return {}
    key = _approval_key(folder)
    return {path.stem: approval for path in files if (approval := _read(path, key)) is not None}


def withdraw(folder: GatewayFolder, study: str) -> None:
    """Take an approval back: the gateway refuses every further request and reply of the study.

    Raises:
        UsageError: there is none of that name.
    """
    path = _file(folder, study)
    # A name with a slash in it must not reach a file elsewhere.
    if path.parent != folder.approvals or not path.is_file():
        raise UsageError(f"There is no approval of study {study!r}.", hint="fednotes site approvals")
    path.unlink()
    flush(path.parent)


def _file(folder: GatewayFolder, study: str) -> Path:
    return folder.approvals / f"{study}.json"


def _approval_key(folder: GatewayFolder) -> Ed25519PublicKey:
    path = folder.keys / "approval.pub"
    try:
        return public_key(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The public key {path} cannot be read: no approval can be checked.",
            hint="copy keys/approval.pub of the site folder there",
        ) from error


def _read(path: Path, key: Ed25519PublicKey) -> Approval | None:
    """One file; None when it was withdrawn meanwhile."""
    again = "fednotes site approve PLAN writes it anew; find out who changed it"
    try:
        signed = SignedApproval.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"The approval {path} cannot be read: {error.strerror}.", hint="check its owner") from error
    except ValidationError:
        raise UsageError(f"The approval {path} is damaged.", hint=again) from None
    if not is_signed(signed.approval.model_dump(mode="json"), signed.signature, key):
        raise UsageError(
            f"The approval {path} was changed after it was signed, or signed by somebody else.", hint=again
        )
    if signed.approval.plan.study != path.stem:
        raise UsageError(f"The approval {path} is of study {signed.approval.plan.study}.", hint=again)
    return signed.approval


def _is_as_private(asked: PrivacyRecipe | None, approved: PrivacyRecipe | None) -> bool:
    """Never less private than approved: it may be added, it may promise more, nothing else may differ."""
    if approved is None:
        return True
    if asked is None:
        return False
    same = asked == approved.model_copy(update={"target_epsilon": asked.target_epsilon})
    return same and asked.target_epsilon <= approved.target_epsilon
