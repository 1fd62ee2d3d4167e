"""Backends by name, and the fastest one for a model on its device."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import torch
from torch import nn

from privacy.gradients.clipped import Backend
from privacy.gradients.ghost import GhostBackend
from privacy.gradients.hooks import HooksBackend
from privacy.gradients.loop import LoopBackend
from privacy.gradients.random_units import random_units
from privacy.unit_batch import UnitBatch
from protocols.errors import UsageError, WorkError

_BACKENDS: dict[str, type[LoopBackend | HooksBackend | GhostBackend]] = {
    "loop": LoopBackend,
    "hooks": HooksBackend,
    "ghost": GhostBackend,
}
BACKENDS = tuple(_BACKENDS)
"""Names of all backends."""


def backend_named(name: str) -> Backend:
    """Give a backend.

    Args:
        name: one of ``BACKENDS``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in _BACKENDS:
        raise UsageError(f"There is no gradient backend {name!r}; there are: {', '.join(BACKENDS)}.")
    return _BACKENDS[name]()


def fastest_backend(model: nn.Module, *, units: int, records: int, tokens: int) -> Backend:
    """Time the backends on random tokens and give the fastest one.

    Args:
        model: on the device where it will train; left as it was.
        units: of a batch.
        records: of each unit.
        tokens: of each record.

    Raises:
        WorkError: none of them gets through.
    """
    seconds = measure_backends(model, units=units, records=records, tokens=tokens)
    if not seconds:
        raise WorkError("No gradient backend gets through one batch.", hint="choose fewer units or shorter rows")
    return backend_named(min(seconds, key=lambda name: seconds[name]))


def measure_backends(
    model: nn.Module, *, units: int, records: int, tokens: int, names: Sequence[str] = BACKENDS
) -> dict[str, float]:
    """Time the backends on random tokens, the best of two runs after one to warm up.

    Args:
        model: on the device where it will train; left as it was, like torch's global generator.
        units: of a batch.
        records: of each unit.
        tokens: of each record.
        names: of the backends.

    Returns:
        Wall time by name [s]; a backend that fails, for lack of memory for one, is missing.
    """
    batch = random_units(model, records=(records,) * units, tokens=tokens, seed=0)
    device = batch.targets.device
    seconds: dict[str, float] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for name in names:
            try:
                _seconds(name, model, batch)
                seconds[name] = min(_seconds(name, model, batch) for _ in range(2))
            except (UsageError, RuntimeError, MemoryError, NotImplementedError):
                seconds.pop(name, None)
            finally:
                _free(device)
    return seconds


def _seconds(name: str, model: nn.Module, batch: UnitBatch) -> float:
    device = batch.targets.device
    _wait(device)
    started = time.perf_counter()
    backend_named(name).clipped_sum(model, batch, 1.0)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    """Give back what one backend took, so that the next one is not short of it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
