from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import accountant
from privacy.accountant import PrivacyEvent, calibrate, merged, spend
from protocols.errors import UsageError


def spent(*events: tuple[float, float, int], delta: float = 1e-5):
    return spend([PrivacyEvent(*e) for e in events], delta, "patient")


# rate, noise, steps, delta, RDP and PLD of dp-accounting: docs of the project, measured once and pinned
PINS = [
    (0.01, 1.0, 1000, 1e-5, 2.101, 1.828),
    (0.01, 0.6, 1000, 1e-5, 8.680, 7.434),
    pytest.param(0.05, 2.0, 2000, 1e-6, 6.540, 6.107, marks=pytest.mark.slow),
    (0.25, 4.0, 400, 1e-5, 6.343, 5.864),
    (1.0, 10.0, 100, 1e-5, 4.729, 4.377),
    pytest.param(0.001, 0.5, 20000, 1e-6, 9.029, 7.730, marks=pytest.mark.slow),
    (0.04, 1.5, 2250, 1e-5, 7.3293, 6.7688),
]


@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "rdp", "pld"), PINS)
def test_known_numbers(rate, noise, steps, delta, rdp, pld):
    got = spent((rate, noise, steps), delta=delta)
    assert (got.accountant, got.num_releases) == ("pld", steps)
    assert got.rdp_bound == pytest.approx(rdp, abs=0.005)
    assert got.pld_bound == pytest.approx(pld, abs=0.01)
    assert got.pld_bound <= got.rdp_bound


def test_tiny_noise_where_rdp_loses_its_orders():
    got = spent((0.1, 0.3, 500))
    assert got.pld_bound == pytest.approx(301.1, abs=0.05)
    assert got.rdp_bound == pytest.approx(751, abs=1)


@pytest.mark.parametrize(
    ("events", "prv", "rdp"),
    [
        ([(0.125, 1.0, 8)], 3.185, 3.793),
        ([(0.5, 8.0, 60)], 1.967, 2.132),
        ([(0.02, 1.1, 300)], 1.810, 2.073),
        ([(0.02, 1.1, 300), (0.03, 0.9, 1)], 1.844, 2.294),
    ],
)
def test_known_numbers_of_other_accountants_enclose_ours(events, prv, rdp):
    got = spent(*events)
    assert got.pld_bound <= prv + 0.0005 <= got.pld_bound + 0.02
    # Opacus' orders differ a little from ours
    assert got.rdp_bound == pytest.approx(rdp, abs=0.005)


def test_gaussian_mechanisms_with_one_mu_meet_the_closed_form():
    assert spent((1.0, 1.0, 1)).pld_bound == pytest.approx(4.3772, abs=0.001)
    assert spent((1.0, 10.0, 100)).pld_bound == pytest.approx(4.3772, abs=0.001)


def test_gaussian_dp_would_say_less_than_the_truth():
    # (0.01, 0.6, 1000) has 5.563 by the central limit theorem: 1.9 too little, so it is never used
    mu = 0.01 * math.sqrt(1000 * (math.exp(1 / 0.6**2) - 1))

    def delta(epsilon: float) -> float:
        phi = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))  # noqa: E731
        return phi(-epsilon / mu + mu / 2) - math.exp(epsilon) * phi(-epsilon / mu - mu / 2)

    low, high = 0.0, 50.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if delta(middle) > 1e-5 else (low, middle)
    assert high == pytest.approx(5.563, abs=0.01)
    assert high < spent((0.01, 0.6, 1000)).pld_bound - 1.5


def test_nothing_released_is_nothing_spent():
    got = spent()
    assert (got.pld_bound, got.rdp_bound, got.num_releases) == (0, 0, 0)
    assert spent((0.5, 1.0, 0)).pld_bound == 0


def test_no_noise_is_no_privacy():
    assert spent((0.01, 0.0, 1)).pld_bound == math.inf
    assert spent((0.01, 5.0, 1), (0.01, 0.0, 1)).pld_bound == math.inf


def test_where_pld_cannot_be_had_the_larger_bound_counts(monkeypatch):
    far = spent((0.01, 0.02, 1000))
    assert (far.accountant, far.pld_bound) == ("rdp", far.rdp_bound)
    assert far.pld_bound > 1e5

    def overflow(*_: object) -> float:
        raise OverflowError

    accountant._bounds.cache_clear()
    monkeypatch.setattr(accountant, "_pld_bound", overflow)
    got = spent((0.05, 1.0, 10))
    assert (got.accountant, got.pld_bound) == ("rdp", got.rdp_bound)
    accountant._bounds.cache_clear()
    monkeypatch.setattr(accountant, "_pld_bound", lambda *_: math.nan)
    assert spent((0.05, 1.0, 10)).pld_bound == got.rdp_bound
    accountant._bounds.cache_clear()


def test_equal_mechanisms_are_merged_and_the_number_is_the_same():
    one = spent((0.02, 0.9, 60), (0.05, 1.5, 10))
    many = spent(*[(0.02, 0.9, 20), (0.05, 1.5, 5)] * 2, (0.02, 0.9, 20))
    assert one == many
    assert merged([PrivacyEvent(0.5, 1.0, 2)] * 3) == (PrivacyEvent(0.5, 1.0, 6),)
    start = time.perf_counter()
    assert spent(*[(0.02, 0.9, 3)] * 20) == spent((0.02, 0.9, 60))
    assert time.perf_counter() - start < 5
    # as composing one by one gives
    losses = accountant._pld_bound((PrivacyEvent(0.02, 0.9, 30), PrivacyEvent(0.02, 0.9, 30)), 1e-5, 1e-4)
    assert losses == pytest.approx(spent((0.02, 0.9, 60)).pld_bound, abs=1e-4)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    rate=st.floats(0.01, 1.0), noise=st.floats(0.8, 8.0), steps=st.integers(1, 40), more=st.sampled_from([1.1, 1.5, 2])
)
def test_more_steps_more_sampling_or_less_noise_costs_more(rate, noise, steps, more):
    base = spent((rate, noise, steps)).pld_bound
    assert spent((rate, noise, math.ceil(steps * more))).pld_bound >= base - 1e-9
    assert spent((rate / more, noise, steps)).pld_bound <= base + 1e-9
    assert spent((rate, noise * more, steps)).pld_bound <= base + 1e-9
    assert base <= spent((rate, noise, steps)).rdp_bound + 1e-3


def test_a_larger_noise_costs_less_and_more_steps_cost_more():
    base = spent((0.3, 2.0, 10)).pld_bound
    assert spent((0.3, 2.1, 10)).pld_bound < base < spent((0.3, 2.0, 11)).pld_bound
    assert spent((0.29, 2.0, 10)).pld_bound < base


def test_the_unit_is_in_the_name():
    named = spend([PrivacyEvent(1.0, 1.0, 1)], 1e-5, "note").named()
    assert list(named) == ["note_level_epsilon", "note_level_epsilon_rdp", "delta", "num_releases", "accountant"]
    assert named["accountant"] == "pld"


def epsilon_with(noise: float, rate: float, steps: int, *before: tuple[float, float, int]) -> float:
    return spent(*before, (rate, noise, steps)).pld_bound


@pytest.mark.slow
def test_calibrate_comes_back_to_its_target():
    noise = calibrate(8.0, 1e-5, 0.02, 1000)
    assert noise == pytest.approx(0.7339, abs=0.0021)
    assert epsilon_with(noise, 0.02, 1000) <= 8.0 < epsilon_with(noise - 1e-4, 0.02, 1000)


@pytest.mark.slow
def test_calibrate_for_what_is_left_of_a_budget():
    before = (0.05, 1.2, 200)
    noise = calibrate(5.0, 1e-5, 0.05, 300, (PrivacyEvent(*before),))
    assert epsilon_with(noise, 0.05, 300, before) <= 5.0 < epsilon_with(noise - 1e-4, 0.05, 300, before)
    assert noise > calibrate(5.0, 1e-5, 0.05, 300)


@pytest.mark.parametrize(("target", "rate", "steps"), [(0.5, 1.0, 1), (25.0, 0.25, 60), (1.0, 0.5, 2000)])
def test_calibrate_keeps_to_the_target_with_any_noise(target, rate, steps):
    noise = calibrate(target, 1e-5, rate, steps)
    assert 0.99 * target < epsilon_with(noise, rate, steps) <= target
    assert round(noise, 4) == noise


def test_calibrate_never_goes_below_its_floor():
    assert calibrate(1000.0, 1e-5, 0.001, 1) == 0.1


def test_calibrate_refuses_with_numbers():
    with pytest.raises(UsageError, match=r"epsilon 4\.3772 of 2 at delta 1e-05") as caught:
        calibrate(2.0, 1e-5, 0.01, 10, (PrivacyEvent(1.0, 1.0, 1),))
    assert "no noise can take back" in str(caught.value.hint)
    spent_already = spent((1.0, 1.0, 1)).pld_bound
    with pytest.raises(UsageError, match="No noise multiplier up to 10,000 keeps 1,000 steps"):
        calibrate(spent_already + 1e-7, 1e-5, 1.0, 1000, (PrivacyEvent(1.0, 1.0, 1),))


@pytest.mark.slow
def test_calibrate_with_a_million_steps():
    noise = calibrate(5.0, 1e-5, 1e-4, 10**6)
    assert 4.98 < epsilon_with(noise, 1e-4, 10**6) <= 5.0


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1), (1.1, 1.0, 1), (0.5, -1.0, 1), (0.5, math.inf, 1), (0.5, 1.0, -1)])
def test_senseless_events_are_refused(wrong):
    with pytest.raises(ValueError, match=r"not in|not finite|below 0"):
        PrivacyEvent(*wrong)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_senseless_delta_is_refused(delta):
    with pytest.raises(ValueError, match="delta is"):
        spent((0.5, 1.0, 1), delta=delta)
