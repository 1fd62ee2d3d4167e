"""Ed25519 signatures over JSON documents: statements, plans, approvals.

A document is signed in its canonical form (sorted keys, no spaces), so that the same facts always have the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.durable import whole_file, write_text
from protocols.errors import UsageError

_RESTORE = "restore it from your backup"


def canonical(document: object) -> bytes:
    """The bytes that are signed."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign(document: object, key: Ed25519PrivateKey) -> str:
    """Sign a JSON document; the signature in hex."""
    return key.sign(canonical(document)).hex()


def is_signed(document: object, signature: str, key: Ed25519PublicKey) -> bool:
    """Whether the key's owner signed exactly this document."""
    try:
        key.verify(bytes.fromhex(signature), canonical(document))
    except (InvalidSignature, ValueError):
        return False
    return True


def own_key(private: Path, public: Path) -> Ed25519PrivateKey:
    """Read a signing key; it is made on first use, its public half beside it.

    Args:
        private: the key's file (PEM).
        public: file of its public half (PEM).

    Raises:
        UsageError: it cannot be read, or it is gone and its public half is not.
    """
    if not private.exists() and public.exists():
        raise UsageError(
            f"The key {private} is missing; {public.name} is there.",
            hint=f"{_RESTORE}; nobody could tell what a new key signs from a forgery",
        )
    if not private.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with whole_file(private) as partial:
            partial.write_bytes(pem)
        write_text(public, public_pem(made.public_key()))
        return made
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise UsageError(f"The key {private} cannot be read.", hint=_RESTORE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"The key {private} is not an Ed25519 key.", hint=_RESTORE)
    return key


def public_pem(key: Ed25519PublicKey) -> str:
    """The public key as PEM text."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def public_key(pem: str) -> Ed25519PublicKey:
    """Read a public key from PEM text.

    Raises:
        ValueError: it is not an Ed25519 key.
    """
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")
    return key
