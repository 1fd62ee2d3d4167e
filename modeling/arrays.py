"""Between a torch model and the named float32 arrays that travel and rest in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def to_arrays(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Copy the trained weights out of a model; a tied weight appears once, under its first name."""
    return {n: p.detach().to("cpu", torch.float32).numpy().copy() for n, p in model.named_parameters()}


def load_arrays(model: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy arrays into a model, in place.

    Args:
        model: gets the weights, on its own device and in its own dtype.
        arrays: exactly the names and shapes of :func:`to_arrays`.

    Raises:
        KeyError: a name is missing.
        ValueError: a name is not the model's, or a shape differs.
    """
    parameters = dict(model.named_parameters())
    if extra := set(arrays) - set(parameters):
        raise ValueError(f"{len(extra)} arrays are not parameters of the model")
    with torch.no_grad():
        for name, parameter in parameters.items():
            value = torch.from_numpy(np.array(arrays[name], np.float32))  # a copy: arrays may be read-only
            if value.shape != parameter.shape:
                raise ValueError(f"shape of {name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(value)
