from __future__ import annotations

import threading
import time

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from protocols.errors import WorkError
from server.exchange import ask, online_nodes
from tests.server.fake_grid import FakeGrid


def echo(message: Message) -> RecordDict:
    return message.content


def requests(grid: FakeGrid) -> list[Message]:
    content = RecordDict({"request": ConfigRecord({"x": 1})})
    return [Message(content, dst_node_id=node, message_type="query") for node in grid.get_node_ids()]


def ask_all(grid: FakeGrid, deadline_s: float = 5.0, stop: threading.Event | None = None):
    answered: list[int] = []
    started = time.monotonic()
    silent = ask(
        grid,
        requests(grid),
        deadline_s=deadline_s,
        on_reply=lambda node, _: answered.append(node),
        stop=stop or threading.Event(),
    )
    return set(answered), silent, time.monotonic() - started


def test_all_replies_are_handed_over_and_the_wait_ends_with_the_last():
    answered, silent, seconds = ask_all(FakeGrid(dict.fromkeys(range(1, 10), echo)), deadline_s=30.0)
    assert (answered, silent) == (set(range(1, 10)), set())
    assert seconds < 5.0


def test_silent_node_is_named_when_the_deadline_is_over():
    answered, silent, seconds = ask_all(FakeGrid({1: echo, 2: lambda _: None, 3: echo}), deadline_s=0.6)
    assert (answered, silent) == ({1, 3}, {2})
    assert 0.6 <= seconds < 3.0


def test_reply_that_hangs_while_it_is_pulled_does_not_hold_the_deadline():
    grid = FakeGrid(dict.fromkeys((1, 2, 3), echo))
    grid.hanging = {2}
    answered, silent, seconds = ask_all(grid, deadline_s=0.6)
    assert (answered, silent) == ({1, 3}, {2})
    assert seconds < 3.0


def test_many_hanging_replies_do_not_keep_the_others_out():
    grid = FakeGrid(dict.fromkeys(range(1, 13), echo))
    grid.hanging = {1, 2, 3, 4, 5, 6}
    answered, silent, _ = ask_all(grid, deadline_s=3.0)
    assert (answered, silent) == ({7, 8, 9, 10, 11, 12}, {1, 2, 3, 4, 5, 6})


def test_link_that_fails_for_a_moment_costs_no_reply():
    grid = FakeGrid(dict.fromkeys(range(1, 8), echo))
    grid.flaky = dict.fromkeys(range(1, 8), 2)
    answered, silent, _ = ask_all(grid, deadline_s=20.0)
    assert (answered, silent) == (set(range(1, 8)), set())


def test_node_that_left_before_the_message_is_silent_at_once():
    grid = FakeGrid(dict.fromkeys((1, 2), echo))
    grid.gone = {2}
    answered, silent, seconds = ask_all(grid, deadline_s=30.0)
    assert (answered, silent) == ({1}, {2})
    assert seconds < 5.0


def test_stop_ends_the_wait_before_the_deadline():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    answered, silent, seconds = ask_all(FakeGrid({1: lambda _: None}), deadline_s=30.0, stop=stop)
    assert (answered, silent) == (set(), {1})
    assert seconds < 5.0


def test_replies_are_handed_over_one_at_a_time_in_the_calling_thread():
    grid = FakeGrid(dict.fromkeys(range(1, 9), echo))
    threads: set[int] = set()

    def slow(node: int, reply: Message) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.01)

    ask(grid, requests(grid), deadline_s=10.0, on_reply=slow, stop=threading.Event())
    assert threads == {threading.get_ident()}


def test_no_more_than_four_replies_are_pulled_ahead_of_the_one_in_hand():
    class CountingGrid(FakeGrid):
        pulled = 0

        def pull_messages(self, message_ids):
            replies = super().pull_messages(message_ids)
            self.pulled += len(replies)
            return replies

    grid = CountingGrid(dict.fromkeys(range(1, 13), echo))
    ahead: list[int] = []

    def slow(node: int, reply: Message) -> None:
        time.sleep(0.05)
        ahead.append(grid.pulled - len(ahead))

    ask(grid, requests(grid), deadline_s=20.0, on_reply=slow, stop=threading.Event())
    assert len(ahead) == 12
    assert 1 < max(ahead) <= 4


def test_error_while_a_reply_is_dealt_with_is_not_swallowed():
    grid = FakeGrid({1: echo})

    def fail(node: int, reply: Message) -> None:
        raise KeyError(node)

    with pytest.raises(KeyError):
        ask(grid, requests(grid), deadline_s=5.0, on_reply=fail, stop=threading.Event())


def _asking_again(grid: FakeGrid, *, rejoin_s: float = 20.0, deadline_s: float = 20.0):
    """Ask; errors mean that the node was lost."""
    answered: list[int] = []

    def take(node: int, reply: Message) -> bool:
        if reply.has_error():
            return True
        answered.append(node)
        return False

    stop = threading.Event()
    silent = ask(grid, requests(grid), deadline_s=deadline_s, on_reply=take, stop=stop, rejoin_s=rejoin_s)
    return answered, silent


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("server.exchange._FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("server.exchange._LOOK_S", 0.05)


def test_a_lost_node_is_asked_again_and_counts_once(impatient):
    tries: list[int] = []

    def dies_once(message: Message):
        tries.append(1)
        return Error(code=8, reason="") if len(tries) == 1 else echo(message)

    assert _asking_again(FakeGrid({1: echo, 2: dies_once})) == ([1, 2], set())
    assert len(tries) == 2


def test_a_node_that_was_away_is_asked_when_it_is_back(impatient):
    grid = FakeGrid({1: echo, 2: echo})
    grid.gone = {2}
    threading.Timer(0.4, grid.gone.clear).start()
    assert _asking_again(grid) == ([1, 2], set())


def test_a_node_that_stays_away_is_waited_for_as_long_as_the_plan_says(impatient):
    grid = FakeGrid({1: echo, 2: lambda _: Error(code=5, reason="")})
    started = time.monotonic()
    assert _asking_again(grid, rejoin_s=1.0, deadline_s=30.0) == ([1], {2})
    assert 1.0 <= time.monotonic() - started < 6.0


@pytest.mark.slow
def test_a_node_that_answers_both_questions_counts_once(impatient):
    grid = FakeGrid({1: echo, 2: lambda _: None})
    grid.gone = {1}
    again = threading.Event()

    def both(message: Message):
        if again.is_set():
            return echo(message)
        again.set()
        return Error(code=8, reason="")

    grid.nodes[2] = both
    pulled: list[int] = []
    pull = grid.pull_messages

    def counted(ids):
        replies = list(pull(ids))
        pulled.extend(1 for _ in replies)
        return replies

    grid.pull_messages = counted
    threading.Timer(1.0, grid.gone.clear).start()
    answered, silent = _asking_again(grid)
    assert (answered.count(1), answered.count(2), silent) == (1, 1, set())
    assert len(pulled) == 3  # an error and two good answers


def test_nodes_that_cannot_be_listed_for_a_moment_are_listed_later(impatient):
    class Away(FakeGrid):
        failures = 3

        def get_node_ids(self):
            if self.failures:
                self.failures -= 1
                raise ConnectionError
            return super().get_node_ids()

    assert online_nodes(Away({1: echo}), patience_s=5.0) == {1}
    with pytest.raises(WorkError, match="has been away"):
        online_nodes(Away({1: echo}), patience_s=0.0)
