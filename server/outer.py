"""Outer optimizers: from the averaged update of a round to the weights of the next. Pure: arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from protocols.manifest import Arrays
    from protocols.plan import OuterRecipe

    NamedArrays = dict[str, NDArray[np.float32]]


def outer_step(
    recipe: OuterRecipe, weights: Arrays, update: Arrays, momentum: Arrays
) -> tuple[NamedArrays, NamedArrays]:
    """Apply one outer step.

    "fedavg" is McMahan et al. (arXiv 1602.05629) with a server learning rate. "nesterov" is the outer optimizer of
    DiLoCo (arXiv 2311.08105, algorithm 1), with the averaged update in the place of the negative gradient:
    ``m <- momentum * m + update; w <- w + lr * (momentum * m + update)``.

    Args:
        recipe: names the optimizer and its constants.
        weights: before the step.
        update: the averaged difference (local minus global weights).
        momentum: state from the last step; empty before the first.

    Returns:
        The new weights and the new momentum (empty for "fedavg").
    """
    if recipe.name == "fedavg":
        return {k: (w + recipe.lr * update[k]).astype(np.float32) for k, w in weights.items()}, {}
    new_momentum = {
        k: (recipe.momentum * momentum[k] + u if k in momentum else u.copy()).astype(np.float32)
        for k, u in update.items()
    }
    new_weights = {
        k: (w + recipe.lr * (recipe.momentum * new_momentum[k] + update[k])).astype(np.float32)
        for k, w in weights.items()
    }
    return new_weights, new_momentum
