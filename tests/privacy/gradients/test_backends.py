from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gradient_support import FAMILIES, VOCABULARY, one_at_a_time, relative_error, tiny_model, unit_batch

from privacy.gradients.choose import BACKENDS, backend_named
from privacy.gradients.clipped import clip_factors, squared_norm, total_norm, trainable
from privacy.gradients.loss import unit_losses
from privacy.gradients.slots import pick_units
from privacy.unit_batch import IGNORED, UnitBatch


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: several threads only wait for each other
    yield
    torch.set_num_threads(threads)


SAMPLED = {"hooks": "hooks.layer_gradients", "ghost": "ghost.squares_by_unit"}


def total(gradients):
    return torch.cat([g.flatten().double() for g in gradients])


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_and_clipped_sum_equal_one_record_at_a_time(family):
    """Tied and untied, all weights and LoRA, each backend, above most norms and below all of them."""
    faults = []
    for tied, lora in ((True, False), (False, False), (True, True), (False, True)):
        model = tiny_model(family, tied=tied, lora=lora)
        batch = unit_batch((1, 3, 2), padded=True)
        norms, _ = one_at_a_time(model, batch, 1.0)
        for bound in (float(norms.sort().values[-2:].mean()), float(norms.min()) / 2):
            norms, expected = one_at_a_time(model, batch, bound)
            for name in BACKENDS:
                found = backend_named(name).clipped_sum(model, batch, bound)
                norm_error = float(((found.norms - norms) / norms).abs().max())
                error = relative_error(found.gradients, expected)
                if not max(norm_error, error) < 1e-5:
                    faults.append(f"{family} {tied=} {lora=} {name} C={bound:.3g}: norms {norm_error}, sum {error}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", BACKENDS)
def test_nothing_is_left_on_the_model_and_a_second_step_is_as_right_as_the_first(name):
    model = tiny_model("bert")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model(input_ids=unit_batch().inputs["input_ids"]).logits.sum()  # a stray forward in train mode
    before = _everything(model)
    first = backend_named(name).clipped_sum(model, unit_batch(), 1.0)
    batch = unit_batch(seed=1)
    second = backend_named(name).clipped_sum(model, batch, 1.0)
    assert _everything(model) == before
    assert all((p.grad == 1).all() for p in model.parameters())
    assert relative_error(second.gradients, one_at_a_time(model, batch, 1.0)[1]) < 1e-5
    assert not torch.equal(total(first.gradients), total(second.gradients))
    assert not any(g.requires_grad for g in [*second.gradients, second.norms, second.losses])


def _everything(model):
    hooks = [(len(m._forward_hooks), len(m._backward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    attributes = [sorted(vars(m)) for m in model.modules()] + [sorted(vars(p)) for p in model.parameters()]
    return list(model.state_dict()), hooks, attributes, [m.training for m in model.modules()]


@pytest.mark.parametrize("name", BACKENDS)
def test_hooks_are_removed_after_an_exception(name, monkeypatch):
    model = tiny_model("llama")
    before = _everything(model)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="in the middle"):
        if name == "loop":
            patch.setattr(torch.autograd, "grad", _raise)
        else:  # on the way back, with the hooks of all layers in place
            patch.setattr(f"privacy.gradients.{SAMPLED[name]}", _raise)
        backend_named(name).clipped_sum(model, unit_batch(), 1.0)
    assert _everything(model) == before
    batch = unit_batch()
    found = backend_named(name).clipped_sum(model, batch, 1.0)
    assert relative_error(found.gradients, one_at_a_time(model, batch, 1.0)[1]) < 1e-5


def _raise(*_, **__):
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("name", BACKENDS)
def test_parts_of_whole_units_add_up_to_one_batch(name):
    model, batch = tiny_model("qwen2"), unit_batch((2, 1, 3, 1))
    whole = backend_named(name).clipped_sum(model, batch, 0.5)
    halves = [torch.tensor([True, False, True, False]), torch.tensor([False, True, False, True])]
    parts = [backend_named(name).clipped_sum(model, pick_units(batch, half), 0.5) for half in halves]
    added = [a + b for a, b in zip(parts[0].gradients, parts[1].gradients, strict=True)]
    assert relative_error(added, whole.gradients) < 1e-5


@pytest.mark.parametrize("name", BACKENDS)
def test_one_patient_moves_the_sum_by_at_most_the_bound_with_one_record_or_fifty(name):
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(30)  # the head is tied: huge gradients
    for bound in (0.5, 1e6):
        for records in ((2, 1, 1), (2, 1, 50)):
            batch = unit_batch(records, tokens=8)
            others = pick_units(batch, torch.tensor([True, True, False]))
            found = [total(backend_named(name).clipped_sum(model, b, bound).gradients) for b in (batch, others)]
            assert torch.linalg.vector_norm(found[0] - found[1]) <= bound * (1 + 1e-4)


def test_the_models_own_loss_would_break_the_bound_and_ours_does_not():
    """transformers' ``labels`` average over all tokens of the batch: one patient rescales everyone else."""
    model = tiny_model("bert")
    batch = unit_batch((1, 1, 1, 1))
    batch.targets[:3, 1:] = IGNORED  # three patients with one target each, and one with many
    batch.targets[:3, 0] = 5
    others = pick_units(batch, torch.tensor([True, True, True, False]))
    parameters = [p for _, p in trainable(model)]

    def coupled_sum(each, bound):
        kept = (each.targets != IGNORED).sum()
        logits = model(input_ids=each.inputs["input_ids"]).logits
        losses = F.cross_entropy(logits.mT, each.targets, ignore_index=IGNORED, reduction="none").sum(1) / kept
        found = [
            total(_given(torch.autograd.grad(x, parameters, retain_graph=True, allow_unused=True), parameters))
            for x in losses * each.num_units
        ]
        return sum(g * min(1, bound / float(g.norm())) for g in found)

    bound = 1.05 * float(backend_named("loop").clipped_sum(model, batch, 1.0).norms.max())
    labels = model(input_ids=batch.inputs["input_ids"], labels=batch.targets).loss
    kept = (batch.targets != IGNORED).sum()
    ours = F.cross_entropy(model(input_ids=batch.inputs["input_ids"]).logits.mT, batch.targets, reduction="sum") / kept
    assert float(labels.detach()) == pytest.approx(
        float(ours.detach()), rel=1e-5
    )  # so the coupled loss above is theirs
    assert torch.linalg.vector_norm(coupled_sum(batch, bound) - coupled_sum(others, bound)) > 1.05 * bound
    for name in BACKENDS:
        with_it, without = (total(backend_named(name).clipped_sum(model, b, bound).gradients) for b in (batch, others))
        assert torch.linalg.vector_norm(with_it - without) <= bound * (1 + 1e-4)


def _given(gradients, parameters):
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_record_without_targets_counts_as_zero_and_a_unit_of_such_records_adds_nothing(name):
    model, batch = tiny_model("gpt2"), unit_batch((1, 2, 1))
    batch.targets[2:] = IGNORED
    found = backend_named(name).clipped_sum(model, batch, 1e6)
    norms, expected = one_at_a_time(model, batch, 1e6)
    assert relative_error(found.gradients, expected) < 1e-5
    assert found.norms[1] == pytest.approx(float(norms[1]), rel=1e-5)
    assert found.norms[2] == 0
    assert found.losses[2] == 0
    alone = backend_named(name).clipped_sum(model, pick_units(batch, torch.tensor([False, False, True])), 1.0)
    assert all((g == 0).all() for g in alone.gradients)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_patient_whose_gradient_is_not_finite_is_left_out(name):
    model = tiny_model("llama", tied=False)
    batch = unit_batch((1, 2, 1))
    batch.inputs["input_ids"][batch.inputs["input_ids"] == VOCABULARY - 1] = 3
    batch.inputs["input_ids"][1, 4] = VOCABULARY - 1
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY - 1] = float("nan")
    rest = pick_units(batch, torch.tensor([True, False, True]))
    found = backend_named(name).clipped_sum(model, batch, 0.5)
    assert not found.norms[1].isfinite()
    assert found.norms[0].isfinite()
    expected = backend_named("loop").clipped_sum(model, rest, 0.5)
    assert relative_error(found.gradients, expected.gradients) < 1e-5
    nobody = pick_units(batch, torch.tensor([False, True, False]))
    assert all((g == 0).all() for g in backend_named(name).clipped_sum(model, nobody, 0.5).gradients)


def test_factors_are_one_within_the_bound_and_zero_where_not_finite():
    factors = clip_factors(torch.tensor([0.0, 0.5, 2.0, float("nan"), float("inf")]), 1.0)
    assert factors.tolist() == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", BACKENDS)
def test_autocast_around_a_step_changes_nothing(name):
    model, batch = tiny_model("llama"), unit_batch()
    plain = backend_named(name).clipped_sum(model, batch, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = backend_named(name).clipped_sum(model, batch, 1.0)
    assert relative_error(cast.gradients, plain.gradients) < 1e-6


@pytest.mark.parametrize("name", BACKENDS)
def test_dropout_in_train_mode_still_gives_clipped_gradients(name):
    model, batch = tiny_model("bert", dropout=0.2), unit_batch((2, 1))
    torch.manual_seed(0)
    found = backend_named(name).clipped_sum(model, batch, 1e-2)
    assert torch.linalg.vector_norm(total(found.gradients)) <= 2 * 1e-2 * (1 + 1e-4)


def test_cores_take_units_of_their_own_and_the_sum_is_the_same_every_time():
    model, batch = tiny_model("llama"), unit_batch((3, 1, 2, 1, 1))
    one = backend_named("loop").clipped_sum(model, batch, 0.5)
    torch.set_num_threads(2)
    two, again = (backend_named("loop").clipped_sum(model, batch, 0.5) for _ in range(2))
    assert torch.get_num_threads() == 2
    assert torch.equal(total(two.gradients), total(again.gradients))
    assert relative_error(two.gradients, one.gradients) < 1e-6
    assert torch.equal(one.losses, two.losses) or relative_error([two.losses], [one.losses]) < 1e-6


def test_the_loss_of_a_unit_is_the_mean_over_its_records():
    model, batch = tiny_model("llama"), unit_batch((1, 2))
    alone = [
        unit_losses(model, UnitBatch(inputs={"input_ids": batch.inputs["input_ids"][i : i + 1]},
                                     targets=batch.targets[i : i + 1], unit=torch.zeros(1, dtype=torch.int64),
                                     num_units=1))[0]
        for i in range(3)
    ]  # fmt: skip
    expected = torch.stack([alone[0], (alone[1] + alone[2]) / 2])
    assert torch.allclose(unit_losses(model, batch), expected, rtol=1e-5)


def test_norm_of_a_large_tensor_is_not_lost_in_single_precision():
    """torch's own float32 norm of an embedding of this size is 0.1 % short, and clipping would be as much too weak."""
    gradient = torch.randn(40_000, 512, generator=torch.Generator().manual_seed(0)) * 1e-3
    exact = float(gradient.double().norm())
    assert abs(float(total_norm([gradient])) / exact - 1) < 1e-7
    assert abs(float(squared_norm(gradient[None]).sqrt()) / exact - 1) < 1e-7
    assert abs(float(torch.linalg.vector_norm(gradient)) / exact - 1) > 1e-4  # else the care is no longer needed
