from __future__ import annotations

import numpy as np
from scipy import stats

from privacy.randomness import SecureRandom
from privacy.sampling import draw_records, draw_units

RANDOM = SecureRandom.from_system()


def test_units_enter_with_the_public_rate_independently():
    draws = np.zeros((4_000, 20), bool)
    for row in draws:
        row[draw_units(20, 0.3, RANDOM)] = True
    rates = draws.mean(axis=0)
    assert np.all(abs(rates - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4_000))
    # Poisson sampling: the number drawn is binomial, where batches of a fixed size would always have six.
    expected = stats.binom.pmf(range(21), 20, 0.3)
    seen = np.bincount(draws.sum(axis=1), minlength=21) / 4_000
    assert abs(seen - expected).max() < 0.03
    correlation = np.corrcoef(draws.T)
    assert abs(correlation[~np.eye(20, dtype=bool)]).max() < 0.1


def test_everybody_enters_at_rate_one_and_a_draw_may_be_empty():
    assert list(draw_units(5, 1.0, RANDOM)) == [0, 1, 2, 3, 4]
    assert any(draw_units(3, 0.1, RANDOM).size == 0 for _ in range(50))
    assert draw_units(0, 0.5, RANDOM).size == 0


def test_records_are_drawn_without_replacement_and_evenly():
    counts = np.zeros(10)
    for _ in range(5_000):
        picked = draw_records(10, 4, RANDOM)
        assert len(set(picked)) == 4
        counts[picked] += 1
    assert np.all(abs(counts / 5_000 - 0.4) < 0.04)


def test_few_records_are_all_taken():
    assert list(draw_records(3, 4, RANDOM)) == [0, 1, 2]
    assert list(draw_records(1, 1, RANDOM)) == [0]
