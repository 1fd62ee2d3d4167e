"""Prometheus metrics of the long-running programs, on loopback; no label comes from a note or from a message."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from protocols.errors import UsageError

_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200)


class GatewayMetrics:
    """What a hospital's gateway counts.

    Attributes:
        replies: typed replies that left, by type.
        refusals: error codes that left in a reply's place, by code.
        bytes_sent: size of the messages that left [bytes].
        calls: calls upstream, by Fleet method.
        open_instructions: requests that nobody has answered yet.
        delivery_seconds: from the receipt of a reply until the coordinator had it whole.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.replies = Counter("fednotes_replies", "Typed replies that left.", ["reply"], registry=self.registry)
        self.refusals = Counter("fednotes_refusals", "Codes that left.", ["code"], registry=self.registry)
        self.bytes_sent = Counter("fednotes_sent_bytes", "Size of what left.", registry=self.registry)
        self.calls = Counter("fednotes_calls", "Calls upstream.", ["method"], registry=self.registry)
        self.open_instructions = Gauge("fednotes_open_instructions", "Not answered yet.", registry=self.registry)
        self.delivery_seconds = Histogram(
            "fednotes_delivery_seconds", "From receipt to arrival.", buckets=_SECONDS, registry=self.registry
        )


class ServerMetrics:
    """What a coordinator shows.

    Attributes:
        rounds_done: by study.
        flower_runs: started for a study so far; more than one means that runs ended early.
        sites: enrolled, by state ("connected", "away", "revoked").
        last_round_seconds: by study.
        refused: sites whose reply was not used in the last round, by study and code.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rounds_done = Gauge("fednotes_rounds_done", "Finished rounds.", ["study"], registry=self.registry)
        self.flower_runs = Gauge("fednotes_flower_runs", "Flower runs started.", ["study"], registry=self.registry)
        self.sites = Gauge("fednotes_sites", "Enrolled sites.", ["state"], registry=self.registry)
        self.last_round_seconds = Gauge(
            "fednotes_last_round_seconds", "How long it took.", ["study"], registry=self.registry
        )
        self.refused = Gauge(
            "fednotes_refused_in_last_round", "Replies not used.", ["study", "code"], registry=self.registry
        )


def serve(registry: CollectorRegistry, port: int) -> None:
    """Serve metrics under ``/metrics`` on loopback, in a thread.

    Raises:
        UsageError: the port is taken.
    """
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise UsageError(f"Port {port} of this machine is taken.", hint="set metrics_port to another one") from error
