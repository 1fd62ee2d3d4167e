"""One OpenAI-compatible endpoint: its connection, its health, and what it is asked.

Notes go to this address and nowhere else: it is on this machine or one that the site's own configuration names, no
proxy of the environment is used and no redirect is followed. Nothing that was sent or received is part of a message.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Mapping

import httpx2

from protocols.errors import UsageError
from site_client.engines.answers import (
    API_KEY_VARIABLE,
    Failure,
    Models,
    Raw,
    completion,
    read,
    request_body,
    retry_after_s,
)
from site_client.engines.concurrency import ConcurrencyLimit
from site_client.engines.engine import Completion, EngineError, Request

_MAX_ANSWER_BYTES = 16 * 2**20
_MAX_FAILURES = 3  # one after the other; then the endpoint is taken out
_ASK_TIMEOUT_S = 10.0  # for a list of models; a server that cannot say its name within this is not there
_KEEPALIVE_S = 2.0  # below the 5 s after which uvicorn (vLLM) hangs up, or requests would meet closed connections


class Endpoint:
    """A server, its health and its limit.

    Args:
        url: from ``check_address``.
        served_model: name under which it serves the model.
        template: further arguments of the model's chat template.
        api_key: sent as a bearer token; printable ASCII.
        timeout_s: for a whole completion.
        max_concurrency: bound on the requests in flight.

    Attributes:
        label: host and port, for messages.
        limit: requests in flight, and how many there may be.
        out_since: time when it was taken out; None while it is in.
        last_failure: why, for messages.
        paused_until: time until which it asked to be left alone.
        outages: times that it was taken out since it last completed a request.
    """

    def __init__(
        self,
        url: httpx2.URL,
        *,
        served_model: str,
        template: Mapping[str, bool],
        api_key: str | None,
        timeout_s: float,
        max_concurrency: int,
    ) -> None:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        self.label = f"[{url.host}]:{port}" if ":" in url.host else f"{url.host}:{port}"
        self.limit = ConcurrencyLimit(maximum=max_concurrency)
        self.out_since: float | None = None
        self.last_failure: Failure | None = None
        self.paused_until = 0.0
        self.outages = 0
        self._failures = 0  # one after the other
        self._in_since = 0.0
        self._base = str(url)
        self._served_model = served_model
        self._template = template
        self._timeout_s = timeout_s
        for name in ("httpx2", "httpcore2"):  # a line per request would bury the log; at DEBUG, headers too
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity"} | ({"authorization": f"Bearer {api_key}"} if api_key else {}),
            # Without TLS no certificate is checked, and reading those of the system takes 60 ms.
            verify=True if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=min(timeout_s, _ASK_TIMEOUT_S)),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.label})"

    async def ask_models(self) -> Failure | None:
        """Ask whether the endpoint is there and serves the model.

        Raises:
            UsageError: it serves other models.
            EngineError: it will never answer this.
        """
        raw = await self._ask("GET", "/models", min(self._timeout_s, _ASK_TIMEOUT_S))
        answer = read(Models, raw) if isinstance(raw, Raw) else raw
        if isinstance(answer, Failure):
            if answer.permanent:
                raise self.permanent_error(answer)
            return answer
        names = [m.id for m in answer.data or ()]
        if not {self._served_model, f"{self._served_model}:latest"} & set(names):  # the second is Ollama's default tag
            shown = ", ".join("".join(c for c in name if c.isprintable())[:100] for name in names[:20])
            raise UsageError(
                f"{self.label} does not serve {self._served_model}. It serves: {shown or 'no model'}.",
                hint="give one of these names, or serve the model there",
            )
        return None

    async def complete(self, request: Request) -> Completion | Failure:
        """Try once to have a request answered; a request that is too long for the model is answered, too."""
        raw = await self._ask(
            "POST", "/chat/completions", self._timeout_s, request_body(request, self._served_model, self._template)
        )
        return completion(raw, request) if isinstance(raw, Raw) else raw

    def answered(self) -> None:
        """Note that the endpoint did what it was asked to."""
        self._failures = self.outages = 0

    def failed(self, failure: Failure, began: float) -> bool:
        """Note a failed attempt.

        Args:
            failure: why.
            began: when; attempts from before the endpoint was let back in say nothing about it now.

        Returns:
            Whether the endpoint has just been taken out.
        """
        self.paused_until = max(self.paused_until, time.monotonic() + failure.retry_after_s)
        if failure.busy or self.out_since is not None or began < self._in_since:
            return False
        self.last_failure = failure
        self._failures += 1
        # After an outage one failure is enough until a request has gone through.
        return self._failures >= (_MAX_FAILURES if self.outages == 0 else 1)

    def take_out(self) -> None:
        """Send nothing until ``let_in``."""
        self.out_since = time.monotonic()
        self.outages += 1

    def let_in(self) -> None:
        """Trust the endpoint again, from a small limit on."""
        self.out_since, self._failures, self._in_since = None, 0, time.monotonic()
        self.limit.restart()

    def permanent_error(self, failure: Failure) -> EngineError:
        """Say what to check after a failure that will not pass."""
        match failure.status:
            case 401 | 403:
                what, hint = "refuses access", f"set {API_KEY_VARIABLE} to the key that the server expects"
            case 404 | 405:
                what = f"does not know the address or the model {self._served_model}"
                hint = "check that the address ends where the API begins, usually /v1, and that the model is served"
            case status if status is not None and status < 400:
                what = "redirects, which is not followed: a redirect could carry notes elsewhere"
                hint = "give the address that it redirects to, if that is inside the hospital"
            case _:
                what = "does not accept the request"
                hint = "its log says why; it may not know top_k, min_p or repetition_penalty: leave them off"
        return EngineError(f"{self.label} {what} (HTTP {failure.status}). Results so far are kept.", hint=hint)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> Raw | Failure:
        headers = {"content-type": "application/json"} if body is not None else {}
        received = bytearray()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream(method, self._base + path, content=body, headers=headers) as response,
            ):
                async for part in response.aiter_bytes():
                    received += part
                    if len(received) > _MAX_ANSWER_BYTES:
                        return Failure("answer larger than 16 MiB", response.status_code)
        except (TimeoutError, httpx2.TimeoutException):
            return Failure("timeout")
        except (httpx2.HTTPError, OSError) as error:
            return Failure(_network_kind(error))
        html = "html" in response.headers.get("content-type", "") or received[:200].lstrip().startswith(b"<")
        wait = retry_after_s(response.headers.get("retry-after", ""))
        return Raw(response.status_code, bytes(received), html, wait)


def _network_kind(error: BaseException) -> str:
    """Name what happened by what lies at the bottom of a chain of exceptions."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ConnectionRefusedError():
                return "refused"
            case ssl.SSLError():
                return "certificate or TLS not accepted"
            case socket.gaierror():
                return "unknown host name"
        cause = cause.__cause__ or cause.__context__
    return "unreachable" if isinstance(error, httpx2.ConnectError) else "cut off"
