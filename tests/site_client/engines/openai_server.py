"""A small OpenAI-compatible server on a real socket, with faults that can be switched on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """An answer that is not a completion, or a completion that comes late or damaged.

    Attributes:
        body: sent instead of the completion; None sends the completion.
        cut: hang up after this many bytes of the body, though more were announced; -1: even before the status line.
        drop: leave this field out of the completion.
        change: fields of the completion to overwrite.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: int | None = None
    drop: str | None = None
    change: dict[str, Any] = field(default_factory=dict)


def _error(status: int, **error: Any) -> Fault:
    return Fault(status, json.dumps({"error": error}).encode())


SLOW = Fault(delay_s=30.0)
HTML = Fault(200, b"<!DOCTYPE html><html><body>Sign in</body></html>", {"content-type": "text/html"})
CUT_BODY = Fault(cut=20)
HANG_UP = Fault(cut=-1)
CUT_JSON = Fault(200, b'{"choices": [{"message": {"content": "The pat')
NOT_JSON = Fault(200, b"upstream error")
WRONG_SHAPE = Fault(200, b'{"choices": [{"text": "an older API"}]}')
NO_CHOICE = Fault(200, b'{"choices": []}')
CRASH = Fault(500, b"Internal Server Error")
BUSY = Fault(429, b"{}")
FORBIDDEN = _error(401, message="Invalid API key")
UNKNOWN = _error(404, message="The model does not exist.", type="NotFoundError", code=404)
UNPROCESSABLE = Fault(422, b'{"detail": [{"loc": ["body", "top_k"], "msg": "extra fields not permitted"}]}')
TOO_LONG_VLLM = _error(
    400,
    message="This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
    type="BadRequestError",
    code=400,
)
TOO_LONG_LLAMA = _error(
    400,
    message="the request exceeds the available context size. try increasing the context size",
    type="exceed_context_size_error",
    code=400,
    n_prompt_tokens=9000,
    n_ctx=8192,
)


def reply_to(prompt: str) -> str:
    """What the server writes; different for different prompts."""
    return f"reply {hashlib.sha256(prompt.encode()).hexdigest()}"


class OpenAIServer:
    """Serves ``/v1/models`` and ``/v1/chat/completions``.

    Args:
        models: names that it serves.
        delay_s: time that a completion takes.
        slots: completions that it works on at a time; the others wait.
        tls: makes it an https server.

    Attributes:
        fault: befalls every completion.
        next_faults: befall the next completions, one each.
        models_fault: befalls the list of models.
        prompts: of all completions that were asked for, in order of arrival.
        requests: (method, path, headers, body) of everything that arrived.
        most: the most completions that were open at once.
    """

    def __init__(
        self,
        models: Sequence[str] = ("tiny",),
        *,
        delay_s: float = 0.0,
        slots: int = 10_000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.models = models
        self.delay_s = delay_s
        self.slots = slots
        self.tls = tls
        self.fault: Fault | None = None
        self.next_faults: deque[Fault] = deque()
        self.models_fault: Fault | None = None
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.prompts: list[str] = []
        self.open = self.most = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> OpenAIServer:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def listen(self) -> None:
        """Start, or come back on the same port."""
        self._semaphore = asyncio.Semaphore(self.slots)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Refuse connections, and break those that are open."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:]) if k}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((method, path, headers, body))
                fault, answer = await self._answer(path, body)
                if not await self._send(writer, fault, answer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: str, body: bytes) -> tuple[Fault, bytes]:
        if path.endswith("/models"):
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
            return self.models_fault or Fault(), json.dumps(listed).encode()
        if not path.endswith("/chat/completions"):
            return UNKNOWN, b""
        asked = json.loads(body)
        prompt = asked["messages"][0]["content"]
        self.prompts.append(prompt)
        fault = self.next_faults.popleft() if self.next_faults else self.fault or Fault()
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if fault.body is None:
                async with self._semaphore:
                    await asyncio.sleep(self.delay_s + fault.delay_s)
        finally:
            self.open -= 1
        answer: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": reply_to(prompt), "tool_calls": []},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18},
        }
        answer["choices"][0] |= fault.change
        answer.pop(fault.drop or "", None)
        return fault, json.dumps(answer).encode()

    async def _send(self, writer: asyncio.StreamWriter, fault: Fault, answer: bytes) -> bool:
        """Returns whether the connection stays open."""
        body = answer if fault.body is None else fault.body
        headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
        head = f"HTTP/1.1 {fault.status} Reason\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        whole = head.encode() + body
        if fault.cut is not None:
            whole = whole[: len(head) + fault.cut] if fault.cut >= 0 else b""
        writer.write(whole)
        await writer.drain()
        return fault.cut is None


@contextlib.contextmanager
def in_thread(server: OpenAIServer) -> Iterator[OpenAIServer]:
    """Serve from a thread with a loop of its own, for clients that block or are other processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.listen(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.die(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
