from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modeling.bits_per_byte import Score, bits_per_byte, score_texts
from modeling.release import load_model, new_model
from modeling.tokenizer import train_tokenizer

LONG = "Blood pressure was 142/88. He denies chest pain. Größe 1,80 m, 37.2 °C. " * 12
TEXTS = [LONG, "No fever.", "ä", "Left knee pain " * 7]


@pytest.fixture(scope="module")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and two special tokens, no merges."""
    return train_tokenizer(["x"], vocab_size=258)


@pytest.fixture(scope="module")
def unigram(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model that gives each token the same probability wherever it stands: all embeddings are one vector."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.randn(16, generator=generator).expand(len(tokenizer), 16))
        model.lm_head.weight.copy_(torch.randn(len(tokenizer), 16, generator=generator))
    return model


def test_uniform_byte_model_scores_the_log_of_its_vocabulary_per_byte(byte_tokenizer):
    model = new_model("pico", byte_tokenizer, seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()  # tied to the output: all logits are 0

    scores = score_texts(model, byte_tokenizer, TEXTS)

    assert [s.bits / s.num_bytes for s in scores] == pytest.approx([math.log2(258)] * len(TEXTS), rel=1e-6)
    assert bits_per_byte(scores) == pytest.approx(math.log2(258), rel=1e-6)


@pytest.mark.parametrize("context", [None, 8, 15, 1_000])
def test_every_token_of_a_long_text_is_scored_exactly_once(unigram, tokenizer, context):
    with torch.no_grad():
        nats = -F.log_softmax(unigram(input_ids=torch.tensor([[5]])).logits[0, 0].double(), dim=0)
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS]
    assert len(ids[0]) > 32 * 3  # many windows
    assert nats.std() > 0.5  # tokens differ, so that none can stand in for another

    scores = score_texts(unigram, tokenizer, TEXTS, context=context)

    expected = [float(nats[i].sum()) / math.log(2) for i in ids]
    assert [s.bits for s in scores] == pytest.approx(expected, rel=1e-5)


def test_score_of_a_short_text_is_its_negative_log_likelihood_after_the_end_of_note(model_folder):
    model, tokenizer = load_model(model_folder)
    ids = [tokenizer.bos_token_id, *tokenizer("He denies chest pain.", add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    nats = F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")

    (score,) = score_texts(model, tokenizer, ["He denies chest pain."])

    assert score.bits == pytest.approx(float(nats) / math.log(2), rel=1e-6)


def test_batch_size_does_not_change_scores(model_folder):
    model, tokenizer = load_model(model_folder)
    one = score_texts(model, tokenizer, TEXTS, rows=1, context=24)
    many = score_texts(model, tokenizer, TEXTS, rows=7, context=24)
    assert [s.bits for s in one] == pytest.approx([s.bits for s in many], rel=1e-5)


def test_score_does_not_depend_on_the_other_texts(model_folder):
    model, tokenizer = load_model(model_folder)
    together = score_texts(model, tokenizer, TEXTS)
    alone = [score_texts(model, tokenizer, [t])[0] for t in TEXTS]
    assert [s.bits for s in together] == pytest.approx([s.bits for s in alone], rel=1e-5)


def test_characters_of_several_bytes_count_as_bytes(model_folder):
    model, tokenizer = load_model(model_folder)
    scores = score_texts(model, tokenizer, ["abc", "äöü", "37 °C", "日本"])
    assert [s.num_bytes for s in scores] == [3, 6, 6, 6]


def test_empty_texts_cost_nothing_and_count_nothing(model_folder):
    model, tokenizer = load_model(model_folder)
    assert score_texts(model, tokenizer, []) == []
    assert score_texts(model, tokenizer, [""]) == [Score(bits=0.0, num_bytes=0)]
    assert math.isnan(bits_per_byte([]))


def test_bits_per_byte_is_the_ratio_of_sums():
    assert bits_per_byte([Score(bits=30.0, num_bytes=10), Score(bits=10.0, num_bytes=30)]) == 1.0


def test_progress_tells_of_every_window(unigram, tokenizer):
    told: list[int] = []
    score_texts(unigram, tokenizer, TEXTS, rows=4, progress=told.append)
    tokens = len(tokenizer(LONG, add_special_tokens=False)["input_ids"])
    assert sum(told) >= tokens // 24
    assert max(told) == 4
