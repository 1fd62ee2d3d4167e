"""What a hospital and a coordinator exchange once, by mail or on paper: a request, and the answer to it.

Neither holds a secret: the site keeps the keys that the request names, the coordinator keeps its authority.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from protocols.durable import write_text
from protocols.errors import UsageError
from protocols.messages import CONTRACT_VERSION, Message, SiteNumber
from protocols.signing import canonical

_Pem = Annotated[str, Field(min_length=1, max_length=20_000)]
Document = TypeVar("Document", bound=Message)


class EnrolmentRequest(Message):
    """From the site: public halves of its keys.

    Attributes:
        kind: tells the file apart from others.
        contract_version: of the site's installation.
        fednotes_version: likewise.
        site_name: what the hospital calls itself; the coordinator alone sees it.
        certificate_request: PEM, signed with the key of the client certificate.
        node_key: Flower's node key, OpenSSH public form (NIST curve).
        approval_key: Ed25519 (PEM), with which the site signs its approvals.
    """

    kind: Literal["fednotes enrolment request"] = "fednotes enrolment request"
    contract_version: Annotated[int, Field(ge=1, le=1_000)] = CONTRACT_VERSION
    fednotes_version: Annotated[str, Field(max_length=40)]
    site_name: Annotated[str, Field(min_length=1, max_length=200)]
    certificate_request: _Pem
    node_key: _Pem
    approval_key: _Pem

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the whole request (hex): both sides compare it before anything is approved."""
        return _digest(self)


class Enrolment(Message):
    """From the coordinator: the site's number and certificate, and how to reach and recognise the coordinator.

    Attributes:
        kind: tells the file apart from others.
        contract_version: of the coordinator's installation.
        fednotes_version: likewise.
        request_fingerprint: of the request that this answers.
        site: the site's number.
        coordinator: name of the consortium or coordinator.
        address: host:port of the ingress.
        authority: certificate of the coordinator's authority (PEM).
        certificate: the site's client certificate (PEM).
        plan_key: Ed25519 (PEM), with which the coordinator signs plans.
    """

    kind: Literal["fednotes enrolment"] = "fednotes enrolment"
    contract_version: Annotated[int, Field(ge=1, le=1_000)] = CONTRACT_VERSION
    fednotes_version: Annotated[str, Field(max_length=40)]
    request_fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    site: SiteNumber
    coordinator: Annotated[str, Field(min_length=1, max_length=200)]
    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")]
    authority: _Pem
    certificate: _Pem
    plan_key: _Pem


def write_document(path: Path, document: Message) -> None:
    """Write one of these files.

    Raises:
        StorageError: the file cannot be written.
    """
    write_text(path, document.model_dump_json(indent=2) + "\n")


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read one of these files.

    Raises:
        UsageError: it cannot be read, or is something else; names the file and the fields.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="check the path") from error
    except ValidationError as error:
        fields = ", ".join(sorted({str(e["loc"][0]) for e in error.errors(include_input=False) if e["loc"]}))
        raise UsageError(
            f"{path} is no valid {kind.__name__}" + (f": {fields}." if fields else "."),
            hint="it may be another file, or come from another version of fednotes",
        ) from None


def _digest(document: Message) -> str:
    return hashlib.sha256(canonical(document.model_dump(mode="json"))).hexdigest()
