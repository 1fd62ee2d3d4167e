from __future__ import annotations

import numpy as np
import pytest
import torch

from protocols.plan import OuterRecipe
from server.outer import outer_step


def arrays(*values: float) -> dict[str, np.ndarray]:
    return {"w": np.array(values, np.float32)}


def test_fedavg_adds_the_average_times_its_learning_rate():
    weights, momentum = outer_step(OuterRecipe(name="fedavg", lr=0.5), arrays(1.0, 2.0), arrays(4.0, -2.0), {})
    assert weights["w"].tolist() == [3.0, 1.0]
    assert momentum == {}


def test_fedavg_with_learning_rate_one_takes_the_average_of_the_local_weights():
    local = [np.array([2.0, 4.0]), np.array([4.0, 0.0])]
    start = np.array([1.0, 1.0])
    update = np.mean([w - start for w in local], axis=0)
    weights, _ = outer_step(OuterRecipe(name="fedavg", lr=1.0), arrays(*start), arrays(*update), {})
    assert weights["w"].tolist() == [3.0, 2.0]


def test_two_nesterov_steps_worked_out_by_hand():
    recipe = OuterRecipe(name="nesterov", lr=0.5, momentum=0.5)
    # m1 = 4;              w1 = 1 + 0.5 * (0.5 * 4 + 4) = 4
    weights, momentum = outer_step(recipe, arrays(1.0), arrays(4.0), {})
    assert (weights["w"].tolist(), momentum["w"].tolist()) == ([4.0], [4.0])
    # m2 = 0.5 * 4 + 2 = 4; w2 = 4 + 0.5 * (0.5 * 4 + 2) = 6
    weights, momentum = outer_step(recipe, weights, arrays(2.0), momentum)
    assert (weights["w"].tolist(), momentum["w"].tolist()) == ([6.0], [4.0])


def test_nesterov_equals_that_of_torch():
    rng = np.random.default_rng(0)
    updates = rng.normal(size=(5, 8)).astype(np.float32)
    start = rng.normal(size=8).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)

    weights, momentum = {"w": start}, {}
    for update in updates:
        weights, momentum = outer_step(OuterRecipe(), weights, {"w": update}, momentum)
        parameter.grad = torch.from_numpy(-update)
        optimizer.step()
        np.testing.assert_allclose(weights["w"], parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "nesterov"])
def test_step_changes_none_of_its_arguments_and_gives_float32(name):
    weights, update, momentum = arrays(1.0), arrays(2.0), arrays(3.0)
    new_weights, new_momentum = outer_step(OuterRecipe(name=name), weights, update, momentum)
    assert (weights["w"][0], update["w"][0], momentum["w"][0]) == (1.0, 2.0, 3.0)
    assert all(a.dtype == np.float32 for a in (*new_weights.values(), *new_momentum.values()))
    new_momentum.get("w", update["w"].copy())[0] = 9.0
    assert update["w"][0] == 2.0


def test_first_momentum_is_a_copy_of_the_update():
    update = arrays(2.0)
    _, momentum = outer_step(OuterRecipe(), arrays(1.0), update, {})
    momentum["w"][0] = 9.0
    assert update["w"][0] == 2.0
