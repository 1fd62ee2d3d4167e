"""One OpenAI-compatible endpoint: which addresses are accepted, what it is asked, what its answers mean.

Notes go to this address and nowhere else: it is on this machine or one that the site's own configuration names, no
proxy of the environment is used and no redirect is followed. Nothing that was sent or received is part of a message.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
import ssl
import time
from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, TypeVar

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocols.errors import UsageError
from site_client.engines.concurrency import ConcurrencyLimit
from site_client.engines.engine import Completion, EngineError, FinishReason, Request

API_KEY_VARIABLE: Final = "FEDNOTES_OPENAI_API_KEY"
_MAX_ANSWER_BYTES = 16 * 2**20
_MAX_FAILURES = 3  # one after the other; then the endpoint is taken out
_MAX_PAUSE_S = 60.0  # of a Retry-After
_ASK_TIMEOUT_S = 10.0  # for a list of models; a server that cannot say its name within this is not there
_KEEPALIVE_S = 2.0  # below the 5 s after which uvicorn (vLLM) hangs up, or requests would meet closed connections
_TOKENS_PER_WORD = 1.4  # English clinical text under the vocabularies of current models
_TOO_LONG_STATUS = {200, 400, 413, 422, 500}  # llama.cpp has answered 200 and 500 too
_TOO_LONG_WORDS = (
    "context_length_exceeded",  # OpenAI, newer vLLM
    "exceed_context_size",  # llama.cpp
    "maximum context length",  # vLLM
    "context size",  # llama.cpp before it had an error type
    "context window",  # llama-cpp-python
    "longer than the maximum model length",  # vLLM, engine
    "max_tokens must be at least 1, got -",  # vLLM: the prompt alone is longer than the context
)
# None: some servers never say. "tool_calls": the model called a tool instead of writing; the text tells (it is empty).
_ENDED = {"stop", "eos_token", "stop_sequence", "tool_calls", "function_call", None}
_ABORTED = {"abort", "error"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt brought no completion; free of anything sent or received.

    Attributes:
        kind: "refused", "timeout", "cut off", "not JSON", "HTML instead of JSON", "wrong shape", "HTTP 500" and so on.
        status: of HTTP, when there was one.
        retry_after_s: how long the endpoint asks to be left alone, at most a minute.
    """

    kind: str
    status: int | None = None
    retry_after_s: float = 0.0

    @property
    def busy(self) -> bool:
        """The endpoint works but has too much to do."""
        return self.status == 429

    @property
    def overload(self) -> bool:
        """Fewer requests at a time could have helped."""
        return self.status in (408, 429) or self.kind == "timeout"

    @property
    def permanent(self) -> bool:
        """Asking again cannot help."""
        return self.status is not None and 300 <= self.status < 500 and not self.overload

    def __str__(self) -> str:
        known = self.status is None or self.kind == f"HTTP {self.status}"
        return self.kind if known else f"{self.kind} (HTTP {self.status})"


class _Lenient(BaseModel):
    """Servers add fields of their own; those that are read must have the right type."""

    model_config = ConfigDict(hide_input_in_errors=True, strict=True)


class _Message(_Lenient):
    content: str | None = None


class _Choice(_Lenient):
    message: _Message
    finish_reason: str | None = None


class _Usage(_Lenient):
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]


class _Answer(_Lenient):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


class _Model(_Lenient):
    id: str


class _Models(_Lenient):
    data: list[_Model] | None  # Ollama without a model answers null


_Shape = TypeVar("_Shape", bound=_Lenient)


@dataclass(frozen=True, slots=True, repr=False)
class _Raw:
    status: int
    body: bytes
    html: bool
    retry_after_s: float


class Endpoint:
    """A server, its health and its limit.

    Args:
        url: from ``check_address``.
        served_model: name under which it serves the model.
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
        self, url: httpx2.URL, *, served_model: str, api_key: str | None, timeout_s: float, max_concurrency: int
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
        answer = _read(_Models, raw) if isinstance(raw, _Raw) else raw
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
        raw = await self._ask("POST", "/chat/completions", self._timeout_s, _body(request, self._served_model))
        return _completion(raw, request) if isinstance(raw, _Raw) else raw

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

    async def _ask(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> _Raw | Failure:
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
        wait = _retry_after_s(response.headers.get("retry-after", ""))
        return _Raw(response.status_code, bytes(received), html, wait)


def _body(request: Request, served_model: str) -> bytes:
    sampling = request.sampling
    fields: dict[str, Any] = {
        "model": served_model,
        "messages": [{"role": "user", "content": _valid(request.prompt)}],
        "max_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed % 2**31,  # llama.cpp and Ollama hold it in 32 bits
        "stream": False,
    }
    # Not of OpenAI but of vLLM and llama.cpp; a strict server would refuse even the value that turns them off.
    extensions = {"top_k": (sampling.top_k, 0), "min_p": (sampling.min_p, 0)}
    extensions["repetition_penalty"] = (sampling.repetition_penalty, 1)
    fields |= {name: value for name, (value, off) in extensions.items() if value != off}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def _valid(text: str) -> str:
    """Replace lone surrogates, which an export may hold but UTF-8 cannot; servers refuse them."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _completion(raw: _Raw, request: Request) -> Completion | Failure:
    answer = _read(_Answer, raw)
    if isinstance(answer, Failure):
        if raw.status in _TOO_LONG_STATUS and _says_too_long(raw.body):
            return Completion(text="", finish_reason="prompt_too_long", prompt_tokens=0, output_tokens=0)
        return answer
    choice = answer.choices[0]
    if choice.finish_reason in _ABORTED:
        return Failure("cut off", raw.status)
    # Unknown reasons, "content_filter" among them, count as cut: a text that may lack its end must not pass as whole.
    reason: FinishReason = "stop" if choice.finish_reason in _ENDED else "length"
    text = choice.message.content or ""
    usage = answer.usage or _Usage(prompt_tokens=_estimate(request.prompt), completion_tokens=_estimate(text))
    return Completion(
        text=text,
        finish_reason=reason,
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
    )


def _estimate(text: str) -> int:
    return round(len(text.split()) * _TOKENS_PER_WORD)


def _read(shape: type[_Shape], raw: _Raw) -> _Shape | Failure:
    """Read an answer; what pydantic says about it stays here, since it may quote the answer."""
    if not 200 <= raw.status < 300:
        return Failure(f"HTTP {raw.status}", raw.status, raw.retry_after_s)
    if raw.html:
        return Failure("HTML instead of JSON", raw.status)
    try:
        # A server that stops in the middle of a character sends half of it; that must not fail time after time.
        return shape.model_validate_json(raw.body.decode("utf-8", "replace"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] != "json_invalid":
        return Failure("wrong shape", raw.status)
    cut = bool(raw.body.strip()) and "EOF" in first["msg"]
    return Failure("cut off" if cut else "not JSON", raw.status)


def _says_too_long(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(error, dict):
        error = " ".join(str(error.get(name)) for name in ("code", "type", "message", "detail"))
    return isinstance(error, str) and any(words in error.lower() for words in _TOO_LONG_WORDS)


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


def _retry_after_s(value: str) -> float:
    """Read ``Retry-After``: seconds or a date."""
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _MAX_PAUSE_S)


def check_address(address: str, allowed_hosts: Collection[str]) -> httpx2.URL:
    """Accept an address only if notes may go there.

    Args:
        address: base of the API, such as ``http://127.0.0.1:8000/v1``.
        allowed_hosts: hosts, or addresses with such a host, that the site's configuration names.

    Raises:
        UsageError: the address is malformed, holds a password, or its host is neither this machine nor allowed.
    """
    try:
        url = httpx2.URL(address.strip().rstrip("/"))
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if "@" in address:
        raise UsageError(
            "The address of an endpoint holds a user name or a password.", hint=f"put the key into {API_KEY_VARIABLE}"
        )
    if url.scheme not in ("http", "https") or not url.host or "?" in address or "#" in address:
        shown = address.split("?")[0].split("#")[0]
        raise UsageError(f"{shown!r} is no address of an endpoint.", hint="one looks like http://127.0.0.1:8000/v1")
    host = _normal(url.host)
    if not _is_loopback(host) and host not in {_host_of(entry) for entry in allowed_hosts}:
        raise UsageError(
            f"Notes may not be sent to {host}: it is not this machine, and the site's configuration does not name it.",
            hint="if it is inside the hospital, add it to rephrasing.endpoints under [rephrasing] in site.toml",
        )
    return url


def _normal(host: str) -> str:
    try:
        return ipaddress.ip_address(host.strip("[]")).compressed
    except ValueError:
        return host.lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(entry: str) -> str:
    """Host of an entry of the configuration, which may be a whole address."""
    try:
        return _normal(httpx2.URL(entry if "://" in entry else f"http://{entry}").host)
    except httpx2.InvalidURL:
        return _normal(entry)
