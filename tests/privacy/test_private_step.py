"""The five tests of a mechanism: off switch, closed form, deviation of the noise, misuse, and a slow oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from privacy.gradients.choose import backend_named
from privacy.mechanism import Mechanism
from privacy.private_step import PrivateStep
from privacy.randomness import SecureRandom
from privacy.unit_batch import UnitBatch

BACKENDS = ["loop", "hooks", "ghost"]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).train()


def mechanism(**changes: float) -> Mechanism:
    values = {"sampling_rate": 1.0, "noise_multiplier": 0.0, "max_grad_norm": 1e6, "max_records": 8}
    return Mechanism(**{**values, "expected_units": 3.0, **changes})  # type: ignore[arg-type]


def batch(*records: int, seed: int = 1) -> UnitBatch:
    """Random tokens of units with so many records each."""
    tokens = torch.randint(0, 40, (sum(records), 9), generator=torch.Generator().manual_seed(seed))
    unit = torch.repeat_interleave(torch.arange(len(records)), torch.tensor(records))
    positions = torch.arange(8).repeat(sum(records), 1)
    inputs = {"input_ids": tokens[:, :-1].contiguous(), "position_ids": positions}
    return UnitBatch(inputs=inputs, targets=tokens[:, 1:].contiguous(), unit=unit, num_units=len(records))


def released(model: nn.Module, batches: list[UnitBatch], backend: str = "loop", **changes: float) -> Tensor:
    step = PrivateStep(model, mechanism(**changes), backend_named(backend), SecureRandom.from_system())
    step.release(batches)
    flat = torch.cat([p.grad.flatten().clone() for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    return flat


def oracle(model: nn.Module, records: UnitBatch) -> list[Tensor]:
    """Gradient of each unit's mean record loss, with nothing of the product's in the way."""
    gradients = []
    for unit in range(records.num_units):
        rows = torch.nonzero(records.unit == unit).flatten()
        losses = []
        for row in rows:
            logits = model(input_ids=records.inputs["input_ids"][row][None]).logits[0]
            losses.append(nn.functional.cross_entropy(logits, records.targets[row]))
        grads = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        gradients.append(torch.cat([g.flatten() for g in grads]))
    return gradients


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_noise_and_clipping_it_is_the_plain_mean(model, backend):
    records = batch(1, 3, 2)
    expected = torch.stack(oracle(model, records)).mean(0)
    assert torch.allclose(released(model, [records], backend), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clipping_has_its_closed_form(model, backend):
    records = batch(1, 3, 2)
    gradients = oracle(model, records)
    bound = float(torch.stack([g.norm() for g in gradients]).median())  # some are longer, some are not
    expected = sum(g * min(1.0, bound / float(g.norm())) for g in gradients) / 3
    assert torch.allclose(released(model, [records], backend, max_grad_norm=bound), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_denominator_is_the_public_number_not_the_drawn_one(model, backend):
    one, more = batch(1), batch(1)
    assert torch.allclose(
        released(model, [one], backend, expected_units=2.0), released(model, [more], backend, expected_units=4.0) * 2
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("notes", [1, 50])
def test_a_patient_with_one_note_and_one_with_fifty_rephrasings_move_the_model_by_the_same_bound(model, backend, notes):
    """Sensitivity: with a huge gradient, adding a patient changes the sum by the bound exactly, not by 50 of it."""
    others = batch(2, 1)
    bound = 0.01  # far below every norm
    without = released(model, [others], backend, max_grad_norm=bound)
    with_it = released(model, [others, batch(notes, seed=7)], backend, max_grad_norm=bound)
    moved = float((with_it - without).norm()) * 3.0 / bound
    assert moved == pytest.approx(1.0, abs=1e-3)


def test_noise_has_the_standard_deviation_that_was_charged_for(model):
    records, changes = batch(2, 1), {"noise_multiplier": 1.5, "max_grad_norm": 0.7}
    differences = [released(model, [records], **changes) - released(model, [records], **changes) for _ in range(4)]
    n = sum(d.numel() for d in differences)
    ratio = float(torch.cat(differences).std()) * 3.0 / (math.sqrt(2) * 1.5 * 0.7)
    assert abs(ratio - 1) < 4.5 / math.sqrt(2 * n)


def test_nobody_drawn_is_a_step_of_noise_alone(model):
    noise = released(model, [], noise_multiplier=2.0, max_grad_norm=1.0)
    assert float(noise.std()) * 3.0 == pytest.approx(2.0, rel=0.1)
    assert not released(model, [], noise_multiplier=0.0).any()


def test_what_was_in_grad_before_does_not_stay(model):
    records = batch(2, 1)
    clean = released(model, [records])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 99.0)
    assert torch.equal(released(model, [records]), clean)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_a_step_add_up(model, backend):
    whole = batch(2, 1, 3)
    parts = []
    for unit in range(3):
        rows = whole.unit == unit
        inputs = {name: value[rows] for name, value in whole.inputs.items()}
        own = torch.zeros(int(rows.sum()), dtype=torch.long)
        parts.append(UnitBatch(inputs=inputs, targets=whole.targets[rows], unit=own, num_units=1))
    changes = {"max_grad_norm": 0.5}
    assert torch.allclose(
        released(model, parts, backend, **changes), released(model, [whole], backend, **changes), atol=1e-6
    )


def test_facts_are_the_sites_own(model):
    step = PrivateStep(model, mechanism(max_grad_norm=0.01), backend_named("loop"), SecureRandom.from_system())
    facts = step.release([batch(2, 1), batch(1)])
    assert (facts.units, facts.clipped) == (3, 3)
    assert 3.0 < facts.loss < 5.0
    assert math.isnan(step.release([]).loss)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"sampling_rate": math.nan},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.inf},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": -1.0},
        {"max_grad_norm": math.inf},
        {"max_grad_norm": math.nan},
        {"max_records": 0},
        {"expected_units": 0.0},
        {"expected_units": math.nan},
    ],
)
def test_constants_out_of_range_are_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=name):
        mechanism(**changes)


def test_noise_goes_through_float64(model):
    """Rounding to float32 comes last: float32 noise would leave gaps that betray the sum (Mironov 2012)."""
    step = PrivateStep(model, mechanism(noise_multiplier=1.0), backend_named("loop"), SecureRandom(bytes(32)))
    step.release([])
    first = next(model.parameters())
    noise = SecureRandom(bytes(32)).normal(first.numel()) * 1e6 / 3.0
    assert np.array_equal(first.grad.flatten().numpy(), noise.astype(np.float32))
    model.zero_grad(set_to_none=True)
