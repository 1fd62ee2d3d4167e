"""The measured limit, against simulated servers whose best number is known."""

from __future__ import annotations

import heapq
import random
import statistics
from collections import deque
from collections.abc import Callable

import pytest

from site_client.engines.concurrency import ConcurrencyLimit

TOKENS = 300  # mean length of a reply
SPEED = 40.0  # [tokens/s] of one request alone


def saturating(knee: int) -> Callable[[int], float]:
    """Tokens per second of the whole server by the number of requests: rises up to the knee, then stays."""
    return lambda held: SPEED * min(held, knee)


def thrashing(knee: int) -> Callable[[int], float]:
    """Becomes slower beyond the knee, like a server whose cache is full."""
    return lambda held: SPEED * knee * (held / knee if held <= knee else max(0.3, 1 - 0.4 * (held - knee) / knee))


def bending(knee: int) -> Callable[[int], float]:
    """Has no sharp knee."""
    return lambda held: SPEED * held * knee / (held + knee)


class Simulation:
    """A server that divides its speed among the requests in its places, while others queue for a place.

    Replies vary in length and speed.
    """

    def __init__(self, total: Callable[[int], float], *, seed: int, demand: int = 10**6, places: int = 10**6) -> None:
        self.total = total
        self.rng = random.Random(seed)
        self.demand = demand
        self.places = places
        self.now = 0.0
        self.limit = ConcurrencyLimit(maximum=256, clock=lambda: self.now)
        self._open: list[tuple[float, int, float, int]] = []
        self._waiting: deque[tuple[int, float]] = deque()
        self._written = 0.0  # [tokens] by each request that is held, since the beginning
        self._count = 0

    def run(self, seconds: float) -> list[tuple[float, int, int]]:
        """Returns time, limit and length at each reply."""
        end, replies = self.now + seconds, []
        while self.now < end:
            while self.limit.in_flight < min(self.limit.limit, self.demand):
                length = max(1, round(self.rng.gammavariate(4, TOKENS / 4)))
                self._waiting.append((length, self.limit.begin()))
            while self._waiting and len(self._open) < self.places:
                length, began = self._waiting.popleft()
                self._count += 1
                heapq.heappush(self._open, (self._written + length, self._count, began, length))
            speed = self.total(len(self._open)) / len(self._open) * self.rng.gauss(1, 0.05)
            until, _, began, length = heapq.heappop(self._open)
            self.now += (until - self._written) / speed
            self._written = until
            replies.append((self.now, self.limit.limit, length))
            self.limit.done(began, length)
        return replies


def measure(simulation: Simulation, warm_up_s: float = 600.0, seconds: float = 1200.0) -> tuple[float, float]:
    """Median limit and share of the best possible throughput, after the warm-up."""
    simulation.run(warm_up_s)
    replies = simulation.run(seconds)
    best = max(simulation.total(held) for held in range(1, 257))
    return statistics.median(limit for _, limit, _ in replies), sum(n for *_, n in replies) / seconds / best


@pytest.mark.parametrize("knee", [3, 8, 25, 60, 100, 170])
@pytest.mark.parametrize("curve", [saturating, thrashing])
def test_it_lands_within_a_factor_of_two_of_the_knee_and_above_nine_tenths_of_the_best(
    curve: Callable[[int], Callable[[int], float]], knee: int
) -> None:
    limit, share = measure(Simulation(curve(knee), seed=knee))
    assert knee / 2 <= limit <= 2 * knee
    assert share > 0.9


@pytest.mark.parametrize("places", [4, 12, 64])
def test_requests_that_only_queue_for_a_place_are_not_taken_for_throughput(places: int) -> None:
    limit, share = measure(Simulation(saturating(10**6), seed=places, places=places))
    assert places / 2 <= limit <= 2 * places
    assert share * 256 / places > 0.9


@pytest.mark.parametrize("knee", [6, 40])
def test_without_a_sharp_knee_it_still_reaches_nine_tenths_of_the_best(knee: int) -> None:
    assert measure(Simulation(bending(knee), seed=1))[1] > 0.9


def test_it_follows_a_server_that_becomes_larger_or_smaller() -> None:
    simulation = Simulation(saturating(20), seed=1)
    assert 10 <= measure(simulation)[0] <= 40
    simulation.total = saturating(60)
    assert 30 <= measure(simulation, warm_up_s=1800)[0] <= 120
    simulation.total = saturating(20)
    limit, share = measure(simulation, warm_up_s=3600)  # slower downwards: holding too many costs no throughput
    assert 10 <= limit <= 40
    assert share > 0.9


def test_it_draws_no_conclusion_from_a_caller_who_keeps_it_idle() -> None:
    simulation = Simulation(saturating(100), seed=1, demand=3)
    simulation.run(600)
    assert simulation.limit.limit <= 8
    simulation.demand = 10**6
    assert measure(simulation)[1] > 0.9


def test_it_never_holds_more_than_the_maximum_or_less_than_one() -> None:
    now = [0.0]
    limit = ConcurrencyLimit(start=4, maximum=10, clock=lambda: now[0])
    seen = set()
    for _ in range(300):
        begun = [limit.begin() for _ in range(limit.limit)]
        now[0] += 1
        for began in begun:
            limit.done(began, 100)
        seen.add(limit.limit)
    assert max(seen) == 10
    for _ in range(9):
        now[0] += 1
        limit.overloaded(limit.begin())
    assert (limit.limit, limit.in_flight) == (1, 0)


def test_overload_halves_once_for_all_requests_that_were_in_flight() -> None:
    now = [0.0]
    limit = ConcurrencyLimit(start=64, clock=lambda: now[0])
    begun = [limit.begin() for _ in range(64)]
    now[0] = 5.0
    for began in begun:
        limit.overloaded(began)
    assert (limit.limit, limit.in_flight) == (32, 0)
    now[0] = 6.0
    began = limit.begin()
    now[0] = 7.0
    limit.overloaded(began)
    assert limit.limit == 16


def test_overload_while_trying_more_goes_back_to_what_worked() -> None:
    now = [0.0]
    limit = ConcurrencyLimit(start=16, clock=lambda: now[0])
    while limit.limit == 16:
        begun = [limit.begin() for _ in range(16)]
        now[0] += 1
        for began in begun:
            limit.done(began, 100)
    assert limit.limit == 32
    now[0] += 1
    limit.overloaded(limit.begin())
    assert limit.limit == 16


def test_a_restart_grows_from_the_start_and_keeps_count_of_what_is_in_flight() -> None:
    limit = ConcurrencyLimit(start=4)
    begun = [limit.begin() for _ in range(3)]
    limit.restart()
    assert (limit.limit, limit.in_flight) == (4, 3)
    limit.gone()
    for began in begun[1:]:
        limit.done(began, 10)
    assert limit.in_flight == 0
