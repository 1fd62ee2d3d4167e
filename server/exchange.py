"""Sending messages and taking the replies one at a time, until a deadline that holds whatever the network does."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable

from flwr.app import Message
from flwr.serverapp import Grid

_LOG = logging.getLogger(__name__)
_FASTEST_POLL_S = 0.1
_SLOWEST_POLL_S = 3.0
_POLL_SHARE = 0.02  # of the time waited so far: a short round is noticed soon, a long one is not asked about often
_PULLS_AT_A_TIME = 4
_SLOT_PATIENCE_S = 60.0


def ask(
    grid: Grid,
    messages: Iterable[Message],
    *,
    deadline_s: float,
    on_reply: Callable[[int, Message], None],
    stop: threading.Event,
) -> set[int]:
    """Send each message and hand over each reply as it comes.

    Every reply is pulled in a thread of its own. Flower shows a reply as soon as its header is there and then waits for
    the rest, for minutes when a link was cut in the middle; in a thread that wait cannot hold the deadline up.

    Args:
        grid: Flower's grid.
        messages: one per node.
        deadline_s: replies that come later are not taken [s].
        on_reply: called with (node, reply) in the calling thread, one reply at a time.
        stop: ends the wait when set.

    Returns:
        The nodes that had not answered when the wait ended.
    """
    end = time.monotonic() + deadline_s
    arrived: queue.Queue[tuple[int, Message]] = queue.Queue()
    # Bounds how many replies lie in memory: a slot is given back when its reply was dealt with.
    slots = threading.Semaphore(_PULLS_AT_A_TIME)
    done = threading.Event()
    pending: set[int] = set()
    unsent: set[int] = set()
    for message in messages:
        node = message.metadata.dst_node_id
        accepted = [i for i in grid.push_messages([message]) if i]
        if not accepted:  # the node left since it was listed
            unsent.add(node)
            continue
        (message_id,) = accepted
        pending.add(node)
        threading.Thread(target=_poll, args=(grid, message_id, node, end, slots, done, arrived), daemon=True).start()
    try:
        while pending and not stop.is_set() and (left := end - time.monotonic()) > 0:
            try:
                node, reply = arrived.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            pending.discard(node)
            try:
                on_reply(node, reply)
            finally:
                slots.release()
    finally:
        done.set()
    return pending | unsent


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
