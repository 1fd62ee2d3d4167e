"""The approvals as they are now: read anew when the folder changed, none at all when one of them was tampered with."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from protocols.errors import UsageError
from site_client.approval import Approval, read_approvals
from site_client.gateway.folder import GatewayFolder

_LOG = logging.getLogger(__name__)


class ApprovalBook:
    """Approvals of a gateway by study; call it for the current ones.

    Args:
        folder: of the gateway.
    """

    def __init__(self, folder: GatewayFolder) -> None:
        self._folder = folder
        self._seen: object = None
        self._approvals: Mapping[str, Approval] = {}

    def __call__(self) -> Mapping[str, Approval]:
        """The current approvals."""
        now = self._state()
        if now != self._seen:
            try:
                self._approvals = read_approvals(self._folder)
            except (UsageError, OSError) as error:
                _LOG.error("no study is approved: %s", error)
                self._approvals = {}
            self._seen = now
        return self._approvals

    def _state(self) -> object:
        try:
            files = sorted(self._folder.approvals.glob("*.json"))
            return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files]
        except OSError:
            return None
