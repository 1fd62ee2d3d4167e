"""Where a round stands, kept every two minutes: a site that is killed goes on inside the round instead of beginning it.

A finished round stays too: asked for it again with the same weights, the site answers at once with the same update.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.optim import AdamW
from transformers import PreTrainedModel

from protocols.durable import whole_file
from protocols.errors import StorageError
from protocols.messages import TrainRequest

if TYPE_CHECKING:
    from protocols.manifest import Arrays

CHECKPOINT_S = 120.0
_LOG = logging.getLogger(__name__)


@dataclass
class RoundProgress:
    """What was done of a round.

    Attributes:
        steps: optimizer steps.
        nats: sum of the loss over the tokens.
        tokens: trained on.
    """

    steps: int = 0
    nats: float = 0.0
    tokens: int = 0

    @property
    def loss(self) -> float:
        """Mean loss [nats/token]."""
        return self.nats / max(1, self.tokens)

    def add(self, tokens: int, loss: float) -> None:
        """Count a step."""
        self.steps, self.nats, self.tokens = self.steps + 1, self.nats + loss * tokens, self.tokens + tokens


class RoundCheckpoint:
    """The checkpoint inside a round of one study.

    Args:
        states: folder of the study.
        request: what is asked; another request throws the checkpoint away.
        weights: the global weights; other weights do so too.
        every_s: time between two checkpoints [s].
    """

    def __init__(self, states: Path, request: TrainRequest, weights: Arrays, every_s: float = CHECKPOINT_S) -> None:
        self._path = states / "inside-round.pt"
        self._key = _digest(request, weights)
        self._every_s = every_s
        self._saved = time.monotonic()

    def resume(self, model: PreTrainedModel, optimizer: AdamW) -> RoundProgress:
        """Bring model and optimizer to where the round stands; at its beginning, they stay as they are."""
        try:
            kept = torch.load(self._path, weights_only=True)
        except FileNotFoundError:
            return RoundProgress()
        except Exception as error:  # a damaged file costs the work since the beginning of the round, not the round
            _LOG.warning("the checkpoint inside the round cannot be read (%s)", type(error).__name__)
            return RoundProgress()
        if kept["key"] != self._key:
            return RoundProgress()
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        return RoundProgress(steps=kept["steps"], nats=kept["nats"], tokens=kept["tokens"])

    def keep_when_due(self, model: PreTrainedModel, optimizer: AdamW, progress: RoundProgress) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() - self._saved >= self._every_s:
            self.keep(model, optimizer, progress)

    def keep(self, model: PreTrainedModel, optimizer: AdamW, progress: RoundProgress) -> None:
        """Write a checkpoint. A full disk does not end the training: the round would begin anew, no more."""
        try:
            with whole_file(self._path) as partial:
                torch.save(
                    {
                        "key": self._key,
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "steps": progress.steps,
                        "nats": progress.nats,
                        "tokens": progress.tokens,
                    },
                    partial,
                )
        except StorageError:
            _LOG.warning("the disk has no room for a checkpoint inside the round")
        self._saved = time.monotonic()


def _digest(request: TrainRequest, weights: Arrays) -> str:
    digest = hashlib.sha256(request.model_dump_json().encode())
    for name in sorted(weights):
        digest.update(name.encode() + b"\0")
        digest.update(weights[name].tobytes())
    return digest.hexdigest()
