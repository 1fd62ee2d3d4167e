from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from protocols.error_codes import ContractError, ErrorCode
from protocols.manifest import ParameterManifest, ParameterSpec

ARRAYS = {"b": np.zeros((2, 3), np.float32), "a": np.zeros(4, np.float32)}


def test_manifest_lists_arrays_by_name_whatever_their_order():
    manifest = ParameterManifest.of(ARRAYS)
    assert [(s.name, s.shape) for s in manifest.parameters] == [("a", (4,)), ("b", (2, 3))]
    assert manifest == ParameterManifest.of(dict(reversed(ARRAYS.items())))


def test_digest_tells_name_and_shape_apart():
    digests = {
        ParameterManifest.of(ARRAYS).digest,
        ParameterManifest.of({**ARRAYS, "a": np.zeros(5, np.float32)}).digest,
        ParameterManifest.of({"b": ARRAYS["b"], "c": ARRAYS["a"]}).digest,
        ParameterManifest.of({"b": ARRAYS["b"]}).digest,
    }
    assert len(digests) == 4


def test_num_bytes_is_four_per_value():
    assert ParameterManifest.of(ARRAYS).num_bytes == 4 * (6 + 4)


def test_the_listed_arrays_pass():
    ParameterManifest.of(ARRAYS).check(ARRAYS)


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": ARRAYS["a"]},
        {**ARRAYS, "c": ARRAYS["a"]},
        {"a": ARRAYS["a"], "c": ARRAYS["b"]},
        {**ARRAYS, "a": np.zeros((4, 1), np.float32)},
        {**ARRAYS, "a": np.zeros(4, np.float64)},
        {},
    ],
)
def test_missing_extra_misshaped_or_mistyped_array_is_refused(arrays):
    with pytest.raises(ContractError) as caught:
        ParameterManifest.of(ARRAYS).check(arrays)
    assert caught.value.code == ErrorCode.MANIFEST_MISMATCH


def test_names_of_arrays_cannot_hold_sentences():
    with pytest.raises(ValidationError):
        ParameterSpec(name="Jane Roe", shape=(1,))
    with pytest.raises(ValidationError):
        ParameterSpec(name="a" * 201, shape=(1,))
