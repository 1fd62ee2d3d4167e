"""Reading receipts that may be a copy, may have come without their head, or are being written meanwhile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from protocols.durable import write_text
from protocols.errors import UsageError, WorkError
from protocols.hash_chain import HashChain, Link
from protocols.receipts import HEAD_FILE, RECEIPTS_FILE, GatewayReceipt, IngressReceipt

_TRIES, _PAUSE_S = 5, 0.05
LinkT = TypeVar("LinkT", bound=Link)


@dataclass(frozen=True, kw_only=True)
class Verified(Generic[LinkT]):
    """Receipts that hold together.

    Attributes:
        path: the file.
        links: the receipts.
        has_head: whether a head showed that none is missing at the end.
    """

    path: Path
    links: list[LinkT]
    has_head: bool


def read_gateway(where: Path) -> Verified[GatewayReceipt]:
    """Read and verify a hospital's receipts.

    Args:
        where: the folder with receipts and head, or the file alone, which is then verified without its end.

    Raises:
        UsageError: there are none.
        WorkError: a line was changed, cut or moved; names the line.
    """
    return _read(where, TypeAdapter(GatewayReceipt))


def read_ingress(where: Path) -> Verified[IngressReceipt]:
    """Read and verify a coordinator's receipts; otherwise as :func:`read_gateway`."""
    return _read(where, TypeAdapter(IngressReceipt))


def _read(where: Path, link: TypeAdapter[LinkT]) -> Verified[LinkT]:
    is_file = where.suffix == ".jsonl"
    path = where if is_file else where / RECEIPTS_FILE
    head = path.with_name(HEAD_FILE)
    # The head alone, in a folder, is the trace of receipts that somebody deleted: the chain then says so.
    if not path.is_file() and (is_file or not head.exists()):
        raise UsageError(
            f"{where} has no receipts.", hint=f"give the folder that holds {RECEIPTS_FILE}, or a .jsonl file"
        )
    if not is_file or (head.exists() and path.name == RECEIPTS_FILE):
        chain = HashChain(path, head, link, name="receipts")
        return Verified(path=path, links=_while_written(chain.links), has_head=True)
    with tempfile.TemporaryDirectory() as folder:
        chain = HashChain(path, Path(folder) / HEAD_FILE, link, name="receipts")
        write_text(chain.head_path, chain.end().model_dump_json())
        return Verified(path=path, links=chain.links(), has_head=False)


def _while_written(read: Callable[[], list[LinkT]]) -> list[LinkT]:
    """A running writer holds the lock as long as it lives; a line that comes in between looks like a break, once."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except WorkError:
            time.sleep(_PAUSE_S)
    return read()
