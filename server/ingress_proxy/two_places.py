"""Notices one certificate used in two places at once: a copied key, or a gateway that was started twice.

A site that reconnects comes from a new port and never again from the old one, so a change of peer says nothing. Two
clients alternate: a connection that another one had replaced starts a call again, and the other one after it. A call
that was overtaken while the connections changed makes two such returns, there and back; three within a heartbeat
interval are two clients. The one that was there first is served on, the others are refused until it has been silent
for an interval.

Which of the two is the real site cannot be known here. The receipt tells people, who can.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

INTERVAL_S = 30.0
"""Flower's heartbeat interval: a living site calls at least so often."""

_RETURNS = 3


@dataclass
class _Site:
    first_seen: dict[str, float] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)
    current: str = ""
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=_RETURNS))


class TwoPlaces:
    """Remembers from where each site calls.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sites: dict[int, _Site] = {}

    def admits(self, site: int, peer: str) -> bool:
        """Note the start of a call.

        Args:
            site: that calls.
            peer: address and port of its connection.

        Returns:
            Whether it may go on; if not, it comes from the second of two places.
        """
        with self._lock:
            now, seen = self._clock(), self._sites.setdefault(site, _Site())
            for old in [p for p, last in seen.last_seen.items() if now - last > INTERVAL_S]:
                del seen.first_seen[old], seen.last_seen[old]
            if peer != seen.current and peer in seen.last_seen:
                seen.returns.append(now)
            seen.first_seen.setdefault(peer, now)
            seen.last_seen[peer] = now
            seen.current = peer
            alternates = len(seen.returns) == _RETURNS and now - seen.returns[0] <= INTERVAL_S
            return not alternates or peer == min(seen.first_seen, key=lambda p: seen.first_seen[p])
