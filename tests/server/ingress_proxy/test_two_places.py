from __future__ import annotations

import pytest

from server.ingress_proxy.two_places import TwoPlaces


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def calls(clock):
    """Make calls, one every ``step`` seconds, and say which are admitted."""
    places = TwoPlaces(clock)

    def make(peers: str, step: float = 3.0) -> str:
        said = ""
        for peer in peers:
            clock.now += step
            said += "+" if places.admits(3, peer) else "-"
        return said

    return make


def test_one_place_is_served(calls):
    assert calls("AAAA") == "++++"


def test_a_site_that_reconnects_from_port_to_port_is_served(calls):
    assert calls("AABBCDEFGHHI") == "+" * 12


def test_a_call_that_was_overtaken_while_the_connection_changed_is_no_second_client(calls):
    assert calls("AAABABBBB") == "+" * 9


def test_two_that_alternate_are_found_and_the_first_goes_on(calls):
    assert calls("ABABABAB") == "++++" + "+-+-"


def test_a_third_one_is_refused_as_well_while_two_alternate(calls):
    assert calls("ABABABC").endswith("-")


def test_the_second_is_served_when_the_first_fell_silent(calls, clock):
    assert calls("ABABAB").endswith("-")
    clock.now += 31
    assert calls("BBB") == "+++"


def test_one_that_waits_long_between_its_tries_is_still_refused(calls):
    calls("ABABAB")
    assert calls("AAAAAAB") == "++++++-"


def test_sites_do_not_disturb_each_other(clock):
    places = TwoPlaces(clock)
    assert all(places.admits(site, f"{site}") for _ in range(5) for site in (3, 4))
