"""Receipts of both ends of the line, and their comparison.

The hospital's gateway writes a receipt before anything leaves; the coordinator's ingress writes one when it has all of
it. Both name a message by Flower's object id, a hash over everything in it: the two lists can be compared without
looking inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter

from protocols.hash_chain import HashChain, Link
from protocols.messages import Digest, SiteNumber

RECEIPTS_FILE, HEAD_FILE = "receipts.jsonl", "head.json"


class GatewayReceipt(Link):
    """A line of the hospital's gateway.

    Attributes:
        kind: "reply" (a typed reply left), "refusal" (an error code left in its place), "calls" (so many calls without
            content since the last such line), "instruction" (a request came in and was passed on or not), "event"
            (start, activation, a reply that could not be delivered).
        study: name; empty where none is known.
        round: 0 where none is known.
        message: object id of the message that left; empty when none did.
        reply: name of the reply's type.
        code: name of the error code.
        fields: the numbers that left, by name.
        array_bytes: size of the arrays that left.
        message_bytes: size of all objects of the message.
        calls: number of calls by method.
        note: one of a closed list of words, for people.
    """

    kind: Literal["reply", "refusal", "calls", "instruction", "event"]
    study: str = ""
    round: int = 0
    message: Digest | Literal[""] = ""
    reply: str = ""
    code: str = ""
    fields: dict[str, int | float] = Field(default_factory=dict)
    array_bytes: int = 0
    message_bytes: int = 0
    calls: dict[str, int] = Field(default_factory=dict)
    note: str = ""

    def in_words(self) -> str:
        """One line for a person."""
        when = f"round {self.round}" if self.round else "greeting"
        where = f"study {self.study}, {when}" if self.study else "no study"
        if self.kind == "reply":
            numbers = ", ".join(f"{name} {value:,}" for name, value in self.fields.items())
            what = f"{where}: {self.reply} left ({numbers}), {self.array_bytes:,} bytes of arrays"
        elif self.kind == "refusal":
            what = f"{where}: nothing left but the code {self.code}"
        elif self.kind == "calls":
            what = "calls without content: " + ", ".join(f"{name} {n:,}" for name, n in self.calls.items())
        else:
            what = f"{where}: {self.kind} {self.note}" + (f" ({self.code})" if self.code else "")
        return f"{self.number:6} {self.time}  {what}"


class IngressReceipt(Link):
    """A line of the coordinator's ingress.

    Attributes:
        kind: "arrived" (a message is there with all its objects), "announced" (its header is), "refused" (a call was
            not passed on), "calls" (so many calls without content since the last such line).
        site: number of the enrolled site; none when the caller is not enrolled.
        message: object id.
        message_bytes: size of all objects of the message.
        calls: number of calls by method.
        note: one of a closed list of words, for people.
    """

    kind: Literal["arrived", "announced", "refused", "calls"]
    site: SiteNumber | None = None
    message: Digest | Literal[""] = ""
    message_bytes: int = 0
    calls: dict[str, int] = Field(default_factory=dict)
    note: str = ""

    def in_words(self) -> str:
        """One line for a person."""
        who = "an unknown caller" if self.site is None else f"site {self.site}"
        what = {
            "arrived": f"message {self.message[:12]} arrived whole, {self.message_bytes:,} bytes",
            "announced": f"message {self.message[:12]} announced",
            "refused": f"refused: {self.note}",
            "calls": "calls without content: " + ", ".join(f"{name} {n:,}" for name, n in self.calls.items()),
        }[self.kind]
        return f"{self.number:6} {self.time}  {who}: {what}"


def gateway_chain(folder: Path) -> HashChain[GatewayReceipt]:
    """The receipts of a hospital's gateway in a folder."""
    return HashChain(folder / RECEIPTS_FILE, folder / HEAD_FILE, TypeAdapter(GatewayReceipt), name="receipts")


def ingress_chain(folder: Path) -> HashChain[IngressReceipt]:
    """The receipts of a coordinator's ingress in a folder."""
    return HashChain(folder / RECEIPTS_FILE, folder / HEAD_FILE, TypeAdapter(IngressReceipt), name="receipts")


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """What a comparison of the two lists found.

    Attributes:
        agreed: messages that both ends know, with the same size.
        bytes_agreed: their size together.
        not_arrived: messages that left and did not arrive whole: cut links, stopped runs. No alarm.
        not_receipted: messages that arrived without a receipt at the site. An alarm.
        sizes_differ: messages of which the ends give different sizes. An alarm.
    """

    agreed: int
    bytes_agreed: int
    not_arrived: list[str] = field(default_factory=list)
    not_receipted: list[str] = field(default_factory=list)
    sizes_differ: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing arrived that the site does not account for."""
        return not self.not_receipted and not self.sizes_differ


def reconcile(site: Iterable[GatewayReceipt], ingress: Iterable[IngressReceipt], number: int) -> Reconciliation:
    """Compare the receipts of one site with those of the coordinator.

    Args:
        site: of the hospital's gateway, verified.
        ingress: of the coordinator, verified; those of other sites are passed over.
        number: the site's number.
    """
    left = {r.message: r.message_bytes for r in site if r.message}
    arrived = {r.message: r.message_bytes for r in ingress if r.kind == "arrived" and r.site == number}
    both = left.keys() & arrived.keys()
    same = {m for m in both if left[m] == arrived[m]}
    return Reconciliation(
        agreed=len(same),
        bytes_agreed=sum(left[m] for m in same),
        not_arrived=sorted(left.keys() - arrived.keys()),
        not_receipted=sorted(arrived.keys() - left.keys()),
        sizes_differ=sorted(both - same),
    )
