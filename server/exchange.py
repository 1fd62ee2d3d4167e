"""Sending messages and taking the replies one at a time, until a deadline that holds whatever the network does."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from protocols.errors import WorkError

_LOG = logging.getLogger(__name__)
_FASTEST_POLL_S = 0.1
_SLOWEST_POLL_S = 3.0
_POLL_SHARE = 0.02  # of the time waited so far: a short round is noticed soon, a long one is not asked about often
_PULLS_AT_A_TIME = 4
_SLOT_PATIENCE_S = 60.0
_LOOK_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 3.0, 60.0


@dataclass
class _Lost:
    """A node that has to be asked again.

    Attributes:
        since: when it was lost first, on the monotonic clock.
        due: when to ask again at the earliest.
        pause: to wait after the next loss [s].
    """

    since: float
    due: float
    pause: float = _FIRST_PAUSE_S


def online_nodes(grid: Grid, *, patience_s: float = 60.0) -> set[int]:
    """Nodes that are connected. A SuperLink that is started again is waited for.

    Raises:
        WorkError: it does not come back.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            return set(grid.get_node_ids())
        except Exception as error:  # whatever the transport raises while the link to Flower is down
            if time.monotonic() > end:
                raise WorkError(
                    f"Flower has been away for {patience_s:g} s ({type(error).__name__}).",
                    hint="see logs/superlink.log",
                ) from None
            time.sleep(_LOOK_S)


def ask(
    grid: Grid,
    messages: Iterable[Message],
    *,
    deadline_s: float,
    on_reply: Callable[[int, Message], bool | None],
    stop: threading.Event,
    rejoin_s: float = 0.0,
) -> set[int]:
    """Send each message and hand over each reply as it comes.

    Every reply is pulled in a thread of its own. Flower shows a reply as soon as its header is there and then waits for
    the rest, for minutes when a link was cut in the middle; in a thread that wait cannot hold the deadline up.

    Args:
        grid: Flower's grid.
        messages: one per node.
        deadline_s: replies that come later are not taken [s].
        on_reply: called with (node, reply) in the calling thread, one reply at a time; true when the node was lost and
            is to be asked again once it is back.
        stop: ends the wait when set.
        rejoin_s: how long to wait for a node that was lost [s]; 0 asks nobody twice.

    Returns:
        The nodes that had not answered when the wait ended.
    """
    exchange = _Exchange(grid, {m.metadata.dst_node_id: m for m in messages}, time.monotonic() + deadline_s, rejoin_s)
    try:
        return exchange.run(on_reply, stop)
    finally:
        exchange.done.set()


class _Exchange:
    """One call of :func:`ask`."""

    def __init__(self, grid: Grid, messages: dict[int, Message], end: float, rejoin_s: float) -> None:
        self._grid = grid
        self._messages = messages
        self._end = end
        self._rejoin_s = rejoin_s
        self._arrived: queue.Queue[tuple[int, Message]] = queue.Queue()
        # Bounds how many replies lie in memory: a slot is given back when its reply was dealt with.
        self._slots = threading.Semaphore(_PULLS_AT_A_TIME)
        self._waiting: set[int] = set()
        self._lost: dict[int, _Lost] = {}
        self._settled: set[int] = set()
        self._next_look = 0.0
        self.done = threading.Event()

    def run(self, on_reply: Callable[[int, Message], bool | None], stop: threading.Event) -> set[int]:
        for node in self._messages:
            self._send(node)
        while self._waiting | self._lost.keys() and not stop.is_set() and (left := self._end - time.monotonic()) > 0:
            self._ask_again()
            try:
                node, reply = self._arrived.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            try:
                if node not in self._settled:  # else a late first answer after a good second one, or the reverse
                    self._waiting.discard(node)
                    if on_reply(node, reply):
                        self._lose(node)
                    else:
                        self._settled.add(node)
                        self._lost.pop(node, None)
            finally:
                self._slots.release()
        return self._messages.keys() - self._settled

    def _send(self, node: int) -> None:
        message = self._messages[node]
        twin = Message(
            message.content,
            dst_node_id=node,
            message_type=message.metadata.message_type,
            ttl=message.metadata.ttl,
        )
        try:
            accepted = [i for i in self._grid.push_messages([twin]) if i]
        except Exception as error:  # the link to Flower may be down for a moment
            _LOG.warning("a request could not be sent (%s)", type(error).__name__)
            accepted = []
        if not accepted:  # the node left since it was listed
            self._lose(node)
            return
        self._waiting.add(node)
        arguments = (self._grid, accepted[0], node, self._end, self._slots, self.done, self._arrived)
        threading.Thread(target=_poll, args=arguments, daemon=True).start()

    def _lose(self, node: int) -> None:
        now = time.monotonic()
        known = self._lost.get(node)
        if self._rejoin_s <= 0:
            return
        if known is None:
            self._lost[node] = _Lost(since=now, due=now + _FIRST_PAUSE_S)
        else:
            known.pause = min(2 * known.pause, _LONGEST_PAUSE_S)
            known.due = now + known.pause

    def _ask_again(self) -> None:
        now = time.monotonic()
        for node in [n for n, lost in self._lost.items() if now - lost.since > self._rejoin_s]:
            if node not in self._waiting:
                del self._lost[node]
        due = [n for n, lost in self._lost.items() if n not in self._waiting and now >= lost.due]
        if not due or now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        try:
            online = set(self._grid.get_node_ids())
        except Exception as error:
            _LOG.warning("nodes could not be listed (%s)", type(error).__name__)
            return
        for node in due:
            if node in online:
                _LOG.info("a site is asked again")
                self._send(node)


def _poll(
    grid: Grid,
    message_id: str,
    node: int,
    end: float,
    slots: threading.Semaphore,
    done: threading.Event,
    arrived: queue.Queue[tuple[int, Message]],
) -> None:
    started = time.monotonic()
    patience = min(_SLOT_PATIENCE_S, (end - started) / 4)
    while not done.is_set() and time.monotonic() < end:
        # Where no slot came free for so long, pulls hang on cut links and keep theirs. This one goes on without; when
        # its reply is dealt with, the slot given back stands in for a lost one.
        has_slot = slots.acquire(timeout=patience)
        try:
            replies = [] if done.is_set() else list(grid.pull_messages([message_id]))
        except Exception as error:  # the link to Flower may be down for a moment; the deadline decides
            _LOG.warning("a reply could not be pulled (%s); trying again", type(error).__name__)
            replies = []
        if replies:
            arrived.put((node, replies[0]))
            return
        if has_slot:
            slots.release()
        waited = time.monotonic() - started
        done.wait(min(max(_FASTEST_POLL_S, _POLL_SHARE * waited), _SLOWEST_POLL_S))
