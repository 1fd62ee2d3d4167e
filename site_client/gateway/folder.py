"""The gateway's folder: keys that leave nothing, approvals, what is held, receipts. Its user alone can read it.

    keys/node.key           Flower's node key (OpenSSH), known to the coordinator
    keys/tls.key            key of the client certificate
    keys/inner.key, .pem    TLS of the loopback listener, whose authority the SuperNode has
    keys/supernode.pub      public half of the key with which the SuperNode shows the gateway who it is (OpenSSH)
    keys/approval.pub       public half of the key that signs approvals (PEM)
    enrolment.json          the coordinator's answer: certificate, authority, address, plan key
    approvals/<study>.json  what may be asked of this site
    spool/                  open instructions and replies on their way
    receipts/               what left, hash-chained
    logs/                   codes and places, no texts

The SuperNode and the training process have none of the keys and no route out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protocols.enrolment import Enrolment, read_document
from protocols.errors import UsageError


@dataclass(frozen=True)
class GatewayFolder:
    """Paths of a gateway's folder.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def keys(self) -> Path:
        """Folder of the keys."""
        return self.path / "keys"

    @property
    def enrolment_file(self) -> Path:
        """The coordinator's answer."""
        return self.path / "enrolment.json"

    @property
    def approvals(self) -> Path:
        """Folder of the approved plans."""
        return self.path / "approvals"

    @property
    def spool(self) -> Path:
        """Folder of open instructions and of replies on their way."""
        return self.path / "spool"

    @property
    def receipts(self) -> Path:
        """Folder of the receipts."""
        return self.path / "receipts"

    @property
    def log(self) -> Path:
        """What happened, in codes."""
        return self.path / "logs" / "gateway.log"

    def enrolment(self) -> Enrolment:
        """Read the coordinator's answer.

        Raises:
            UsageError: the site is not enrolled yet, or the file is damaged.
        """
        if not self.enrolment_file.exists():
            raise UsageError(
                f"{self.path} has no enrolment: the coordinator has not answered yet.",
                hint="send enrolment-request.json to the coordinator, then: fednotes site enroll ANSWER.json",
            )
        return read_document(self.enrolment_file, Enrolment)
