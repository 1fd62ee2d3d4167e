"""The receipts of a running ingress: one writer for all threads, counts of what happens too often for a line each."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from protocols.errors import StorageError
from protocols.hash_chain import ChainWriter
from protocols.receipts import IngressReceipt, ingress_chain
from server.ingress_proxy.refusals import RefusedError

_LOG = logging.getLogger(__name__)
_CALLS_EVERY_S = 600.0
_REFUSED_EVERY_S = 60.0


class ReceiptBook:
    """Receipts of what arrived, was announced, was refused, and of how many calls there were.

    Args:
        writer: holds the chain.
        history: receipts of earlier.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        writer: ChainWriter[IngressReceipt],
        history: list[IngressReceipt],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = threading.Lock()
        self._announced = {(r.site, r.message) for r in history if r.kind == "announced"}
        self._arrived = {(r.site, r.message) for r in history if r.kind == "arrived"}
        self._calls: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._calls_written = clock()
        self._refused: defaultdict[tuple[int | None, str], Counter[str]] = defaultdict(Counter)
        self._refused_written: dict[tuple[int | None, str], float] = {}

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[ReceiptBook]:
        """Verify the chain, and hold it until the block ends.

        Raises:
            WorkError: the chain is broken, or another ingress writes to it.
            StorageError: the folder cannot be written.
        """
        chain = ingress_chain(folder)
        with chain.writing() as writer:
            book = cls(writer, chain.links())
            try:
                yield book
            finally:
                book.write_counts(everything=True)

    def announced(self, site: int, message: str) -> None:
        """Write down, once, that a message is to come.

        Raises:
            StorageError: the disk is full; the call must not be passed on.
        """
        with self._lock:
            if (site, message) not in self._announced:
                self._writer.append({"kind": "announced", "site": site, "message": message})
                self._announced.add((site, message))

    def arrived(self, site: int, message: str, message_bytes: int) -> None:
        """Write down, once, that a message is here whole.

        Raises:
            StorageError: the disk is full; the site must hear that it has to try again.
        """
        with self._lock:
            if (site, message) not in self._arrived:
                facts = {"kind": "arrived", "site": site, "message": message, "message_bytes": message_bytes}
                self._writer.append(facts)
                self._arrived.add((site, message))
        _LOG.info("message %s of site %d arrived whole, %d bytes", message[:12], site, message_bytes)

    def has_arrived(self, site: int, message: str) -> bool:
        """Whether there is a receipt that it is here."""
        with self._lock:
            return (site, message) in self._arrived

    def refused(self, refused: RefusedError, method: str) -> None:
        """Write down that a call was not passed on: one line a minute for each site and reason, with counts.

        Args:
            refused: the reason.
            method: one of a closed list; a caller's own words never get into a receipt.
        """
        key = (refused.site, refused.reason.note)
        with self._lock:
            self._refused[key][method] += 1
            if self._clock() - self._refused_written.get(key, -_REFUSED_EVERY_S) >= _REFUSED_EVERY_S:
                who = "an unknown caller" if refused.site is None else f"site {refused.site}"
                _LOG.warning("a call of %s was refused: %s", who, refused.reason.note)
                self._try(partial(self._write_refused, key))

    def count(self, site: int, method: str) -> None:
        """Count a call that was passed on."""
        with self._lock:
            self._calls[site][method] += 1

    def write_counts(self, *, everything: bool = False) -> None:
        """Write down the counts that are due.

        Args:
            everything: also those that are not.
        """
        with self._lock:
            now = self._clock()
            for key in list(self._refused):
                if everything or now - self._refused_written.get(key, 0.0) >= _REFUSED_EVERY_S:
                    self._try(partial(self._write_refused, key))
            if everything or now - self._calls_written >= _CALLS_EVERY_S:
                for site in sorted(self._calls):
                    self._try(partial(self._write_calls, site))
                self._calls_written = now

    def _write_refused(self, key: tuple[int | None, str]) -> None:
        site, note = key
        calls = dict(sorted(self._refused[key].items()))
        self._writer.append({"kind": "refused", "site": site, "note": note, "calls": calls})
        del self._refused[key]
        self._refused_written[key] = self._clock()

    def _write_calls(self, site: int) -> None:
        self._writer.append({"kind": "calls", "site": site, "calls": dict(sorted(self._calls[site].items()))})
        del self._calls[site]

    @staticmethod
    def _try(write: Callable[[], None]) -> None:
        """Counts are kept and written later when the disk is full; nothing arrives for them."""
        try:
            write()
        except StorageError:
            _LOG.error("a receipt could not be written: the disk takes nothing")
