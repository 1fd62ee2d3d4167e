from __future__ import annotations

import numpy as np
import pytest
import torch

from modeling.arrays import load_arrays, to_arrays
from modeling.release import new_model


@pytest.fixture
def model(tokenizer):
    return new_model("pico", tokenizer, seed=1)


def test_tied_weights_appear_once(model):
    arrays = to_arrays(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "model.embed_tokens.weight" in arrays
    assert "lm_head.weight" not in arrays
    assert sum(a.size for a in arrays.values()) == model.num_parameters()


def test_arrays_are_float32_copies(model):
    arrays = to_arrays(model)
    assert {a.dtype for a in arrays.values()} == {np.dtype(np.float32)}
    before = arrays["model.embed_tokens.weight"].copy()
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1.0)
    assert np.array_equal(arrays["model.embed_tokens.weight"], before)


def test_weights_come_back_equal_in_another_model(model, tokenizer):
    other = new_model("pico", tokenizer, seed=2)
    arrays = to_arrays(model)
    for array in arrays.values():
        array.flags.writeable = False  # as they come from the wire

    load_arrays(other, arrays)

    assert all(np.array_equal(a, arrays[k]) for k, a in to_arrays(other).items())
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(input_ids=tokens).logits, other(input_ids=tokens).logits)


def test_wrong_shape_raises(model):
    arrays = to_arrays(model)
    arrays["model.norm.weight"] = np.zeros(1, np.float32)  # would broadcast if nobody looked
    with pytest.raises(ValueError, match=r"shape of model\.norm\.weight is \(1,\), not \(64,\)"):
        load_arrays(model, arrays)


def test_missing_array_raises(model):
    arrays = to_arrays(model)
    del arrays["model.norm.weight"]
    with pytest.raises(KeyError, match=r"model\.norm\.weight"):
        load_arrays(model, arrays)


def test_array_that_is_no_parameter_raises(model):
    with pytest.raises(ValueError, match="1 arrays are not parameters"):
        load_arrays(model, {**to_arrays(model), "other": np.zeros(1, np.float32)})
