"""An engine that others run: one or several OpenAI-compatible endpoints (vLLM, llama.cpp, Ollama) inside the hospital.

A request waits its turn, goes to the endpoint with the most room, and is tried again elsewhere or later when that
fails. An endpoint that fails several times in a row is taken out, asked again after growing pauses, and let back in.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from protocols.errors import FednotesError, UsageError
from site_client.engines.address import check_address
from site_client.engines.answers import API_KEY_VARIABLE, Failure
from site_client.engines.endpoint import Endpoint
from site_client.engines.engine import Completion, EngineError, Request

_MAX_BACKOFF_S = 30.0
_MAX_PROBE_S = 60.0
_KEPT = "Results so far are kept."
_Slot = tuple[Endpoint, float]  # where a request may run now, and since when


class OpenAIEngine:
    """Sends requests to endpoints and keeps each as busy as measuring shows to be worthwhile.

    Args:
        endpoints: bases of the API, such as ``http://127.0.0.1:8000/v1``.
        served_model: name under which they serve the model.
        model: short name of the model, for arms and files.
        revision: what pins the model.
        template: further arguments of the model's chat template, for servers that take them (vLLM).
        api_key: sent to every endpoint; None sends none. It appears in no message.
        allowed_hosts: hosts beside this machine to which notes may be sent, from the site's configuration.
        timeout_s: for one attempt at one request.
        max_concurrency: bound on the requests in flight at one endpoint.
        patience_s: how long all endpoints may be out, or too busy for a request, before the engine gives up.
        max_attempts: failed attempts after which a request gives up; answers "too busy" do not count.
        backoff_s: longest pause after the first failed attempt; doubles with each.
        probe_s: pause before an endpoint that is out is asked again; doubles while it stays away.
        notice: told in a line when an endpoint is taken out or let back in.

    Attributes:
        window: enough for every endpoint at its bound and as many again as one of them holds.

    Raises:
        UsageError: no endpoint, one that is not allowed, or a key that no header can hold.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        served_model: str,
        *,
        model: str,
        revision: str,
        template: Mapping[str, bool] | None = None,
        api_key: str | None,
        allowed_hosts: Collection[str] = (),
        timeout_s: float = 300.0,
        max_concurrency: int = 256,
        patience_s: float = 600.0,
        max_attempts: int = 8,
        backoff_s: float = 1.0,
        probe_s: float = 1.0,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        if not endpoints:
            raise UsageError("No endpoint is given.", hint="one looks like http://127.0.0.1:8000/v1")
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise UsageError(f"{API_KEY_VARIABLE} holds characters that no HTTP header may hold.")
        urls = dict.fromkeys(check_address(address, allowed_hosts) for address in endpoints)
        self._endpoints = [
            Endpoint(
                url,
                served_model=served_model,
                template=template or {},
                api_key=api_key,
                timeout_s=timeout_s,
                max_concurrency=max_concurrency,
            )
            for url in urls
        ]
        self.context: int | None = None
        self.model = model
        self.revision = revision
        self.window = max_concurrency * (len(self._endpoints) + 1)
        self._patience_s = patience_s
        self._max_attempts = max_attempts
        self._backoff_s = backoff_s
        self._probe_s = probe_s
        self._notice = notice or (lambda _: None)
        self._queue: deque[asyncio.Future[_Slot]] = deque()
        self._probes: set[asyncio.Task[None]] = set()
        self._impatience: asyncio.TimerHandle | None = None
        self._gave_up = False
        self._completed = 0

    def __repr__(self) -> str:
        return f"OpenAIEngine({', '.join(e.label for e in self._endpoints)})"

    async def start(self) -> None:
        """Ask every endpoint which models it serves; those that cannot be reached may come later.

        Raises:
            UsageError: an endpoint serves other models.
            EngineError: an endpoint refuses access or does not know the address, or none can be reached.
        """
        asked = await asyncio.gather(*(e.ask_models() for e in self._endpoints), return_exceptions=True)
        for answer in asked:
            if isinstance(answer, BaseException):
                raise answer
        failed = [(e, f) for e, f in zip(self._endpoints, asked, strict=True) if isinstance(f, Failure)]
        for endpoint, failure in failed:
            endpoint.last_failure = failure
        if len(failed) == len(self._endpoints):
            raise EngineError(
                f"No endpoint answers: {self._reasons()}.",
                hint="check that a server runs there and that the address ends where its API begins, usually /v1",
            )
        for endpoint, _ in failed:
            self._take_out(endpoint)

    async def write(self, request: Request) -> Completion:
        """Have one reply written, by whichever endpoint succeeds first; attempts never overlap.

        Raises:
            EngineError: an endpoint refuses for good, this request has failed too often, or all have been out or too
                busy for too long.
        """
        failed = busy = 0
        busy_since = 0.0
        completed_before = self._completed
        while True:
            endpoint, began = await self._slot()
            outcome = await self._attempt(endpoint, began, request)
            if isinstance(outcome, Completion):
                return outcome
            if outcome.busy:
                busy += 1
                busy_since = busy_since or time.monotonic()
            else:
                failed += 1
            if failed >= self._max_attempts:
                if self._completed > completed_before:
                    # Something about this very text upsets the server: one chunk must not stop a run of days.
                    self._notice(f"A request failed {failed} times while others succeeded; it is left out.")
                    return Completion(text="", finish_reason="failed", prompt_tokens=0, output_tokens=0)
                raise EngineError(
                    f"A request failed {failed} times and no other got through; last: {endpoint.label} {outcome}. "
                    + _KEPT,
                    hint="the server's log says why; run again to go on",
                )
            if outcome.busy and time.monotonic() - busy_since > self._patience_s:
                raise EngineError(
                    f"{endpoint.label} has been too busy for {self._patience_s:.0f} s ({outcome}). {_KEPT}",
                    hint="run again to go on when others use it less",
                )
            longest = min(self._backoff_s * 2 ** min(failed + busy - 1, 10), _MAX_BACKOFF_S)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads the load, keeps no secret

    async def close(self) -> None:
        """Stop asking, drop the requests that wait, and close the connections."""
        if self._impatience is not None:
            self._impatience.cancel()
        for waiter in self._queue:
            waiter.cancel()
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await asyncio.gather(*(e.close() for e in self._endpoints))

    async def _attempt(self, endpoint: Endpoint, began: float, request: Request) -> Completion | Failure:
        """Try once, and note what that says about the endpoint."""
        try:
            outcome = await endpoint.complete(request)
        except BaseException:  # cancelled: the slot must not stay taken
            endpoint.limit.gone()
            self._hand_out()
            raise
        if isinstance(outcome, Completion):
            endpoint.answered()
            self._completed += 1
            if outcome.finish_reason == "prompt_too_long":
                endpoint.limit.gone()
            else:
                endpoint.limit.done(began, outcome.output_tokens)
        else:
            if outcome.overload:
                endpoint.limit.overloaded(began)
            else:
                endpoint.limit.gone()
            if outcome.permanent:
                self._hand_out()
                raise endpoint.permanent_error(outcome)
            if endpoint.failed(outcome, began):
                self._take_out(endpoint)
            if outcome.retry_after_s > 0:
                asyncio.get_running_loop().call_later(outcome.retry_after_s + 0.001, self._hand_out)
        self._hand_out()
        return outcome

    async def _slot(self) -> _Slot:
        """Wait until an endpoint has room, first come first served."""
        if self._gave_up:
            raise self._all_out()
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        self._hand_out()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result()[0].limit.gone()  # handed out in the moment of the cancellation
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        while self._queue and (endpoint := self._freest()) is not None:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result((endpoint, endpoint.limit.begin()))

    def _freest(self) -> Endpoint | None:
        now = time.monotonic()
        ready = (e for e in self._endpoints if e.out_since is None and e.paused_until <= now and e.limit.load < 1)
        return min(ready, key=lambda e: e.limit.load, default=None)

    def _take_out(self, endpoint: Endpoint) -> None:
        endpoint.take_out()
        self._notice(f"Endpoint {endpoint.label} taken out: {endpoint.last_failure}.")
        probe = asyncio.create_task(self._probe(endpoint))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)
        if self._impatience is None and all(e.out_since is not None for e in self._endpoints):
            self._impatience = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)

    async def _probe(self, endpoint: Endpoint) -> None:
        """Ask until the endpoint is back; pauses grow while it is away, and further while it only seems to be back."""
        pause = self._probe_s * 2 ** min(endpoint.outages - 1, 8)
        failure: Failure | None = endpoint.last_failure
        while failure is not None:
            await asyncio.sleep(min(pause, _MAX_PROBE_S) * random.uniform(0.5, 1))  # noqa: S311 - see above
            pause *= 2
            try:
                failure = await endpoint.ask_models()
            except FednotesError:
                failure = Failure("serves another model or refuses access")
            endpoint.last_failure = failure or endpoint.last_failure
        away_s = time.monotonic() - (endpoint.out_since or 0.0)
        endpoint.let_in()
        self._notice(f"Endpoint {endpoint.label} let back in after {away_s:.0f} s.")
        self._gave_up = False
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None
        self._hand_out()

    def _give_up(self) -> None:
        self._gave_up = True
        for waiter in self._queue:
            if not waiter.done():
                waiter.set_exception(self._all_out())
        self._queue.clear()

    def _all_out(self) -> EngineError:
        return EngineError(
            f"No endpoint has answered for {self._patience_s:.0f} s: {self._reasons()}. {_KEPT}",
            hint="start the server again, then run again to go on",
        )

    def _reasons(self) -> str:
        return "; ".join(f"{e.label} {e.last_failure}" for e in self._endpoints)
