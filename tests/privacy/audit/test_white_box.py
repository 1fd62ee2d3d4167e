"""The checks pass for the real step with every backend, and see each fault that is put into it."""

import math
from dataclasses import replace

import pytest
import torch

from privacy.audit.white_box import random_units, white_box
from privacy.gradients.choose import BACKENDS, backend_named
from privacy.mechanism import Mechanism
from privacy.private_step import PrivateStep
from privacy.randomness import SecureRandom
from protocols.errors import UsageError

MECHANISM = Mechanism(sampling_rate=0.5, noise_multiplier=0.8, max_grad_norm=0.7, max_records=4, expected_units=6.0)


def backends():
    found = []
    for name in BACKENDS:
        try:
            found.append(backend_named(name))
        except UsageError:  # it is not built yet
            continue
    assert found
    return found


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # threads of tiny products wait for one another longer than they work
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).train()


@pytest.fixture(scope="module")
def batches():
    return [
        random_units(60, units=3, records=2, tokens=12, seed=1),
        random_units(60, units=2, records=1, tokens=9, seed=2),
        random_units(60, units=1, records=3, tokens=12, seed=3),
    ]


class NoNoise(PrivateStep):
    """The fault that nobody notices: training works better."""

    def _noised(self, total):
        return total / self._mechanism.expected_units


class WeakNoise(PrivateStep):
    """Noise by another constant than the one that is charged for."""

    def __init__(self, model, mechanism, backend, random):
        super().__init__(model, mechanism, backend, random)
        weaker = replace(mechanism, noise_multiplier=0.9 * mechanism.noise_multiplier)
        self._noised = PrivateStep(model, weaker, backend, random)._noised


class Unclipped:
    """A backend that takes every bound for a huge one."""

    def __init__(self, backend):
        self.name, self._backend = backend.name, backend

    def clipped_sum(self, model, batch, max_grad_norm):
        return self._backend.clipped_sum(model, batch, 1e9 * max_grad_norm)


class ByRecord:
    """A backend that takes every record for a unit: correct for notes, wrong for patients."""

    def __init__(self, backend):
        self.name, self._backend = backend.name, backend

    def clipped_sum(self, model, batch, max_grad_norm):
        units = replace(batch, unit=torch.arange(len(batch.unit)), num_units=len(batch.unit))
        return self._backend.clipped_sum(model, units, max_grad_norm)


def check(model, batches, backend, step=PrivateStep):
    return white_box(model, MECHANISM, lambda m: step(model, m, backend, SecureRandom.from_system()), batches)


@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_honest_step_passes(model, batches, backend):
    found = check(model, batches, backend)
    assert found.passed, found
    coordinates = sum(p.numel() for p in model.parameters())
    assert found.noise_standard_error == 1 / math.sqrt(2 * coordinates)
    assert found.sensitivity_ratio == pytest.approx(1.0, abs=1e-4)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_step_without_noise_is_caught(model, batches, backend):
    found = check(model, batches, backend, NoNoise)
    assert found.noise_ratio < 1e-5
    assert not found.noise_is_right
    assert found.units_are_clipped


@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_noise_a_tenth_too_weak_is_caught(model, batches, backend):
    found = check(model, batches, backend, WeakNoise)
    assert found.noise_ratio == pytest.approx(0.9, abs=NOISE_TOLERANCE)
    assert not found.noise_is_right


NOISE_TOLERANCE = 0.05


@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_step_without_clipping_is_caught(model, batches, backend):
    found = check(model, batches, Unclipped(backend))
    assert found.sensitivity_ratio > 100
    assert not found.units_are_clipped
    assert found.noise_is_right


@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_clipping_by_record_in_the_place_of_patients_is_caught(model, batches, backend):
    found = check(model, batches, ByRecord(backend))
    assert found.sensitivity_ratio > 1.2
    assert not found.passed


def test_parameter_without_a_gradient_is_refused(model, batches):
    class Forgetful(PrivateStep):
        def release(self, batches):
            super().release(batches)
            self._parameters[0].grad = None

    with pytest.raises(ValueError, match="without a gradient"):
        check(model, batches, backends()[0], Forgetful)


def test_unit_without_a_gradient_tests_nothing(model, batches):
    silent = replace(batches[-1], targets=torch.full_like(batches[-1].targets, -100))
    found = check(model, [*batches[:-1], silent], backends()[0])
    assert not found.sensitivity_was_tested
    assert not found.passed


def test_mechanism_without_noise_and_wrong_batches_are_refused(model, batches):
    def step(mechanism):
        raise AssertionError("no step is needed")

    with pytest.raises(ValueError, match="no noise"):
        white_box(model, replace(MECHANISM, noise_multiplier=0.0), step, batches)
    with pytest.raises(ValueError, match="one unit"):
        white_box(model, MECHANISM, step, batches[:2])
