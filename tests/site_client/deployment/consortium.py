"""A coordinator as a site sees it: an authority, answers, signed plans, and a real gRPC server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protocols.bundle import bundle_hash, fednotes_version
from protocols.certificates import KeyPair, issue_client, issue_server, make_authority
from protocols.enrolment import Enrolment, EnrolmentRequest, read_document, write_document
from protocols.manifest import ParameterManifest, ParameterSpec
from protocols.messages import InnerRecipe, PrivacyRecipe
from protocols.plan import OuterRecipe, Plan, SignedPlan
from protocols.signing import public_pem
from site_client.enrolment import check_answer, install
from site_client.folder import SiteConfig, SiteFolder
from site_client.keys import REQUEST_FILE, make_keys

MANIFEST = ParameterManifest(parameters=(ParameterSpec(name="w", shape=(1_000, 5)),))
NUMBER = 7
PLAN = Plan(
    study="pilot",
    rounds=4,
    corpus="real",
    manifest_digest=MANIFEST.digest,
    recipe=InnerRecipe(steps=20, rows=4, row_length=64, peak_lr=1e-3, packing="patient"),
    outer=OuterRecipe(weights="equal"),
    sites=2,
    quorum=1,
    invited=(3, NUMBER),
)
PRIVACY = PrivacyRecipe(target_epsilon=4.0, sampling_rate=0.05)


@dataclass
class Coordinator:
    """Holds an authority and a plan key."""

    authority: KeyPair = field(default_factory=lambda: make_authority("Test consortium", days=90))
    plan_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    address: str = "localhost:9"

    def answer(self, request: EnrolmentRequest, *, days: int = 60, **changes: object) -> Enrolment:
        """Answer a request."""
        certificate = issue_client(self.authority, request.certificate_request.encode(), "site 7", days=days)
        fields = {
            "fednotes_version": fednotes_version(),
            "request_fingerprint": request.fingerprint,
            "site": NUMBER,
            "coordinator": "Test consortium",
            "address": self.address,
            "authority": self.authority.certificate.decode(),
            "certificate": certificate.decode(),
            "plan_key": public_pem(self.plan_key.public_key()),
        }
        return Enrolment(**(fields | changes))

    def plan_file(self, path: Path, plan: Plan = PLAN, **changes: str) -> Path:
        """Write a signed plan."""
        facts = {"fednotes_version": fednotes_version(), "bundle_hash": bundle_hash()} | changes
        write_document(path, SignedPlan.sign(plan, self.plan_key, **facts))
        return path


def new_site(path: Path, *, enrolled_at: Coordinator | None = None, **settings: object) -> SiteFolder:
    """A site folder with keys and a model's manifest, enrolled or not."""
    folder = SiteFolder.create(path, SiteConfig(name="City Hospital", number=0, **settings))
    make_keys(folder)
    (path / "model").mkdir()
    (path / "model" / "manifest.json").write_text(MANIFEST.model_dump_json())
    if enrolled_at is not None:
        enroll(folder, enrolled_at)
    return folder


def answer_file(folder: SiteFolder, coordinator: Coordinator, **changes: object) -> Path:
    """The coordinator's answer to the site's newest request, as a file beside the site folder."""
    request = read_document(folder.path / REQUEST_FILE, EnrolmentRequest)
    path = folder.path.parent / "answer.json"
    write_document(path, coordinator.answer(request, **changes))
    return path


def enroll(folder: SiteFolder, coordinator: Coordinator, **changes: object) -> None:
    """Answer the site's request and install the answer."""
    install(folder, check_answer(folder, answer_file(folder, coordinator, **changes)))


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Health(health_pb2_grpc.HealthServicer):
    """Tells health, and the time by a clock that may be wrong."""

    def __init__(self, *, behind_s: float = 0.0, refuse: grpc.StatusCode | None = None, tells_time: bool = True):
        self.behind = timedelta(seconds=behind_s)
        self.refuse = refuse
        self.tells_time = tells_time

    def Check(self, request, context):
        if self.tells_time:
            date = format_datetime(datetime.now(UTC) - self.behind, usegmt=True)
            context.send_initial_metadata((("date", date),))
        if self.refuse is not None:
            context.abort(self.refuse, "")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def health_server(
    authority: KeyPair,
    health: Health | None = None,
    *,
    names: tuple[str, ...] = ("localhost",),
    days: int = 90,
    clients: KeyPair | None = None,
) -> Iterator[int]:
    """A health server that demands a client certificate; gives its port."""
    pair = issue_server(authority, names, days=days)
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate)], (clients or authority).certificate, require_client_auth=True
    )
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health or Health(), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
