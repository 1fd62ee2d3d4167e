from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from modeling.arrays import to_arrays
from modeling.release import empty_model, load_model, load_tokenizer, model_with, new_model, save_model
from modeling.sizes import SIZES, decoder_config
from protocols.errors import UsageError


def test_plain_transformers_loads_the_folder(model_folder, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    loaded = AutoTokenizer.from_pretrained(model_folder)

    assert isinstance(model, LlamaForCausalLM)
    text = "He denies chest pain: 37.2 °C."
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert model.config.eos_token_id == loaded.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == loaded.pad_token_id
    expected = new_model("pico", tokenizer, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_release_folder_has_a_card_and_no_pickle(model_folder):
    names = {p.name for p in model_folder.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]


def test_same_seed_gives_same_weights_and_another_seed_others(tokenizer):
    one, same, other = (to_arrays(new_model("pico", tokenizer, seed=s)) for s in (3, 3, 4))
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert not np.array_equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_making_a_model_leaves_the_random_state_of_torch_alone(tokenizer):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    new_model("pico", tokenizer, seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_unknown_size_is_wrong_usage(tokenizer):
    with pytest.raises(UsageError, match="no model size 'giant'") as caught:
        new_model("giant", tokenizer, seed=0)
    assert "pico" in str(caught.value.hint)


@pytest.mark.parametrize("name", SIZES)
def test_every_size_splits_its_width_over_its_heads(name):
    config = decoder_config(name, 1_000, 0, 1)
    assert config.hidden_size % config.num_attention_heads == 0
    assert config.intermediate_size % 32 == 0
    assert config.tie_word_embeddings


def test_saving_replaces_the_folder(tmp_path, tokenizer):
    for seed in (1, 2):
        save_model(tmp_path / "m", new_model("pico", tokenizer, seed=seed), tokenizer, f"card {seed}")
    assert (tmp_path / "m" / "README.md").read_text() == "card 2"
    loaded, expected = to_arrays(load_model(tmp_path / "m")[0]), to_arrays(new_model("pico", tokenizer, seed=2))
    assert all(np.array_equal(loaded[k], expected[k]) for k in expected)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_model_with_other_weights_keeps_shape_and_tokenizer(model_folder, tokenizer):
    arrays = to_arrays(new_model("pico", tokenizer, seed=5))
    model = model_with(model_folder, arrays)
    assert all(np.array_equal(a, arrays[k]) for k, a in to_arrays(model).items())


def test_empty_model_has_the_arrays_of_the_loaded_one(model_folder):
    loaded, empty = to_arrays(load_model(model_folder)[0]), to_arrays(empty_model(model_folder)[0])
    assert {k: v.shape for k, v in loaded.items()} == {k: v.shape for k, v in empty.items()}


@pytest.mark.parametrize("load", [load_model, empty_model])
def test_folder_without_a_model_is_wrong_usage(tmp_path, load):
    with pytest.raises(UsageError, match="holds no model"):
        load(tmp_path)


def test_folder_without_a_tokenizer_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_broken_weights_are_wrong_usage(tmp_path, model_folder):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:5_000])
    with pytest.raises(UsageError, match="cannot be loaded as a causal language model"):
        load_model(tmp_path)


def test_tokenizer_is_a_fast_one(model_folder):
    assert isinstance(load_tokenizer(model_folder), PreTrainedTokenizerFast)
