from __future__ import annotations

import json

import pytest
from tests_support import fednotes_here
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

from privacy.gradients import choose
from privacy.gradients.architectures import require_checked
from privacy.gradients.loop import LoopBackend
from protocols.errors import UsageError
from site_client.checked_models import checked_models


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    """A small model of a family that the project's own tests do not compare."""
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    folder = tmp_path_factory.mktemp("models") / "neox"
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=61, max_position_embeddings=32, **shape)).save_pretrained(folder)
    return folder


def check(site, model, *more: str):
    return fednotes_here("site", "privacy", "check-model", model, "--site", site.path, *more)


def test_an_unknown_architecture_may_train_once_its_gradients_were_compared(site, unknown):
    model = GPTNeoXForCausalLM.from_pretrained(unknown)
    with pytest.raises(UsageError, match="GPTNeoXForCausalLM was not checked"):
        require_checked(model, checked_models(site))
    done = check(site, unknown)
    assert done.returncode == 0, done.stderr
    assert "GPTNeoXForCausalLM may train" in done.stdout
    require_checked(model, checked_models(site))


def test_a_dry_run_remembers_nothing_and_json_has_every_error(site, unknown):
    done = check(site, unknown, "--dry-run", "--json")
    facts = json.loads(done.stdout)
    assert facts["passed"] is True
    assert {row["backend"] for row in facts["rows"]} == {"records apart", "loop", "hooks", "ghost"}
    assert all(max(row["norm_error"], row["sum_error"]) < 1e-5 for row in facts["rows"])
    assert checked_models(site) == frozenset()


def test_a_backend_that_is_wrong_keeps_the_architecture_out(site, unknown, monkeypatch):
    class Weak(LoopBackend):
        """Clips at twice the bound."""

        def clipped_sum(self, model: nn.Module, batch, max_grad_norm: float):
            return super().clipped_sum(model, batch, 2 * max_grad_norm)

    monkeypatch.setitem(choose._BACKENDS, "hooks", Weak)
    done = check(site, unknown)
    assert done.returncode == 1
    assert "wrong" in done.stdout and "may not train here" in done.stderr
    assert checked_models(site) == frozenset()


def test_a_layer_without_a_known_gradient_is_named(site, tmp_path):
    shape = {"word_embed_proj_dim": 32, "ffn_dim": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = OPTForCausalLM(OPTConfig(vocab_size=61, hidden_size=32, max_position_embeddings=32, **shape))
    model.save_pretrained(tmp_path / "opt")
    done = check(site, tmp_path / "opt")
    assert done.returncode == 2
    assert "model.decoder.embed_positions (OPTLearnedPositionalEmbedding)" in done.stderr


def test_no_model_is_told(site, tmp_path):
    done = check(site, tmp_path)
    assert done.returncode == 2
    assert "holds no model" in done.stderr
