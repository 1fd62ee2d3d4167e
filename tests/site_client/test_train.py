from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from modeling.packing import Document
from modeling.release import new_model
from protocols.errors import WorkError
from protocols.messages import InnerRecipe
from site_client import train
from site_client.train import learning_rate, make_optimizer, make_rows, train_steps

RECIPE = InnerRecipe(
    steps=3, rows=10, row_length=16, peak_lr=0.01, warmup_steps=4, final_lr_fraction=0.1, packing="patient"
)


def corpus(patients: int = 12) -> list[Document]:
    rng = np.random.default_rng(0)
    return [Document(unit=str(i), tokens=rng.integers(2, 60, 5 + i).astype(np.int32)) for i in range(patients)]


@pytest.fixture
def model(tokenizer):
    return new_model("pico", tokenizer, seed=0)


def test_learning_rate_at_its_corners():
    rates = [learning_rate(RECIPE, step, 105) for step in range(105)]
    assert rates[0] == pytest.approx(0.01 / 4)  # never 0: a first step counts
    assert rates[3] == pytest.approx(0.01)  # the warmup ends at the peak
    assert rates[4] == pytest.approx(0.01)
    assert rates[54] == pytest.approx(0.01 * (0.1 + 0.9 / 2))  # half-way down
    assert rates[104] == pytest.approx(0.001)
    assert all(a < b for a, b in pairwise(rates[:4]))
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert learning_rate(RECIPE, 500, 105) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("warmup", "total", "step", "expected"), [(0, 1, 0, 0.01), (0, 2, 1, 0.001), (9, 4, 3, 0.01 * 4 / 9)]
)
def test_learning_rate_of_very_short_runs(warmup, total, step, expected):
    recipe = RECIPE.model_copy(update={"warmup_steps": warmup})
    assert learning_rate(recipe, step, total) == pytest.approx(expected)


def test_gradients_taken_a_few_rows_at_a_time_equal_those_of_the_whole_batch(model, tokenizer, monkeypatch):
    batch = make_rows(corpus(), RECIPE, tokenizer).batch(0, 10)
    counts = (batch.targets != train.IGNORED).sum(1)
    assert counts.min() < counts.max()  # rows weigh differently: a mean of means would not do

    grads, losses = [], []
    for rows in (16, 3, 1):
        monkeypatch.setattr(train, "_ROWS_AT_A_TIME", rows)
        model.zero_grad(set_to_none=True)
        losses.append(train._accumulate(model, batch))
        grads.append([p.grad.clone() for p in model.parameters()])

    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert max(g.abs().max() for g in grads[0]) > 0
    for other in grads[1:]:
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(grads[0], other, strict=True))


def test_first_loss_of_a_fresh_model_is_near_that_of_guessing(model, tokenizer):
    batch = make_rows(corpus(), RECIPE, tokenizer).batch(0, 10)
    assert train._accumulate(model, batch) == pytest.approx(math.log(300), rel=0.05)


def test_training_brings_the_loss_down_and_tells_of_every_step(model, tokenizer):
    told: list[tuple[int, float]] = []
    rows = make_rows(corpus(), RECIPE, tokenizer)
    loss, tokens = train_steps(
        model,
        make_optimizer(model, RECIPE),
        rows,
        RECIPE,
        first_step=0,
        steps=15,
        total_steps=15,
        on_step=lambda *step: told.append(step),
    )
    assert len(told) == 15
    assert tokens == sum(t for t, _ in told) == sum(rows.batch(s, 10).num_tokens for s in range(15))
    assert loss == pytest.approx(sum(t * x for t, x in told) / tokens)
    assert told[-1][1] < told[0][1] - 0.5


def test_no_gradient_is_carried_into_the_next_step(model, tokenizer):
    rows = make_rows(corpus(), RECIPE, tokenizer)
    train_steps(model, make_optimizer(model, RECIPE), rows, RECIPE, first_step=0, steps=1, total_steps=9)
    assert all(p.grad is None for p in model.parameters())


def test_two_halves_equal_one_run(tokenizer):
    def run(*parts: tuple[int, int]) -> torch.Tensor:
        model = new_model("pico", tokenizer, seed=0)
        optimizer = make_optimizer(model, RECIPE)
        for first, steps in parts:
            rows = make_rows(corpus(), RECIPE, tokenizer)
            train_steps(model, optimizer, rows, RECIPE, first_step=first, steps=steps, total_steps=4)
        return model.get_input_embeddings().weight

    assert torch.equal(run((0, 4)), run((0, 2), (2, 2)))


def test_loss_that_is_not_finite_is_a_work_error_that_names_the_step(model, tokenizer):
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(WorkError, match="not finite at step 7") as caught:
        train_steps(
            model,
            make_optimizer(model, RECIPE),
            make_rows(corpus(), RECIPE, tokenizer),
            RECIPE,
            first_step=7,
            steps=2,
            total_steps=20,
        )
    assert caught.value.hint == "lower peak_lr"
    assert all(torch.equal(a, b) or a.isnan().any() for a, b in zip(before, model.parameters(), strict=True))


def test_only_matrices_are_decayed(model):
    decayed, rest = make_optimizer(model, RECIPE).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (RECIPE.weight_decay, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in rest["params"]} == {1}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(model.parameters()))
