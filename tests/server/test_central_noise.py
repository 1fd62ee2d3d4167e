from __future__ import annotations

import numpy as np
import pytest

from privacy.randomness import SecureRandom
from protocols.plan import CentralNoise
from server.central_noise import add_noise, bound_norm, site_level_epsilon

UPDATE = {"a": np.full((2, 3), 3.0, np.float32), "b": np.full(4, -1.0, np.float32)}
NORM = float(np.sqrt(6 * 9 + 4))


def norm(arrays) -> float:
    return float(np.sqrt(sum(np.square(a, dtype=np.float64).sum() for a in arrays.values())))


def test_a_long_update_keeps_its_direction_and_gets_the_bound():
    bounded = bound_norm(UPDATE, 2.0)
    assert norm(bounded) == pytest.approx(2.0, rel=1e-5)
    assert np.allclose(bounded["a"] / bounded["b"][0], UPDATE["a"] / UPDATE["b"][0])


def test_a_short_update_and_an_empty_one_stay_as_they_are():
    assert all(np.allclose(bound_norm(UPDATE, 2 * NORM)[k], UPDATE[k]) for k in UPDATE)
    zero = {"a": np.zeros(3, np.float32)}
    assert not bound_norm(zero, 1.0)["a"].any()


def test_noise_has_its_standard_deviation_and_is_never_the_same():
    arrays = {"a": np.zeros((100, 100), np.float32)}
    random = SecureRandom.from_system()
    first, second = add_noise(arrays, 0.5, random), add_noise(arrays, 0.5, random)
    assert float(first["a"].std()) == pytest.approx(0.5, rel=0.05)
    assert not np.array_equal(first["a"], second["a"])
    assert np.array_equal(add_noise(UPDATE, 0.0, random)["a"], UPDATE["a"])


def test_hospital_level_epsilon_grows_with_the_rounds():
    central = CentralNoise(max_site_norm=1.0, noise_multiplier=10.0, delta=1e-5)
    # 100 releases at noise 10 are one at noise 1: the closed form of the Gaussian mechanism (mu = 1).
    assert site_level_epsilon(central, 100) == pytest.approx(4.3772, abs=0.01)
    assert site_level_epsilon(central, 1) < site_level_epsilon(central, 2)
