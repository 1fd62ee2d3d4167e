"""Opacus' hooks on a model's layers, for the time of one step: the only module that knows Opacus.

From Opacus come hooking and unhooking the layers and, for a norm that no sampler here knows, the gradient by
``torch.func``. What stands beside it are the repairs that the checked architectures need: units in place of single
records, hooks that also work in eval mode, layers called by a container that holds an alias of their parameter, and a
guard that every use of a parameter went through a layer.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient
from torch import Tensor, nn

from privacy.gradients.clipped import trainable
from privacy.gradients.layers import kind_of, own_parameters, trainable_layers
from privacy.gradients.samplers import gradients_by_unit
from privacy.gradients.slots import by_unit
from protocols.errors import UsageError

Visit = Callable[[nn.Module, Tensor, Tensor], None]
"""Called on the way back with a layer, its input (U, N, ...) and the gradient at its output (U, N, ...)."""


class LayerHooks(GradSampleHooks):  # type: ignore[misc]
    """Hooks of one step, without a trace on the model once removed.

    Args:
        model: its trainable layers get hooks.
        units: U; the rows of a unit lie side by side.
        visit: sees every call of every trainable layer, the last one first.

    Attributes:
        calls: how often each parameter's layers were called in the forward.
        inputs: what each layer was given, (U, N, ...) one per call.
    """

    def __init__(self, model: nn.Module, units: int, visit: Visit) -> None:
        self._units = units
        self._visit = visit
        self._sources: list[Tensor] = []
        self.calls: Counter[nn.Parameter] = Counter()
        self.inputs: dict[nn.Module, list[Tensor]] = defaultdict(list)
        try:
            super().__init__(model, loss_reduction="sum", strict=False)
        except BaseException:
            self.cleanup()
            raise

    def iterate_submodules(self, module: nn.Module) -> Iterable[nn.Module]:
        """Give the layers to hook, each once."""
        return [layer for _, layer in trainable_layers(module)]

    def _get_module_type(self, module: nn.Module) -> type[nn.Module]:
        """Stand in for the layer's type: Opacus prepares ``torch.func`` for all types that it has no sampler for."""
        return type(module) if kind_of(module) == "other_norm" else nn.Linear

    def capture_activations_hook(self, module: nn.Module, forward_input: Any, _forward_output: Any) -> None:
        """Keep what a layer was given."""
        if not self.hooks_enabled or not torch.is_grad_enabled():
            return
        (given, *_) = forward_input
        self.inputs[module].append(by_unit(given.detach(), self._units))
        self.calls.update(own_parameters(module).values())
        if not given.requires_grad:
            self._sources.append(_forward_output)

    def capture_backprops_hook(
        self, module: nn.Module, _forward_input: Any, forward_output: Any, **_reduction: Any
    ) -> None:
        """Hand a layer's input and the gradient at its output on."""
        if self.hooks_enabled:
            self._visit(module, self.inputs[module].pop(), by_unit(forward_output[0].detach(), self._units))

    def backward(self, losses: Tensor) -> None:
        """Visit all layers; no gradient of a parameter is computed or stored on the way.

        Args:
            losses: (U,) from a forward under these hooks; their graph is kept.

        Raises:
            UsageError: a parameter is used outside its layer, where no hook sees it.
        """
        self._require_all_seen(losses)
        # Going back as far as the first layers' outputs passes every other layer, and asks for no weight's gradient.
        quiet_grad(losses.sum(), self._sources, retain_graph=True)
        self.disable_hooks()

    def _require_all_seen(self, losses: Tensor) -> None:
        used = _uses(losses)
        for name, parameter in trainable(self._module):
            if used[parameter] != self.calls[parameter]:
                raise UsageError(
                    f"{name} is used {used[parameter]} times, but {self.calls[parameter]} times by its own layer: "
                    "the gradient of the other uses would not be clipped.",
                    hint="use the backend 'loop'",
                )


@contextmanager
def layer_hooks(model: nn.Module, units: int, visit: Visit) -> Iterator[LayerHooks]:
    """Hook a model's layers while the context lasts, and leave the model without a trace, also after an error.

    Args:
        model: as for :class:`LayerHooks`, likewise the rest.
        units: U.
        visit: sees every call.

    Raises:
        UsageError: a trainable layer is none of the known kinds.
    """
    for path, layer in trainable_layers(model):
        if kind_of(layer) is None:
            raise UsageError(
                f"{path} ({type(layer).__name__}) has no gradient per unit.", hint="use the backend 'loop'"
            )
    hooks = LayerHooks(model, units, visit)
    try:
        yield hooks
    finally:
        hooks.cleanup()


def layer_gradients(layer: nn.Module, inputs: Tensor, backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    """Compute the gradient of every unit for one call of a layer of any known kind.

    Args:
        layer: hooked.
        inputs: (U, N, ...).
        backprops: (U, N, ...).

    Returns:
        (U, *parameter.shape) of each trainable parameter.
    """
    kind = kind_of(layer)
    if kind is None or kind == "other_norm":
        found: dict[nn.Parameter, Tensor] = ft_compute_per_sample_gradient(layer, [inputs], backprops)
        return found
    return gradients_by_unit(layer, kind, inputs, backprops)


def quiet_grad(loss: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool = False) -> tuple[Tensor | None, ...]:
    """``torch.autograd.grad`` without torch's warning that the first layers' hooks see no input's gradient, as meant.

    Args:
        loss: () from a forward under hooks.
        inputs: tensors to differentiate by; those without influence give None.
        retain_graph: keep the graph for a second call.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        return torch.autograd.grad(loss, inputs, retain_graph=retain_graph, allow_unused=True)


def _uses(losses: Tensor) -> Counter[nn.Parameter]:
    """Count how often each parameter enters the graph of the losses."""
    counted: Counter[nn.Parameter] = Counter()
    seen: set[Any] = set()
    ahead: list[Any] = [losses.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            variable = getattr(following, "variable", None)
            if variable is None:
                ahead.append(following)
            else:
                counted[variable] += 1
    return counted
