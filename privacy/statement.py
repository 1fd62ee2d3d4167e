"""A signed statement of what a data set has given away under differential privacy, for people outside the hospital.

Its numbers come from the ledger and are confirmed by a second accountant before they are signed. Releases without
differential privacy are named in it: for them nothing is guaranteed, whatever the number says.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.ledger_entries import PrivacyAccount
from privacy.witness import require_agreement
from protocols.durable import write_text
from protocols.errors import UsageError, WorkError
from protocols.hash_chain import Head
from protocols.signing import canonical, own_key, public_pem, sign

KIND = "fednotes privacy statement"
PRIVATE_KEY, PUBLIC_KEY = "statement.key", "statement.pub"


def signing_key(keys: Path) -> Ed25519PrivateKey:
    """Read the key that signs statements; it is made on first use, its public half beside it.

    Args:
        keys: folder of the site's keys.

    Raises:
        UsageError: it cannot be read, or it is gone and its public half is not.
    """
    return own_key(keys / PRIVATE_KEY, keys / PUBLIC_KEY)


def make_statement(
    account: PrivacyAccount,
    end: Head,
    *,
    limit: float,
    without_privacy: Sequence[str],
    key: Ed25519PrivateKey,
) -> dict[str, Any]:
    """State and sign what is spent.

    Args:
        account: verified.
        end: of the ledger that the account was read from.
        limit: largest epsilon that the site allows.
        without_privacy: studies that released updates without differential privacy.
        key: of the site.

    Raises:
        WorkError: two accountants do not agree.
    """
    spent, epsilon = account.spent(), f"{account.unit}_level_epsilon"
    prv = require_agreement(spent, account.events)
    statement: dict[str, Any] = {
        "kind": KIND,
        "schema_version": 1,
        "fednotes_version": importlib.metadata.version("fednotes"),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": account.dataset,
        "unit": account.unit,
        "delta": account.delta,
        f"{epsilon}_limit": limit,
        "spent": {**spent.named(), f"{epsilon}_prv": prv},
        "studies": [_study(account, name) for name in account.studies],
        "studies_without_differential_privacy": sorted(set(without_privacy)),
        "guarantee": _guarantee(account, sorted(set(without_privacy))),
        "ledger": {"count": end.count, "sha256": end.sha256},
        "public_key": public_pem(key.public_key()),
    }
    return {"statement": statement, "signature": sign(statement, key)}


def write_statement(path: Path, document: dict[str, Any]) -> None:
    """Write a signed statement.

    Raises:
        StorageError: the file cannot be written.
    """
    write_text(path, _rendered(document))


def verify_statement(path: Path, public_key: Path | None = None) -> dict[str, Any]:
    """Check the signature of a statement.

    Args:
        path: the statement.
        public_key: the hospital's, had from the hospital. Without it, only the key in the statement itself is used:
            that shows damage, not who signed.

    Returns:
        What was signed.

    Raises:
        UsageError: one of the files cannot be read.
        WorkError: the statement was changed, or another key signed it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The statement {path} cannot be read.", hint="check the path") from error
    try:
        document = json.loads(text)
        statement, signature = document["statement"], bytes.fromhex(document["signature"])
        inside = serialization.load_pem_public_key(statement["public_key"].encode())
        # The file has one form only: else a field given twice could show readers another number than the signed one.
        if text != _rendered(document) or statement["kind"] != KIND or set(document) != {"statement", "signature"}:
            raise ValueError
        key = _read_public(public_key) if public_key is not None else inside
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError
        key.verify(signature, canonical(statement))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidSignature):
        whose = f" or was not signed with {public_key}" if public_key else ""
        raise WorkError(
            f"The statement {path} was changed{whose}.",
            hint="ask the hospital for the statement, and for its public key by another way",
        ) from None
    return dict(statement)


def _study(account: PrivacyAccount, name: str) -> dict[str, Any]:
    begun = account.studies[name]
    return {
        "study": name,
        "rounds": len({charge.round for charge in account.charges if charge.study == name}),
        "charges": sum(charge.study == name for charge in account.charges),
        f"{account.unit}_level_epsilon_target": begun.target,
        "sampling_rate": begun.sampling_rate,
        "noise_multiplier": begun.noise_multiplier,
        "max_grad_norm": begun.max_grad_norm,
        "max_records": begun.max_records,
        "public_units": begun.public_units,
        "planned_steps": begun.planned_steps,
        "spent": account.spent_by(name).named(),
    }


def _guarantee(account: PrivacyAccount, without: Sequence[str]) -> str:
    sentence = (
        f"Adding or removing one {account.unit} changes the chance of any outcome of the studies under differential "
        f"privacy by at most the factor exp({account.unit}_level_epsilon), but for a probability delta."
    )
    if without:
        sentence += (
            f" VOID for {', '.join(without)}: these studies released updates of the same data without differential "
            "privacy, and no bound holds for what they tell, nor for all releases together."
        )
    return sentence


def _read_public(path: Path) -> object:
    try:
        return serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The public key {path} cannot be read.", hint=f"it is the file keys/{PUBLIC_KEY} of the site"
        ) from error


def _rendered(document: object) -> str:
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n"
