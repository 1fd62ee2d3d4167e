from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.certificates import new_key
from protocols.errors import UsageError
from protocols.signing import canonical, is_signed, own_key, public_key, public_pem, sign

DOCUMENT = {"b": [1, 2.5, None], "a": {"y": "ä", "x": True}}


def test_the_same_facts_have_the_same_bytes_in_any_order():
    assert canonical(DOCUMENT) == canonical({"a": {"x": True, "y": "ä"}, "b": [1, 2.5, None]})
    assert b" " not in canonical(DOCUMENT)


def test_what_is_no_number_cannot_be_signed():
    with pytest.raises(ValueError):
        canonical({"x": float("nan")})


def test_a_signature_holds_for_its_document_and_its_key_alone():
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signature = sign(DOCUMENT, key)
    assert is_signed(DOCUMENT, signature, key.public_key())
    assert not is_signed(DOCUMENT | {"c": 1}, signature, key.public_key())
    assert not is_signed(DOCUMENT, signature, other.public_key())


@pytest.mark.parametrize("signature", ["", "no hex", "00", "00" * 64])
def test_what_is_no_signature_holds_for_nothing(signature):
    assert not is_signed(DOCUMENT, signature, Ed25519PrivateKey.generate().public_key())


def test_a_key_is_made_once_and_read_again_and_others_cannot_read_it(tmp_path):
    private, public = tmp_path / "keys" / "plan.key", tmp_path / "keys" / "plan.pub"
    made, again = own_key(private, public), own_key(private, public)
    assert public_pem(made.public_key()) == public_pem(again.public_key()) == public.read_text()
    assert private.stat().st_mode & 0o077 == 0
    assert is_signed(DOCUMENT, sign(DOCUMENT, again), public_key(public.read_text()))


def test_a_lost_key_is_not_replaced_in_silence(tmp_path):
    private, public = tmp_path / "plan.key", tmp_path / "plan.pub"
    own_key(private, public)
    private.unlink()
    with pytest.raises(UsageError, match=r"plan\.key is missing; plan\.pub is there") as caught:
        own_key(private, public)
    assert "backup" in str(caught.value)
    assert not private.exists()


@pytest.mark.parametrize(("content", "says"), [(b"junk", "cannot be read"), (new_key(), "not an Ed25519 key")])
def test_a_damaged_or_other_key_is_named(tmp_path, content, says):
    private = tmp_path / "plan.key"
    private.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        own_key(private, tmp_path / "plan.pub")
    assert str(private) in str(caught.value)


def test_a_public_key_of_another_kind_is_refused():
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(ValueError, match="Ed25519"):
        public_key(pem)
