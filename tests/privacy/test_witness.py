from __future__ import annotations

import dataclasses
import math

import pytest

from privacy import witness
from privacy.accountant import PrivacyEvent, spend
from privacy.witness import prv_epsilon, require_agreement
from protocols.errors import WorkError

HISTORIES = [
    ([(0.01, 1.0, 1000)], 1e-5, 1.838),
    pytest.param([(0.01, 0.6, 1000)], 1e-5, 7.444, marks=pytest.mark.slow),
    pytest.param([(0.05, 2.0, 2000)], 1e-6, 6.117, marks=pytest.mark.slow),
    pytest.param([(0.25, 4.0, 400)], 1e-5, 5.874, marks=pytest.mark.slow),
    ([(1.0, 10.0, 100)], 1e-5, 4.387),
    ([(0.04, 1.5, 2250)], 1e-5, 6.7774),
    ([(0.125, 1.0, 8)], 1e-5, 3.185),
    ([(0.5, 8.0, 60)], 1e-5, 1.967),
    pytest.param([(0.02, 1.1, 300)], 1e-5, 1.810, marks=pytest.mark.slow),
    ([(0.02, 1.1, 300), (0.03, 0.9, 1)], 1e-5, 1.844),
    pytest.param([(0.001, 0.5, 20000)], 1e-6, 7.740, marks=pytest.mark.slow),
    pytest.param([(0.1, 0.3, 500)], 1e-5, 301.1, marks=pytest.mark.slow),
]


def events_of(history: list[tuple[float, float, int]]) -> list[PrivacyEvent]:
    return [PrivacyEvent(*e) for e in history]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("history", "delta", "prv"), HISTORIES)
def test_accountants_stand_in_order(history, delta, prv):
    events = events_of(history)
    spent = spend(events, delta, "patient")
    got = require_agreement(spent, events)
    assert got == pytest.approx(prv, abs=0.02)
    assert spent.pld_bound <= got <= spent.rdp_bound
    assert got - spent.pld_bound <= 0.02


def test_nothing_released_needs_no_accountant():
    assert prv_epsilon([], 1e-5) == 0
    assert require_agreement(spend([], 1e-5, "patient"), []) == 0
    assert prv_epsilon([PrivacyEvent(0.1, 0.0, 1)], 1e-5) == math.inf


@pytest.fixture
def pair():
    events = [PrivacyEvent(0.02, 1.1, 300)]
    return spend(events, 1e-5, "patient"), events


@pytest.mark.parametrize(("shift", "agrees"), [(0.0099, True), (-0.021, False), (0.05, False), (-1.0, False)])
def test_a_number_that_is_off_is_noticed(pair, shift, agrees):
    spent, events = pair
    moved = dataclasses.replace(spent, pld_bound=spent.pld_bound + shift)
    if agrees:
        assert require_agreement(moved, events) > 0
    else:
        with pytest.raises(WorkError, match=rf"PLD says {moved.pld_bound:.4f}.*PRV says 1\.8"):
            require_agreement(moved, events)


def test_rdp_below_pld_is_noticed(pair):
    spent, events = pair
    with pytest.raises(WorkError, match="must not be smaller"):
        require_agreement(dataclasses.replace(spent, rdp_bound=spent.pld_bound - 0.1), events)
    with pytest.raises(WorkError, match="must not be smaller"):
        require_agreement(dataclasses.replace(spent, rdp_bound=math.nan, pld_bound=1.8), events)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_a_number_that_is_none_has_no_witness(pair, value):
    spent, events = pair
    with pytest.raises(WorkError, match="do not agree"):
        require_agreement(dataclasses.replace(spent, pld_bound=value, rdp_bound=value), events)


def test_fallback_to_rdp_is_a_bound_still(pair):
    spent, events = pair
    assert require_agreement(dataclasses.replace(spent, accountant="rdp", pld_bound=spent.rdp_bound), events) > 0


def test_other_events_than_those_accounted_for_are_noticed(pair):
    spent, events = pair
    with pytest.raises(WorkError, match="300 releases were accounted for"):
        require_agreement(spent, [*events, *events])


def test_a_witness_that_says_nothing_is_no_witness(pair, monkeypatch):
    spent, events = pair
    monkeypatch.setattr(witness, "prv_epsilon", lambda *_: math.nan)
    with pytest.raises(WorkError, match="PRV says nan"):
        require_agreement(spent, events)


def test_a_witness_that_fails_is_a_work_error(pair, monkeypatch):
    from opacus.accountants import PRVAccountant

    def fail(*_: object, **__: object) -> float:
        raise RuntimeError("Discrete mean differs significantly from continuous mean.")

    monkeypatch.setattr(PRVAccountant, "get_epsilon", fail)
    with pytest.raises(WorkError, match="gives no number"):
        require_agreement(*pair)
