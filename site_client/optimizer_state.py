"""The inner optimizer's state between two rounds of a study."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.optim import AdamW

from protocols.durable import whole_file

_KEPT_STATES = 2


def restore(optimizer: AdamW, states: Path, before_round: int) -> None:
    """Go on with the newest state from before a round.

    It is that of the round before, or an older one where the site missed a round; a site that joins late has none and
    begins afresh.

    Args:
        optimizer: of the model that is about to be trained.
        states: folder of the study.
        before_round: counted from 1.
    """
    kept = sorted(p for p in states.glob("optimizer-*.pt") if p < _state_file(states, before_round))
    if kept:
        optimizer.load_state_dict(torch.load(kept[-1], weights_only=True))


def keep(optimizer: AdamW, states: Path, after_round: int) -> None:
    """Keep the state after a round, and that before it: the coordinator may ask for the round again.

    Args:
        optimizer: after the round.
        states: folder of the study.
        after_round: counted from 1.
    """
    with whole_file(_state_file(states, after_round)) as partial:
        torch.save(optimizer.state_dict(), partial)
    for path in states.glob("optimizer-*.pt"):
        if path <= _state_file(states, after_round - _KEPT_STATES):
            path.unlink()


def _state_file(states: Path, after_round: int) -> Path:
    return states / f"optimizer-{after_round:06d}.pt"
