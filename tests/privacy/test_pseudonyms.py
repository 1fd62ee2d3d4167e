from __future__ import annotations

import hashlib
import hmac
import re

from hypothesis import given
from hypothesis import strategies as st

from privacy.pseudonyms import pseudonym


def test_pseudonym_is_hmac_sha256_cut_to_128_bits():
    expected = hmac.new(b"key", b"patient\x00123", hashlib.sha256).hexdigest()[:32]
    assert pseudonym(b"key", "patient", "123") == expected


def test_pseudonyms_differ_by_key_kind_and_identifier():
    made = {pseudonym(k, kind, i) for k in (b"a", b"b") for kind in ("patient", "note") for i in ("1", "2", "01")}
    assert len(made) == 12


def test_surrounding_white_space_does_not_make_another_patient():
    assert pseudonym(b"k", "patient", " 12 \n") == pseudonym(b"k", "patient", "12")


@given(identifier=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40))
def test_pseudonym_is_hex_and_does_not_hold_the_identifier(identifier):
    made = pseudonym(b"k" * 32, "patient", identifier)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert identifier.strip() == "" or identifier.strip() not in made
