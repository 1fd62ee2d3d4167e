from __future__ import annotations

import pytest
import torch
from gradient_support import FAMILIES, WIDTH, relative_error, tiny_model, unit_batch
from peft import LoraConfig, get_peft_model
from torch import nn

from privacy.gradients.architectures import CHECKED, architecture_of, refuse_unsupported, require_checked
from privacy.gradients.check import APART, check_model
from privacy.gradients.choose import BACKENDS, backend_named, fastest_backend, measure_backends
from privacy.gradients.layer_hooks import layer_hooks
from protocols.errors import UsageError


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Wrapped(nn.Module):
    """A layer that runs behind another one of a model, over (R, T, width)."""

    def __init__(self, inner: nn.Module, extra: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.extra = extra

    def forward(self, hidden):
        hidden = self.inner(hidden)
        if isinstance(self.extra, nn.GRU):
            return self.extra(hidden)[0]
        return self.extra(hidden.mT).mT


def with_layer(extra: nn.Module) -> nn.Module:
    model = tiny_model("llama")
    model.model.norm = Wrapped(model.model.norm, extra)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_six_families_are_accepted_with_and_without_lora(family):
    require_checked(tiny_model(family))
    require_checked(tiny_model(family, lora=True))
    assert architecture_of(tiny_model(family, lora=True)) in CHECKED


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (nn.BatchNorm1d(WIDTH), r"model\.norm\.extra \(BatchNorm1d\).*averages over all patients"),
        (nn.Conv1d(WIDTH, WIDTH, 3, padding=1), r"model\.norm\.extra \(Conv1d\).*reaches over several positions"),
        (nn.GRU(WIDTH, WIDTH, batch_first=True), r"model\.norm\.extra \(GRU\).*recurrent"),
        (nn.GroupNorm(4, WIDTH), r"model\.norm\.extra \(GroupNorm\).*no gradient per patient is known"),
    ],
)
def test_layers_in_which_records_touch_are_refused_by_name(extra, words):
    with pytest.raises(UsageError, match=words) as refused:
        require_checked(with_layer(extra))
    assert refused.value.hint is not None
    assert "fednotes site privacy check-model" in refused.value.hint


def test_dora_checkpointing_half_precision_and_unknown_classes_are_refused():
    dora = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(UsageError, match=r"q_proj.*DoRA.*use LoRA"):
        require_checked(dora)
    model = tiny_model("llama")
    model.gradient_checkpointing_enable()
    with pytest.raises(UsageError, match=r"model.*gradient_checkpointing_disable"):
        require_checked(model)
    with pytest.raises(UsageError, match=r"bfloat16, too coarse"):
        require_checked(tiny_model("llama").bfloat16())
    with pytest.raises(UsageError, match="no trainable parameter"):
        require_checked(tiny_model("llama").requires_grad_(False))

    class OurForCausalLM(type(tiny_model("llama"))):
        pass

    ours = OurForCausalLM(tiny_model("llama").config)
    with pytest.raises(UsageError, match="OurForCausalLM was not checked"):
        require_checked(ours)
    require_checked(ours, also=["OurForCausalLM"])


def test_a_mixture_of_experts_is_refused():
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(vocab_size=61, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                           num_attention_heads=4, num_key_value_heads=2, num_local_experts=2)  # fmt: skip
    with pytest.raises(UsageError, match="mixture of experts"):
        refuse_unsupported(MixtralForCausalLM(config))


@pytest.mark.parametrize("name", ["hooks", "ghost"])
def test_a_parameter_used_outside_its_layer_is_noticed(name):
    """A head that reads the embedding's weight by itself: no hook sees it, and the norm would come out too small."""
    model = tiny_model("llama")

    class Head(nn.Module):
        def forward(self, hidden):
            return hidden @ model.model.embed_tokens.weight.T

    model.lm_head = Head()
    with pytest.raises(UsageError, match=r"embed_tokens\.weight is used 2 times, but 1 times by its own layer"):
        backend_named(name).clipped_sum(model, unit_batch(), 1.0)
    assert not vars(model).get("autograd_grad_sample_hooks")


@pytest.mark.parametrize("name", ["hooks", "ghost"])
def test_a_layer_called_twice_is_added_up(name):
    model, batch = tiny_model("llama"), unit_batch()
    model.model.layers[1] = model.model.layers[0]
    expected = backend_named("loop").clipped_sum(model, batch, 0.5)
    found = backend_named(name).clipped_sum(model, batch, 0.5)
    assert relative_error(found.gradients, expected.gradients) < 1e-5
    assert torch.allclose(found.norms, expected.norms, rtol=1e-5)


@pytest.mark.parametrize("name", ["hooks", "ghost"])
def test_an_unfamiliar_rms_norm_goes_through_torch_func(name):
    class ShiftedRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(WIDTH))

        def forward(self, hidden):
            return (1 + self.weight) * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + 1e-6)

    model, batch = tiny_model("llama"), unit_batch()
    model.model.norm = ShiftedRMSNorm()
    expected = backend_named("loop").clipped_sum(model, batch, 0.5)
    found = backend_named(name).clipped_sum(model, batch, 0.5)
    assert relative_error(found.gradients, expected.gradients) < 1e-5
    assert "ft_compute_sample_grad" not in vars(model.model.norm)


def test_a_layer_without_a_known_gradient_gets_no_hook():
    model = with_layer(nn.GroupNorm(4, WIDTH))
    with (
        pytest.raises(UsageError, match=r"model\.norm\.extra \(GroupNorm\)"),
        layer_hooks(model, 1, lambda *_: None),
    ):
        pass


def test_a_check_passes_the_six_families_and_changes_nothing():
    for family in ("llama", "bert"):
        model = tiny_model(family, dropout=0.3)
        model.get_input_embeddings().eval()
        modes = [m.training for m in model.modules()]
        weights = {name: t.clone() for name, t in model.state_dict().items()}
        generator = torch.get_rng_state()
        rows = check_model(model, backends=BACKENDS)
        assert len(rows) == 1 + 2 * len(BACKENDS)
        assert all(row.passed for row in rows), rows
        assert max(row.sum_error for row in rows) < 1e-5
        assert [m.training for m in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(torch.equal(t, weights[name]) for name, t in model.state_dict().items())


def test_a_check_finds_records_that_touch_and_says_why_a_backend_cannot_run():
    model = with_layer(nn.BatchNorm1d(WIDTH))
    averages = model.model.norm.extra.running_mean.clone()
    rows = {row.backend: row for row in check_model(model, backends=BACKENDS)}
    assert rows[APART].wrong
    assert not rows["ghost"].wrong
    assert "model.norm.extra (BatchNorm1d)" in rows["ghost"].reason
    assert torch.equal(model.model.norm.extra.running_mean, averages)


def test_a_check_finds_a_wrong_backend(monkeypatch):
    from privacy.gradients import ghost

    monkeypatch.setattr(ghost._Norms, "_cross", lambda *_: None)  # the tied embedding's cross term forgotten
    rows = check_model(tiny_model("llama"), backends=["ghost"])
    assert any(row.wrong for row in rows)


def test_choosing_takes_the_fastest_that_works_and_leaves_everything_alone(monkeypatch):
    model = tiny_model("llama", dropout=0.1)
    generator = torch.get_rng_state()
    seconds = measure_backends(model, units=2, records=2, tokens=8)
    assert set(seconds) == set(BACKENDS)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in model.parameters())

    from privacy.gradients.loop import LoopBackend

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(LoopBackend, "clipped_sum", out_of_memory)
    assert fastest_backend(model, units=2, records=1, tokens=8).name in {"hooks", "ghost"}
    with pytest.raises(UsageError, match="no gradient backend 'magic'"):
        backend_named("magic")


def test_rotary_positions_that_follow_the_longest_row_are_refused():
    """Frequencies scaled by the batch let one patient's long note change another patient's gradient."""
    config = tiny_model("llama").config
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    with pytest.raises(UsageError, match="longest row of the batch"):
        require_checked(type(tiny_model("llama"))(config))
