"""The openai engine against a real server on a real socket: every fault ends in the right reply or a clear error."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import logging
import socket
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocols.errors import FednotesError, UsageError
from site_client.chunks import estimate_tokens
from site_client.engines.engine import Completion, EngineError, Request, Sampling
from site_client.engines.openai_engine import OpenAIEngine
from tests.site_client.engines.openai_server import (
    BUSY,
    CRASH,
    CUT_BODY,
    CUT_JSON,
    FORBIDDEN,
    HANG_UP,
    HTML,
    NO_CHOICE,
    NOT_JSON,
    SLOW,
    TOO_LONG_LLAMA,
    TOO_LONG_VLLM,
    UNKNOWN,
    UNPROCESSABLE,
    WRONG_SHAPE,
    Fault,
    OpenAIServer,
    in_thread,
    reply_to,
)

pytestmark = pytest.mark.timeout(20)

TRACER = "Zebulon-Quark-4711"
KEY = "sk-tracer-key-0815"
_T = TypeVar("_T")


def ask(number: int = 0, **fields: Any) -> Request:
    prompt = f"Rephrase: {TRACER} was seen, note {number}."
    usual = {"prompt": prompt, "source": "", "prompt_name": "qa", "max_tokens": 64, "sampling": Sampling(), "seed": 5}
    return Request(**{**usual, **fields})


def make(*urls: str, **options: Any) -> OpenAIEngine:
    fast = {"timeout_s": 5.0, "backoff_s": 0.02, "probe_s": 0.05, "patience_s": 1.0, "api_key": None}
    return OpenAIEngine(urls, "tiny", model="tiny", revision="r1", **{**fast, **options})


async def using(engine: OpenAIEngine, work: Callable[[], Awaitable[_T]]) -> _T:
    try:
        await engine.start()
        return await work()
    finally:
        await engine.close()


async def write_all(engine: OpenAIEngine, count: int) -> list[Completion]:
    return await asyncio.gather(*(engine.write(ask(i)) for i in range(count)))


def expect_own_replies(completions: list[Completion]) -> None:
    assert [c.text for c in completions] == [reply_to(ask(i).prompt) for i in range(len(completions))]
    assert {c.finish_reason for c in completions} == {"stop"}


def with_server(work: Callable[[OpenAIServer], Coroutine[Any, Any, _T]], **options: Any) -> _T:
    async def run() -> _T:
        async with OpenAIServer(**options) as server:
            return await work(server)

    return asyncio.run(run())


def failing(server_setup: Callable[[OpenAIServer], None], count: int = 1, **options: Any) -> tuple[FednotesError, int]:
    """Run an engine that must fail; returns the error and the port, after searching everything printable for notes."""

    async def work(server: OpenAIServer) -> tuple[FednotesError, int]:
        server_setup(server)
        engine = make(server.url, **{"api_key": KEY, **options})
        with pytest.raises(FednotesError) as caught:
            await using(engine, lambda: write_all(engine, count))
        return caught.value, server.port

    error, port = with_server(work)
    printed = "".join(traceback.format_exception(error)) + repr(error)
    assert TRACER not in printed
    assert KEY not in printed
    linked: BaseException | None = error
    while linked is not None:  # an exception further down may hold what was sent or received
        assert isinstance(linked, FednotesError)
        linked = linked.__cause__ or linked.__context__
    return error, port


# --- what is sent and read ---


def test_replies_come_back_to_their_requests_from_several_endpoints() -> None:
    async def run() -> None:
        async with OpenAIServer(delay_s=0.005) as one, OpenAIServer(delay_s=0.005) as two:
            engine = make(one.url, two.url + "/")
            expect_own_replies(await using(engine, lambda: write_all(engine, 60)))
            assert sorted(one.prompts + two.prompts) == sorted(ask(i).prompt for i in range(60))
            assert min(len(one.prompts), len(two.prompts)) > 10

    asyncio.run(run())


def test_the_request_holds_what_the_sampling_says_and_extensions_only_when_they_are_on() -> None:
    async def work(server: OpenAIServer) -> list[dict[str, Any]]:
        engine = make(server.url, api_key=KEY)
        on = Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.1, repetition_penalty=1.1)

        async def both() -> None:
            await engine.write(ask(seed=2**40 + 3))
            await engine.write(ask(sampling=on))

        await using(engine, both)
        assert {headers["authorization"] for *_, headers, _ in server.requests} == {f"Bearer {KEY}"}
        return [json.loads(body) for method, *_, body in server.requests if method == "POST"]

    plain, extended = with_server(work)
    assert plain == {
        "model": "tiny",
        "messages": [{"role": "user", "content": ask().prompt}],
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stream": False,
    }
    changed = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 5}
    assert extended == plain | changed


def write_one(fault: Fault | None, request: Request | None = None) -> Completion:
    async def work(server: OpenAIServer) -> Completion:
        server.fault = fault
        engine = make(server.url, max_attempts=2)
        return await using(engine, lambda: engine.write(request or ask()))

    return with_server(work)


def test_usage_is_taken_from_the_server_or_estimated_from_words() -> None:
    told = write_one(None)
    assert (told.prompt_tokens, told.output_tokens) == (7, 11)
    estimated = write_one(Fault(drop="usage"))
    assert estimated.prompt_tokens == estimate_tokens(ask().prompt)
    assert estimated.output_tokens == estimate_tokens(told.text)
    assert estimated.text == told.text


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("stop", "stop"),
        ("eos_token", "stop"),
        (None, "stop"),
        ("tool_calls", "stop"),
        ("length", "length"),
        ("content_filter", "length"),
        ("something new", "length"),
    ],
)
def test_a_reply_that_may_lack_its_end_counts_as_cut(said: str | None, understood: str) -> None:
    assert write_one(Fault(change={"finish_reason": said})).finish_reason == understood


def test_a_reply_without_content_is_empty() -> None:
    assert write_one(Fault(change={"message": {"role": "assistant", "content": None}})).text == ""


def test_a_character_cut_in_two_by_the_server_does_not_fail() -> None:
    whole = '{"choices": [{"message": {"content": "5 \u00b5g"}, "finish_reason": "length"}]}'.encode()
    assert write_one(Fault(body=whole.replace(b"\xc2\xb5g", b"\xc2"))).text == "5 \ufffd"


def test_text_that_utf8_cannot_hold_is_sent_all_the_same() -> None:
    async def work(server: OpenAIServer) -> list[str]:
        engine = make(server.url)
        await using(engine, lambda: engine.write(ask(prompt="a\ud800b \ud83d\ude00")))
        return server.prompts

    assert with_server(work) == ["a\ufffdb \U0001f600"]


@pytest.mark.parametrize("fault", [TOO_LONG_VLLM, TOO_LONG_LLAMA], ids=["vLLM", "llama.cpp"])
def test_a_prompt_longer_than_the_context_is_an_answer_and_others_go_on(fault: Fault) -> None:
    async def work(server: OpenAIServer) -> list[Completion]:
        server.next_faults.append(fault)
        engine = make(server.url)
        return await using(engine, lambda: write_all(engine, 5))

    completions = with_server(work)
    assert sorted(c.finish_reason for c in completions) == ["prompt_too_long", *["stop"] * 4]
    (long,) = [c for c in completions if c.finish_reason == "prompt_too_long"]
    assert (long.text, long.prompt_tokens, long.output_tokens) == ("", 0, 0)


# --- faults that pass ---

PASSING = {
    "slow": SLOW,
    "html": HTML,
    "cut body": CUT_BODY,
    "cut JSON": CUT_JSON,
    "not JSON": NOT_JSON,
    "wrong shape": WRONG_SHAPE,
    "no choice": NO_CHOICE,
    "hang up": HANG_UP,
    "500": CRASH,
    "502 page": Fault(502, b"<html>Bad gateway</html>", {"content-type": "text/html"}),
    "408": Fault(408, b""),
    "busy": BUSY,
    "aborted": Fault(change={"finish_reason": "abort"}),
    "damaged usage": Fault(change={}, body=b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":"7"}}'),
    "endless": Fault(body=b" " * (17 * 2**20)),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_after_a_passing_fault_every_request_has_its_own_reply(fault: Fault) -> None:
    async def work(server: OpenAIServer) -> None:
        server.next_faults.extend([fault] * 2)
        engine = make(server.url, timeout_s=0.25 if fault is SLOW else 5.0)
        expect_own_replies(await using(engine, lambda: write_all(engine, 12)))
        assert len(server.prompts) == 12 + 2

    with_server(work)


def test_under_a_mixture_of_faults_at_two_endpoints_nothing_is_lost_or_doubled() -> None:
    async def run() -> None:
        async with OpenAIServer(delay_s=0.002) as one, OpenAIServer(delay_s=0.002) as two:
            faults = [f for name, f in PASSING.items() if name not in ("slow", "endless")]
            for server in (one, two):
                for fault in faults:
                    server.next_faults.extend([fault, Fault(), Fault(), Fault()])
            engine = make(one.url, two.url)
            completions = await using(engine, lambda: write_all(engine, 300))
            expect_own_replies(completions)
            assert set(one.prompts + two.prompts) == {ask(i).prompt for i in range(300)}
            assert not one.next_faults
            assert not two.next_faults

    asyncio.run(run())


def test_retry_after_is_honoured_and_halves_the_limit() -> None:
    async def work(server: OpenAIServer) -> float:
        server.next_faults.append(Fault(429, b"{}", {"retry-after": "1"}))
        engine = make(server.url, patience_s=5.0)
        began = time.monotonic()
        expect_own_replies(await using(engine, lambda: write_all(engine, 8)))
        return time.monotonic() - began

    assert 1.0 <= with_server(work) < 2.0


# --- faults that do not pass ---


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (SLOW, "timeout"),
        (HTML, "HTML instead of JSON (HTTP 200)"),
        (CUT_BODY, "cut off"),
        (CUT_JSON, "cut off (HTTP 200)"),
        (NOT_JSON, "not JSON (HTTP 200)"),
        (WRONG_SHAPE, "wrong shape (HTTP 200)"),
        (HANG_UP, "cut off"),
        (CRASH, "HTTP 500"),
        (Fault(500, TRACER.encode(), {"x-tracer": TRACER}), "HTTP 500"),
        (Fault(200, json.dumps({"choices": [{"message": {"content": [TRACER]}}]}).encode()), "wrong shape (HTTP 200)"),
        (Fault(200, f'{{"choices": "{TRACER}'.encode()), "cut off (HTTP 200)"),
    ],
)
def test_a_lasting_fault_is_named_without_a_word_of_the_notes(fault: Fault, what: str) -> None:
    error, port = failing(lambda s: setattr(s, "fault", fault), max_attempts=2, timeout_s=0.1)
    assert isinstance(error, EngineError)
    assert str(error) == (
        f"A request failed 2 times and no other got through; last: 127.0.0.1:{port} {what}. Results so far are kept.\n"
        "hint: the server's log says why; run again to go on"
    )


def test_a_request_that_fails_while_others_succeed_is_left_out_and_told() -> None:
    """One text that upsets a server must not stop a run of days."""
    told: list[str] = []

    async def work(server: OpenAIServer) -> Completion:
        engine = make(server.url, max_attempts=3, backoff_s=0.1, notice=told.append)

        async def poisoned() -> Completion:
            server.fault = CRASH
            write = asyncio.create_task(engine.write(ask(1)))
            while len(server.prompts) < 1:
                await asyncio.sleep(0.001)
            server.fault = None
            await engine.write(ask(2))
            server.fault = CRASH
            return await write

        return await using(engine, poisoned)

    left_out = with_server(work)
    assert left_out.finish_reason == "failed" and left_out.text == ""
    assert "A request failed 3 times while others succeeded; it is left out." in told


PERMANENT = [
    (FORBIDDEN, "refuses access (HTTP 401)", "set FEDNOTES_OPENAI_API_KEY to the key that the server expects"),
    (
        UNKNOWN,
        "does not know the address or the model tiny (HTTP 404)",
        "check that the address ends where the API begins, usually /v1, and that the model is served",
    ),
    (
        UNPROCESSABLE,
        "does not accept the request (HTTP 422)",
        "its log says why; it may not know top_k, min_p or repetition_penalty: leave them off",
    ),
    (
        Fault(307, b"", {"location": "http://127.0.0.1:9/v1/chat/completions"}),
        "redirects, which is not followed: a redirect could carry notes elsewhere (HTTP 307)",
        "give the address that it redirects to, if that is inside the hospital",
    ),
]


@pytest.mark.parametrize(("fault", "what", "hint"), PERMANENT)
@pytest.mark.parametrize("place", ["fault", "models_fault"])
def test_a_permanent_refusal_fails_at_once_and_says_what_to_check(
    fault: Fault, what: str, hint: str, place: str
) -> None:
    error, port = failing(lambda s: setattr(s, place, fault))
    assert str(error) == f"127.0.0.1:{port} {what}. Results so far are kept.\nhint: {hint}"


def test_too_busy_for_too_long_is_an_error_of_its_own() -> None:
    notices: list[str] = []
    error, port = failing(
        lambda s: setattr(s, "fault", BUSY), patience_s=0.4, max_attempts=2, backoff_s=0.001, notice=notices.append
    )
    assert notices == [], "an endpoint that is busy is not broken"
    assert str(error) == (
        f"127.0.0.1:{port} has been too busy for 0 s (HTTP 429). Results so far are kept.\n"
        "hint: run again to go on when others use it less"
    )


# --- endpoints that come and go ---


def test_an_endpoint_that_dies_is_taken_out_and_let_back_in() -> None:
    async def run() -> list[str]:
        notices: list[str] = []
        async with OpenAIServer(delay_s=0.02) as one, OpenAIServer(delay_s=0.02) as two:
            engine = make(one.url, two.url, max_concurrency=8, notice=notices.append)

            async def work() -> list[Completion]:
                writing = asyncio.create_task(write_all(engine, 300))
                while len(one.prompts) < 30:
                    await asyncio.sleep(0.005)
                await one.die()
                before = len(two.prompts)
                while len(two.prompts) < before + 40 or not notices:
                    await asyncio.sleep(0.005)
                asked = len(one.prompts)
                await one.listen()
                while len(notices) < 2:
                    await asyncio.sleep(0.005)
                completions = await writing
                assert len(one.prompts) > asked
                return completions

            expect_own_replies(await using(engine, work))
            return [n.replace(str(one.port), "ONE") for n in notices]

    notices = asyncio.run(run())
    reasons = ("refused", "cut off", "unreachable")  # depends on where the dying server catches the third request
    assert notices[0] in [f"Endpoint 127.0.0.1:ONE taken out: {reason}." for reason in reasons]
    assert notices[1] == "Endpoint 127.0.0.1:ONE let back in after 0 s."
    assert TRACER not in "".join(notices)


def test_when_the_only_endpoint_dies_requests_wait_until_it_is_back() -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url, patience_s=5.0)

        async def run() -> list[Completion]:
            first = await write_all(engine, 5)
            engine._endpoints[0].limit.limit = 100
            await server.die()
            writing = asyncio.create_task(write_all(engine, 20))
            await asyncio.sleep(0.3)
            assert not writing.done()
            await server.listen()
            expect_own_replies(first)
            second = await writing
            assert server.most <= 16, "it begins small again"
            return second

        expect_own_replies(await using(engine, run))

    with_server(work)


def test_patience_ends_when_no_endpoint_comes_back() -> None:
    async def work(server: OpenAIServer) -> tuple[list[str], int]:
        engine = make(server.url, patience_s=0.3, max_attempts=50)

        async def run() -> list[str]:
            await server.die()
            writes = [engine.write(ask(i)) for i in range(10)]
            failed = await asyncio.gather(*writes, return_exceptions=True)
            began = time.monotonic()
            failed += await asyncio.gather(engine.write(ask()), return_exceptions=True)
            assert time.monotonic() - began < 0.1, "later requests need not wait again"
            assert {type(f) for f in failed} == {EngineError}
            await server.listen()
            while engine._gave_up:
                await asyncio.sleep(0.01)
            expect_own_replies(await write_all(engine, 3))
            return [str(f) for f in failed]

        return await using(engine, run), server.port

    messages, port = with_server(work)
    assert set(messages) == {
        f"No endpoint has answered for 0 s: 127.0.0.1:{port} refused. Results so far are kept.\n"
        "hint: start the server again, then run again to go on"
    }


def test_an_endpoint_that_only_seems_to_be_back_is_taken_out_after_one_more_failure() -> None:
    async def work(server: OpenAIServer) -> tuple[list[str], int]:
        notices: list[str] = []
        engine = make(server.url, notice=notices.append, max_attempts=5)
        server.fault = CRASH
        with pytest.raises(EngineError, match="failed 5 times"):
            await using(engine, lambda: engine.write(ask()))
        return notices, server.port

    notices, port = with_server(work)
    out, back = f"Endpoint 127.0.0.1:{port} taken out: HTTP 500.", f"Endpoint 127.0.0.1:{port} let back in after 0 s."
    assert notices == [out, back, out, back, out]  # after 3, 4 and 5 failures


# --- start ---


def test_start_lists_what_an_endpoint_serves_instead() -> None:
    error, port = failing(lambda s: setattr(s, "models", ["llama-8b", "other\x1b[31m"]))
    assert isinstance(error, UsageError)
    assert str(error) == (
        f"127.0.0.1:{port} does not serve tiny. It serves: llama-8b, other[31m.\n"
        "hint: give one of these names, or serve the model there"
    )


def test_start_takes_the_default_tag_of_ollama_for_the_name() -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url)
        expect_own_replies(await using(engine, lambda: write_all(engine, 2)))

    with_server(work, models=["tiny:latest"])


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_start_fails_with_a_reason_per_endpoint_when_none_answers() -> None:
    async def work(server: OpenAIServer) -> tuple[str, int, int]:
        server.models_fault = Fault(200, b"<html>", {"content-type": "text/html"})
        closed = closed_port()
        with pytest.raises(EngineError) as caught:
            await make(f"http://127.0.0.1:{closed}/v1", server.url).start()
        return str(caught.value), closed, server.port

    message, closed, port = with_server(work)
    assert message == (
        f"No endpoint answers: 127.0.0.1:{closed} refused; 127.0.0.1:{port} HTML instead of JSON (HTTP 200).\n"
        "hint: check that a server runs there and that the address ends where its API begins, usually /v1"
    )


def test_start_goes_on_with_one_endpoint_and_lets_the_other_in_later() -> None:
    async def work(server: OpenAIServer) -> None:
        notices: list[str] = []
        late = OpenAIServer()
        late.port = closed_port()
        engine = make(server.url, late.url, notice=notices.append)

        async def run() -> None:
            expect_own_replies(await write_all(engine, 5))
            await late.listen()
            while len(notices) < 2:
                await asyncio.sleep(0.01)
            expect_own_replies(await write_all(engine, 30))
            assert late.prompts

        await using(engine, run)
        await late.die()
        assert notices[0] == f"Endpoint 127.0.0.1:{late.port} taken out: refused."

    with_server(work, delay_s=0.005)


# --- notes stay inside ---


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://api.openai.com/v1", "api.openai.com"),
        ("http://10.1.2.3:8000/v1", "10.1.2.3"),
        ("http://localhost.example.org/v1", "localhost.example.org"),
        ("http://127.0.0.1.example.org/v1", "127.0.0.1.example.org"),
        ("http://0.0.0.0:8000/v1", "0.0.0.0"),
        ("http://127.1/v1", "127.1"),
        ("http://2130706433/v1", "2130706433"),
        ("http://[fd00::5]:8000/v1", "fd00::5"),
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(address: str, host: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(address, allowed_hosts=["llm.hospital.example"])
    assert str(caught.value) == (
        f"Notes may not be sent to {host}: it is not this machine, and the site's configuration does not name it.\n"
        "hint: if it is inside the hospital, add it to rephrasing.endpoints under [rephrasing] in site.toml"
    )


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v1",
        "http://127.8.0.1/v1",
        "http://LOCALHOST:1/v1/",
        "https://[::1]:8000/v1",
        "http://LLM.hospital.example:8000/v1",
        "https://10.1.2.3/v1",
        "http://[fd00:0::5]:8000/v1",
    ],
)
def test_this_machine_and_hosts_of_the_configuration_are_accepted(address: str) -> None:
    make(address, allowed_hosts=["llm.hospital.example", "https://10.1.2.3:8443/v1", "fd00::5"])


@pytest.mark.parametrize(
    "address", ["http://user:secret@127.0.0.1/v1", "http://@127.0.0.1/v1", "http://127.0.0.1\\@example.org/v1"]
)
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(address)
    assert str(caught.value) == (
        "The address of an endpoint holds a user name or a password.\nhint: put the key into FEDNOTES_OPENAI_API_KEY"
    )


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8000", "ftp://127.0.0.1/v1", "http:///v1", "file:///etc/passwd", "http://127.0.0.1:x/"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(address)
    assert str(caught.value) == (
        f"{address!r} is no address of an endpoint.\nhint: one looks like http://127.0.0.1:8000/v1"
    )


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        make("http://127.0.0.1/v1?key=secret")
    assert "secret" not in str(caught.value)


def test_no_endpoint_and_a_key_that_no_header_can_hold_are_refused() -> None:
    with pytest.raises(UsageError, match="No endpoint is given"):
        make()
    with pytest.raises(UsageError, match="holds characters") as caught:
        make("http://127.0.0.1/v1", api_key=f"{KEY}\n")
    assert KEY not in str(caught.value)


def test_a_proxy_of_the_environment_receives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with in_thread(OpenAIServer()) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert write_one(None).text == reply_to(ask().prompt)
        assert proxy.requests == []


def test_a_certificate_that_the_system_does_not_trust_ends_the_connection(tmp_path: Path) -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url, api_key=KEY)
        with pytest.raises(EngineError) as caught:
            await using(engine, lambda: engine.write(ask()))
        reason = f"127.0.0.1:{server.port} certificate or TLS not accepted"
        assert caught.value.message == f"No endpoint answers: {reason}."
        assert server.requests == []

    with_server(work, tls=self_signed(tmp_path))


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with in_thread(OpenAIServer()) as elsewhere:
        there = {"location": f"{elsewhere.url}/chat/completions"}
        failing(lambda s: setattr(s, "fault", Fault(status, b"", there)))
        assert elsewhere.requests == []


def test_no_log_or_repr_holds_a_note_a_reply_or_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpx2").setLevel(logging.DEBUG)
        completion = write_one(None)
        failing(lambda s: setattr(s, "fault", CRASH), max_attempts=2)
    engine = make("http://127.0.0.1:1/v1", api_key=KEY)
    shown = caplog.text + repr(engine) + repr(vars(engine)) + repr(completion)
    assert TRACER not in shown
    assert KEY not in shown
    assert completion.text not in shown
    assert not [r for r in caplog.records if r.name.startswith("http")], "a line per request would bury the log"
    assert repr(engine) == "OpenAIEngine(127.0.0.1:1)"


# --- concurrency and cancellation ---


def test_the_limit_grows_while_it_pays_and_then_stays() -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url)
        await using(engine, lambda: write_all(engine, 250))
        assert 8 <= server.most <= 64, "how exactly is tested by simulation; here the clock of a busy machine decides"

    with_server(work, delay_s=0.04, slots=12)


def test_each_request_goes_to_the_endpoint_with_the_most_room() -> None:
    async def run() -> None:
        async with OpenAIServer(delay_s=0.005) as one, OpenAIServer(delay_s=0.005) as two:
            engine = make(one.url, two.url)

            async def pairs() -> None:
                for _ in range(10):
                    await write_all(engine, 2)

            await using(engine, pairs)
            assert (len(one.prompts), len(two.prompts)) == (10, 10)

    asyncio.run(run())


def test_the_bound_on_concurrency_holds() -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url, max_concurrency=3)
        assert engine.window == 6
        await using(engine, lambda: write_all(engine, 40))
        assert server.most == 3

    with_server(work, delay_s=0.005)


def test_time_outs_halve_what_is_in_flight() -> None:
    async def work(server: OpenAIServer) -> None:
        server.next_faults.extend([SLOW] * 2)
        engine = make(server.url, timeout_s=0.1)

        async def run() -> None:
            writes = [asyncio.create_task(engine.write(ask(i))) for i in range(4)]
            await asyncio.sleep(0.13)
            assert engine._endpoints[0].limit.limit == 2
            await asyncio.gather(*writes)

        await using(engine, run)

    with_server(work)


def test_cancelled_requests_give_back_their_slots() -> None:
    async def work(server: OpenAIServer) -> None:
        server.fault = SLOW
        engine = make(server.url, max_concurrency=4)

        async def run() -> list[Completion]:
            for moment in (0.0, 0.001, 0.03):
                writes = [asyncio.create_task(engine.write(ask(i))) for i in range(20)]
                await asyncio.sleep(moment)
                for write in writes:
                    write.cancel()
                ended = await asyncio.gather(*writes, return_exceptions=True)
                assert {type(e) for e in ended} == {asyncio.CancelledError}
                assert engine._endpoints[0].limit.in_flight == 0
            server.fault = None
            return await write_all(engine, 20)

        expect_own_replies(await using(engine, run))

    with_server(work)


def test_a_slot_handed_out_in_the_moment_of_a_cancellation_is_not_lost() -> None:
    async def run() -> None:
        engine = make("http://127.0.0.1:1/v1", max_concurrency=1)
        endpoint, _ = await engine._slot()
        waiting = asyncio.create_task(engine._slot())
        await asyncio.sleep(0)
        endpoint.limit.gone()
        engine._hand_out()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert endpoint.limit.in_flight == 0

    asyncio.run(run())


def test_close_drops_what_waits_and_ends_the_probes() -> None:
    async def work(server: OpenAIServer) -> None:
        engine = make(server.url, f"http://127.0.0.1:{closed_port()}/v1", max_concurrency=1)
        await engine.start()
        server.fault = SLOW
        writes = [asyncio.create_task(engine.write(ask(i))) for i in range(3)]
        await asyncio.sleep(0.02)
        await engine.close()
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [t for t in others if "OpenAIEngine" in repr(t)]

    with_server(work)
