"""Comparing a model's gradients by unit with brute force, on random tokens: no patient's text is needed.

Brute force is plain autograd on one record at a time, written here once more: a fault of the backends, or of the loss
that they share, cannot hide in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from privacy.gradients.choose import backend_named
from privacy.gradients.clipped import total_norm, trainable
from privacy.gradients.loss import unit_losses
from privacy.gradients.random_units import random_units
from privacy.unit_batch import IGNORED, UnitBatch
from protocols.errors import FednotesError

TOLERANCE = 1e-4
"""Largest relative error that float32 rounding explains; the checked models stay below 1e-6."""

APART = "records apart"
"""The row that tells whether a unit's gradient stays the same when another unit's records change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One comparison.

    Attributes:
        backend: its name, or ``APART``.
        max_grad_norm: the clip norm of this comparison; 0 for ``APART``.
        norm_error: largest relative error of a unit's norm.
        sum_error: relative error of the clipped sum; for ``APART`` the relative change of the gradient.
        reason: why the backend cannot run; empty where it ran.
    """

    backend: str
    max_grad_norm: float
    norm_error: float = 0.0
    sum_error: float = 0.0
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it ran and was right; an error of NaN is not."""
        return not self.reason and self.norm_error <= TOLERANCE and self.sum_error <= TOLERANCE

    @property
    def wrong(self) -> bool:
        """Whether it ran, raised nothing, and still gave other numbers: the dangerous case."""
        return not self.reason and not self.passed


def check_model(
    model: nn.Module,
    *,
    backends: Collection[str],
    units: int = 3,
    records: Sequence[int] = (1, 2, 3),
    tokens: int = 16,
    seed: int = 0,
) -> list[CheckRow]:
    """Compare each backend with brute force, at a clip norm above most norms and at one below all.

    Args:
        model: left as it was: weights, buffers, mode of every layer, and torch's global generator.
        backends: names.
        units: of the batch.
        records: of the units, in turns.
        tokens: of each record.
        seed: of the tokens.

    Returns:
        Two rows of each backend, and one that tells whether records touch each other.
    """
    sizes = [records[index % len(records)] for index in range(units)]
    batch = random_units(model, records=sizes, tokens=tokens, seed=seed)
    device = batch.targets.device
    rows = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _restored(model):
        rows.append(_apart(model, batch, random_units(model, records=sizes, tokens=tokens, seed=seed + 1)))
        model.eval()  # dropout would draw other numbers for one record than for a batch
        expected = _brute_force(model, batch)
        norms = torch.stack([total_norm(gradients) for gradients in expected])
        for max_grad_norm in (float(norms.quantile(0.75)), float(norms.min()) / 2):
            rows += [_compare(name, model, batch, max_grad_norm, norms, expected) for name in backends]
    return rows


def _compare(
    name: str, model: nn.Module, batch: UnitBatch, max_grad_norm: float, norms: Tensor, expected: list[list[Tensor]]
) -> CheckRow:
    try:
        found = backend_named(name).clipped_sum(model, batch, max_grad_norm)
    except (FednotesError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        return CheckRow(backend=name, max_grad_norm=max_grad_norm, reason=f"{type(error).__name__}: {first_line}")
    factors = [min(1.0, max_grad_norm / (float(norm) + 1e-6)) for norm in norms]
    total = [sum((f * g for f, g in zip(factors, parts, strict=True)), 0.0) for parts in zip(*expected, strict=True)]
    return CheckRow(
        backend=name,
        max_grad_norm=max_grad_norm,
        norm_error=float(((found.norms.double() - norms) / norms).abs().max()),
        sum_error=_difference(found.gradients, total),
    )


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([(tensor**2).sum() for tensor in tensors]).sum().sqrt()


def _brute_force(model: nn.Module, batch: UnitBatch) -> list[list[Tensor]]:
    """Gradient of every unit in float64, from one forward and one backward of each record."""
    parameters = [parameter for _, parameter in trainable(model)]
    gradients = []
    for unit in range(batch.num_units):
        rows = (batch.unit == unit).nonzero().flatten().tolist()
        total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
        for row in rows:
            targets = batch.targets[row]
            logits = model(input_ids=batch.inputs["input_ids"][row : row + 1]).logits[0]
            loss = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED)
            if not bool((targets != IGNORED).any()):
                continue
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for part, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    part += gradient.double() / len(rows)
        gradients.append(total)
    return gradients


def _apart(model: nn.Module, batch: UnitBatch, other: UnitBatch) -> CheckRow:
    """Change the records of all units but the first in train mode: the first one's gradient must stay the same."""
    first = batch.unit == 0
    changed = UnitBatch(
        inputs={"input_ids": torch.where(first[:, None], batch.inputs["input_ids"], other.inputs["input_ids"])},
        targets=torch.where(first[:, None], batch.targets, other.targets),
        unit=batch.unit,
        num_units=batch.num_units,
    )
    parameters = [parameter for _, parameter in trainable(model)]
    model.train()
    found = []
    for each in (batch, changed):
        torch.manual_seed(0)  # the same dropout in both
        loss = unit_losses(model, each)[0]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append([torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)])
    return CheckRow(backend=APART, max_grad_norm=0.0, sum_error=_difference(found[1], found[0]))


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor | float]) -> float:
    """Norm of the difference over the norm of what was expected."""
    wanted = [torch.as_tensor(e).double() for e in expected]
    difference = sum(((f.double() - w) ** 2).sum() for f, w in zip(found, wanted, strict=True))
    return float(torch.sqrt(torch.as_tensor(difference / sum((w**2).sum() for w in wanted))))


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Put every layer's mode and every buffer back: batch norm moves its averages in each forward."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
