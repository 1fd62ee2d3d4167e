"""How many requests an endpoint should hold at once, found by measuring. Arithmetic with a clock; nothing sleeps here.

A served model writes more tokens per second the more requests it holds, up to a knee that depends on card, model and
length of the texts; beyond it requests only wait, and some servers become slower. The knee is found in three steps:

1. Grow: hold 4, measure, hold twice as many, as long as the throughput rises by more than ``_RISE``.
2. Settle at the last number that paid.
3. Keep looking: now and then try a quarter more or a quarter less, and go on in that direction while it pays.

A window is measured by Little's law: throughput = mean requests held x tokens per request-second. A request's own speed
varies far less than its length, so a dozen replies tell as much as hundreds would by counting tokens over time. Only
requests that began inside the window count, and after a change it opens once as many replies as the new limit have
come: the others ran partly under another limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_RISE = 1.06  # doubling must bring 6 %: more than the noise of a window, less than what a useful doubling brings
_BETTER = 1.03  # a quarter more must bring 3 %
_NO_WORSE = 0.98  # a quarter less may cost 2 %: held requests are memory of the server and waiting time
_WINDOWS_BETWEEN = 6  # at the base after a trial that did not pay, so that such trials cost little
_MIN_REPLIES = 12
_REPLIES_PER_HELD = 1.5
_BUSY = 0.8  # below this share of the limit the caller, not the limit, decides the throughput: no conclusion


class ConcurrencyLimit:
    """The limit of one endpoint, and what is in flight under it.

    Each request calls ``begin`` once, then exactly one of ``done``, ``overloaded`` and ``gone``.

    Args:
        start: first limit, 1 or more.
        maximum: never above this.
        clock: seconds, monotonic.

    Attributes:
        limit: requests that may be in flight now.
        in_flight: requests that are.
    """

    def __init__(self, *, start: int = 4, maximum: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        self._start = min(start, maximum)
        self._maximum = maximum
        self._clock = clock
        self.in_flight = 0
        self._area = 0.0  # [requests x seconds] in flight since the window opened
        self._seconds = 0.0  # that the replies of the window took, added up
        self._replies = self._tokens = 0
        self._opened_at = self._changed_at = clock()
        self._turnover = 0  # replies to wait for before the window opens
        self.restart()

    def restart(self) -> None:
        """Begin to grow anew, because the endpoint was away and may have come back different."""
        self.limit = self._base = self._start
        self._rate = 0.0  # [tokens/s] at the base; 0: not measured yet
        self._growing = True
        self._up = False
        self._windows = 0  # that the rate at the base is the mean of
        self._until_trial = 0  # windows at the base before the next trial
        self._cut_at = self._clock()
        self._turnover = 0
        self._open_window()

    @property
    def load(self) -> float:
        """Share of the limit in use."""
        return self.in_flight / self.limit

    def begin(self) -> float:
        """A request starts.

        Returns:
            The time, to be given back when it ends.
        """
        self._change(+1)
        return self._changed_at

    def done(self, began: float, tokens: int) -> None:
        """A request was answered.

        Args:
            began: from ``begin``.
            tokens: length of the reply.
        """
        self._change(-1)
        if self._turnover > 0:
            self._turnover -= 1
            if self._turnover == 0:
                self._open_window()
            return
        if began < self._opened_at:
            return
        self._replies += 1
        self._tokens += tokens
        self._seconds += self._changed_at - began
        if self._replies >= max(_MIN_REPLIES, _REPLIES_PER_HELD * self.limit):
            self._close_window()

    def gone(self) -> None:
        """A request ended in a way that says nothing about speed: cancelled, failed, refused as too long."""
        self._change(-1)

    def overloaded(self, began: float) -> None:
        """A request timed out or was refused as one too many: halve, or go back if this was a trial.

        Requests that began before the last cut do not cut again; they tell of the limit that was.
        """
        self._change(-1)
        if began < self._cut_at:
            return
        self._cut_at = self._clock()
        if self.limit > self._base:
            self._settle(self._base, self._rate, windows=1, until_trial=_WINDOWS_BETWEEN)
        else:
            self._settle(max(1, self._base // 2), 0.0, windows=0, until_trial=_WINDOWS_BETWEEN)

    def _change(self, by: int) -> None:
        now = self._clock()
        self._area += self.in_flight * (now - self._changed_at)
        self._changed_at = now
        self.in_flight += by

    def _open_window(self) -> None:
        self._opened_at = self._changed_at = self._clock()
        self._area = self._seconds = 0.0
        self._replies = self._tokens = 0

    def _close_window(self) -> None:
        elapsed = self._changed_at - self._opened_at
        held = self._area / elapsed if elapsed > 0 else 0.0
        if held >= _BUSY * self.limit and self._seconds > 0:
            self._judge(held * self._tokens / self._seconds)
        else:
            self._open_window()

    def _judge(self, rate: float) -> None:
        """Take the throughput of a window at the present limit into account and choose the next limit."""
        if self._growing:
            self._grow(rate)
        elif self.limit == self._base:
            self._windows += 1
            self._rate += (rate - self._rate) / min(self._windows, 4)
            self._until_trial -= 1
            self._hold(self._base if self._until_trial > 0 else self._neighbour())
        elif rate >= self._rate * (_BETTER if self._up else _NO_WORSE):
            self._settle(self.limit, rate, windows=1, until_trial=1)  # and further in this direction
        else:
            self._up = not self._up
            self._settle(self._base, self._rate, windows=self._windows, until_trial=_WINDOWS_BETWEEN)

    def _grow(self, rate: float) -> None:
        rises = self._rate == 0 or rate >= self._rate * _RISE
        if rises and self.limit < self._maximum:
            self._base, self._rate = self.limit, rate
            self._hold(min(2 * self._base, self._maximum))
        elif rises:
            self._settle(self.limit, rate, windows=1, until_trial=1)
        else:
            self._settle(self._base, self._rate, windows=1, until_trial=1)

    def _settle(self, base: int, rate: float, *, windows: int, until_trial: int) -> None:
        self._growing = False
        self._base, self._rate, self._windows, self._until_trial = base, rate, windows, until_trial
        self._hold(base)

    def _neighbour(self) -> int:
        """A quarter more or a quarter less, whichever way is open."""
        if self._base >= self._maximum:
            self._up = False
        if self._base == 1:
            self._up = True
        step = max(1, self._base // 4)
        return min(self._base + step, self._maximum) if self._up else max(1, self._base - step)

    def _hold(self, limit: int) -> None:
        # A server with a fixed number of places lets the rest queue: only when all that is held has been replaced does
        # a request wait as long as the new limit makes it wait.
        self._turnover = limit if limit != self.limit else 0
        self.limit = limit
        self._open_window()
