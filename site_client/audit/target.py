"""The model under audit: any causal language model in a folder, with the likelihood that it gives to texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modeling.bits_per_byte import Score, score_texts
from modeling.release import load_model
from protocols.errors import UsageError, WorkError

_MAX_CONTEXT = 1024  # tokens; longer windows would only cost memory: notes are short
_CAUSAL = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True, kw_only=True, repr=False)
class Target:
    """A loaded model.

    Attributes:
        name: of its folder.
        model: in evaluation mode.
        tokenizer: with tokens for the start of a text and for padding.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @property
    def context(self) -> int:
        """Longest window that is read at once [tokens]."""
        return min(_MAX_CONTEXT, int(getattr(self.model.config, "max_position_embeddings", None) or _MAX_CONTEXT))

    @property
    def parameters(self) -> int:
        """Number of weights; a tied matrix counts once."""
        return sum(p.numel() for p in self.model.parameters())

    def score(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> list[Score]:
        """Bits that each text costs the model.

        Args:
            texts: each read on its own.
            progress: told of the windows just read.

        Raises:
            WorkError: the model gives a text no likelihood.
        """
        scores = score_texts(self.model, self.tokenizer, texts, context=self.context, progress=progress)
        if not all(math.isfinite(s.bits) for s in scores):
            raise WorkError(f"{self.name} gives texts no finite likelihood.", hint="its training went wrong")
        return scores


def load_target(folder: Path) -> Target:
    """Load a model for an audit.

    Raises:
        UsageError: there is no model, or it is none that gives likelihoods to texts.
    """
    _refuse_encoder(folder)
    model, tokenizer = load_model(folder)
    if tokenizer.bos_token_id is None:  # many public models have none and start a text behind the end of another
        tokenizer.bos_token = tokenizer.eos_token or tokenizer.pad_token
    if tokenizer.bos_token_id is None:
        raise UsageError(f"The tokenizer of {folder} has no token that begins or ends a text.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token
    return Target(name=folder.resolve().name, model=model.eval(), tokenizer=tokenizer)


def _refuse_encoder(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # load_model says what is wrong
    kinds = [str(k) for k in config.get("architectures") or []]
    if config.get("is_encoder_decoder") or (kinds and not any(k.endswith(_CAUSAL) for k in kinds)):
        raise UsageError(
            f"{folder} holds a {kinds[0] if kinds else 'model'}, no causal language model. It gives no likelihood to "
            "a text and writes none, so canaries, exposure, extraction and membership cannot be measured.",
            hint="noise and clipping of its training can be checked all the same: privacy/audit/white_box.py",
        )
