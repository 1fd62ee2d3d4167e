"""How much is rephrased: a budget for each arm, and the rounds in which it is reached."""

from __future__ import annotations

from dataclasses import dataclass

from site_client.rephrasing.selection import ChunkOrder

_HOPELESS = 0.02  # accepted output tokens to a source token: below, more chunks are a waste of a GPU


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to rephrase.

    Attributes:
        token_budget: accepted output tokens that each arm should reach; None for every chunk once. The paper's is 20
            million (arXiv 2411.18940).
        synthetic_share: share of synthetic tokens in real and synthetic text together, over all arms; None for no
            such bound. Both bounds hold.
        per_patient: most chunks of one patient in an arm; None for all.
        seed: draws the order of chunks.
    """

    token_budget: int | None = None
    synthetic_share: float | None = None
    per_patient: int | None = None
    seed: int = 0

    def budget(self, real_tokens: int, arms: int) -> int | None:
        """Accepted output tokens for one of several arms.

        Args:
            real_tokens: of all training notes.
            arms: how many share the synthetic part.
        """
        budgets = [] if self.token_budget is None else [self.token_budget]
        if self.synthetic_share is not None:
            budgets.append(int(self.synthetic_share / (1 - self.synthetic_share) * real_tokens / arms))
        return min(budgets, default=None)


def first_round(order: ChunkOrder, budget: int | None) -> int:
    """How many chunks to plan when nothing is known yet: as many source tokens as tokens are wanted."""
    return len(order) if budget is None else order.count_for(budget)


def next_round(order: ChunkOrder, budget: int | None, done: int, accepted_tokens: int) -> int:
    """How many chunks to plan after a round; no more than ``done`` when the arm is finished.

    A round ends when all its chunks are done, so the next one depends on finished results alone: a run that was killed
    plans the same rounds as one that was not.

    Args:
        order: of all chunks.
        budget: accepted output tokens that are wanted.
        done: chunks planned and finished so far.
        accepted_tokens: output tokens of those that were accepted.
    """
    if budget is None or accepted_tokens >= budget or done >= len(order):
        return done
    yielded = accepted_tokens / max(1, order.tokens(done))
    if yielded < _HOPELESS:
        return done
    return max(done + 1, order.count_for(budget / yielded))
