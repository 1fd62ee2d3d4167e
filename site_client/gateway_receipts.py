"""Reading the gateway's receipts while the gateway goes on writing them."""

from __future__ import annotations

import time
from pathlib import Path

from protocols.errors import WorkError
from protocols.receipts import RECEIPTS_FILE, GatewayReceipt, gateway_chain

_TRIES, _PAUSE_S = 5, 0.05


def read_gateway_receipts(folder: Path) -> list[GatewayReceipt]:
    """Read and verify the receipts of a gateway.

    A running gateway holds the chain's lock as long as it lives, so it is read without: a line that comes in between
    looks like a break, and is gone at the next look.

    Args:
        folder: of the receipts.

    Raises:
        WorkError: a line was changed, cut or moved; names the line.
    """
    chain = gateway_chain(folder)
    for _ in range(_TRIES - 1):
        try:
            return chain.links()
        except WorkError:
            time.sleep(_PAUSE_S)
    return chain.links()


def has_gateway_receipts(folder: Path) -> bool:
    """Whether a gateway ever wrote a receipt there, also if only its end is left."""
    chain = gateway_chain(folder)
    return (folder / RECEIPTS_FILE).exists() or chain.head_path.exists()
