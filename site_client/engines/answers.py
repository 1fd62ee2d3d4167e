"""What an OpenAI-compatible server is sent, and what its answers mean. Nothing of either is part of a message."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from site_client.chunks import estimate_tokens
from site_client.engines.engine import Completion, FinishReason, Request

API_KEY_VARIABLE: Final = "FEDNOTES_OPENAI_API_KEY"
_MAX_PAUSE_S = 60.0  # of a Retry-After
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


class Models(_Lenient):
    """The models that a server serves."""

    data: list[_Model] | None  # Ollama without a model answers null


_Shape = TypeVar("_Shape", bound=_Lenient)


@dataclass(frozen=True, slots=True, repr=False)
class Raw:
    """An answer as it came."""

    status: int
    body: bytes
    html: bool
    retry_after_s: float


def request_body(request: Request, served_model: str, template: Mapping[str, bool]) -> bytes:
    """What a server is asked, as JSON."""
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
    if template:
        fields["chat_template_kwargs"] = dict(template)
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def _valid(text: str) -> str:
    """Replace lone surrogates, which an export may hold but UTF-8 cannot; servers refuse them."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def completion(raw: Raw, request: Request) -> Completion | Failure:
    """What an answer brings."""
    answer = read(_Answer, raw)
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
    usage = answer.usage or _Usage(
        prompt_tokens=estimate_tokens(request.prompt), completion_tokens=estimate_tokens(text)
    )
    return Completion(
        text=text,
        finish_reason=reason,
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
    )


def read(shape: type[_Shape], raw: Raw) -> _Shape | Failure:
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


def retry_after_s(value: str) -> float:
    """Read ``Retry-After``: seconds or a date."""
    try:
        seconds = float(value) if value.strip().isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _MAX_PAUSE_S)
