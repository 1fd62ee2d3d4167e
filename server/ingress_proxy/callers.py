"""Who calls: the sites that are enrolled, and the certificate by which a caller is known.

The folder of enrolments is looked at with every call, so that a revocation counts from the next call on, also on a
connection that was open before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key


@dataclass(frozen=True, kw_only=True)
class EnrolledCaller:
    """What the ingress has to know about an enrolled site.

    Attributes:
        site: its number.
        node_key: public half of Flower's node key, as Flower sends it (PEM).
        revoked: whether it may no longer call.
    """

    site: int
    node_key: bytes
    revoked: bool = False


@dataclass(frozen=True)
class Certificate:
    """What matters of a client certificate.

    Attributes:
        fingerprint: SHA-256 (hex).
        expires: Unix time.
    """

    fingerprint: str
    expires: float

    @property
    def has_expired(self) -> bool:
        """Whether it is too old. TLS looks once, and a connection may stay open for weeks."""
        return time.time() > self.expires


@lru_cache(maxsize=256)
def read_certificate(pem: bytes) -> Certificate:
    """Read a client certificate.

    Raises:
        ValueError: it is none.
    """
    found = x509.load_pem_x509_certificate(pem)
    return Certificate(found.fingerprint(hashes.SHA256()).hex(), found.not_valid_after_utc.timestamp())


def flower_node_key(openssh: str) -> bytes:
    """A node key in the form in which Flower's nodes send it (PEM).

    Args:
        openssh: public key as ``ssh-keygen`` writes it.

    Raises:
        ValueError: it is no key on a NIST curve.
    """
    key = load_ssh_public_key(openssh.encode())
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("not an elliptic-curve key")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class EnrolledCallers:
    """The enrolled sites by fingerprint of their certificate, always as the folder has them now.

    Args:
        folder: of the enrolments.
        read: reads them all.
    """

    def __init__(self, folder: Path, read: Callable[[], Mapping[str, EnrolledCaller]]) -> None:
        self._folder = folder
        self._read = read
        self._lock = threading.Lock()
        self._stamp: object = None
        self._callers: Mapping[str, EnrolledCaller] = {}

    def find(self, fingerprint: str) -> EnrolledCaller | None:
        """The site with that certificate.

        Raises:
            FednotesError: an enrolment cannot be read; nobody is admitted until it can.
        """
        return self._current().get(fingerprint)

    def has_rival(self, caller: EnrolledCaller) -> bool:
        """Whether a site with a lower number has the same node key: Flower could not tell the two apart."""
        others = self._current().values()
        return any(o.node_key == caller.node_key and not o.revoked and o.site < caller.site for o in others)

    def _current(self) -> Mapping[str, EnrolledCaller]:
        with self._lock:
            stamp = _stamp(self._folder)
            if stamp != self._stamp:
                self._callers = self._read()
                self._stamp = stamp
            return self._callers


def _stamp(folder: Path) -> object:
    """Changes whenever a file of the folder does."""
    files = sorted(folder.glob("*.json"))
    return [(f.name, s.st_mtime_ns, s.st_ino, s.st_size) for f in files for s in [f.stat()]]
