"""What the gateway writes down: a receipt before anything leaves, and counts of the calls without content."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from protocols.hash_chain import ChainWriter
from protocols.metrics import GatewayMetrics
from protocols.receipts import GatewayReceipt, gateway_chain

_CALLS_EVERY_S = 600.0

Note = Literal[
    "gateway started",
    "gateway stopped",
    "node activated",
    "node deactivated",
    "passed on",
    "not passed on",
    "delivered",
    "expired before it could be delivered",
    "run ended before it could be delivered",
]
"""The closed list of what an event or an instruction may say."""


class Journal:
    """The receipts of a running gateway.

    Args:
        writer: holds the chain.
        history: receipts of earlier, for the totals.
        metrics: count the same things for the monitoring.
    """

    def __init__(
        self, writer: ChainWriter[GatewayReceipt], history: list[GatewayReceipt], metrics: GatewayMetrics | None = None
    ) -> None:
        self._writer = writer
        self.metrics = metrics or GatewayMetrics()
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._calls_written = time.monotonic()
        self._bytes: Counter[str] = Counter()
        for receipt in history:
            self._bytes[receipt.study] += receipt.message_bytes

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Journal]:
        """Verify the chain, and hold it until the block ends.

        Raises:
            WorkError: the chain is broken; nothing may leave.
        """
        chain = gateway_chain(folder)
        with chain.writing() as writer:
            journal = cls(writer, chain.links())
            try:
                yield journal
            finally:
                journal.flush_calls()

    def reply(
        self,
        *,
        study: str,
        round_number: int,
        message: str,
        message_bytes: int,
        reply: str,
        fields: dict[str, int | float],
        array_bytes: int,
    ) -> None:
        """Write down a typed reply, before it leaves."""
        self._write(
            {
                "kind": "reply",
                "study": study,
                "round": round_number,
                "message": message,
                "message_bytes": message_bytes,
                "reply": reply,
                "fields": fields,
                "array_bytes": array_bytes,
            }
        )

    def refusal(self, *, study: str, round_number: int, message: str, message_bytes: int, code: str) -> None:
        """Write down an error code, before it leaves."""
        self._write(
            {
                "kind": "refusal",
                "study": study,
                "round": round_number,
                "message": message,
                "message_bytes": message_bytes,
                "code": code,
            }
        )

    def instruction(self, *, study: str, round_number: int, note: Note, code: str = "") -> None:
        """Write down a request that came in."""
        self._write({"kind": "instruction", "study": study, "round": round_number, "note": note, "code": code})

    def event(self, note: Note, *, study: str = "", round_number: int = 0) -> None:
        """Write down what happened."""
        self._write({"kind": "event", "study": study, "round": round_number, "note": note})

    def count(self, method: str) -> None:
        """Count a call that carries nothing but ids that the coordinator gave out."""
        self.metrics.calls.labels(method).inc()
        with self._lock:
            self._calls[method] += 1
        if time.monotonic() - self._calls_written > _CALLS_EVERY_S:
            self.flush_calls()

    def flush_calls(self) -> None:
        """Write the counts down."""
        with self._lock:
            self._flush_calls()

    def sent(self, study: str) -> int:
        """Size of everything that a study was sent so far [bytes]."""
        with self._lock:
            return self._bytes[study]

    def _write(self, facts: dict[str, object]) -> None:
        with self._lock:
            self._flush_calls()
            receipt = self._writer.append(facts)
            self._bytes[receipt.study] += receipt.message_bytes
        self.metrics.bytes_sent.inc(receipt.message_bytes)
        if receipt.kind == "reply":
            self.metrics.replies.labels(receipt.reply).inc()
        elif receipt.kind == "refusal":
            self.metrics.refusals.labels(receipt.code).inc()

    def _flush_calls(self) -> None:
        if self._calls:
            self._writer.append({"kind": "calls", "calls": dict(sorted(self._calls.items()))})
        self._calls.clear()
        self._calls_written = time.monotonic()
