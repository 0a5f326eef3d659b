"""The endpoint engine against a small HTTP server: what it sends, tries again, refuses, and delivers exactly once."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.system.errors import EngineError, UserError
from runner.tasks.single_label.distribution import Distribution
from runner.tasks.single_label.label_trie import LabelTrie
from runner.teacher.converse import NOT_FINITE, converse
from runner.teacher.engines.endpoint import EndpointEngine
from runner.teacher.engines.hosts import check_host
from runner.teacher.engines.protocol import Reply, Sample, Sampling, ScoreTokens

SECRET = "s3cret-t0ken"
SAMPLE = Sample(Sampling(temperature=0.8, top_p=0.95, top_k=20, max_tokens=16), seed=7)
SCORE = ScoreTokens((65, 66))

HANG_UP = 0
"""In place of a status: close the connection without a word."""

Answer = tuple[int, dict[str, str], Any]
Script = Callable[[dict[str, Any]], Answer]


class Letters:
    """A tokenizer whose tokens are characters."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def completed(text: str = "yes") -> Answer:
    top = {"token_id:65": -0.5, "token_id:66": -1.5, "token_id:67": -0.1}
    choice = {"text": text, "logprobs": {"top_logprobs": [top]}}
    return 200, {}, {"choices": [choice], "usage": {"completion_tokens": 2}}


def listed(*names: str) -> Answer:
    return 200, {}, {"data": [{"id": name, "max_model_len": 2048} for name in names]}


class Server:
    """Answers as ``models`` and ``complete`` say; keeps what it was asked. Echoes, as vLLM does, what it reads."""

    def __init__(self) -> None:
        self.models: Callable[[], Answer] = lambda: listed("small")
        self.complete: Script = lambda body: completed()
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []
        self.connections = 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def completions(self) -> list[dict[str, Any]]:
        return [body for path, _, body in self.asked if path.endswith("/completions") and not body.get("echo")]

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> Answer:
        if path == "/v1/models":
            return self.models()
        if path != "/v1/completions":
            return 404, {}, {"detail": "Not Found"}
        return completed("".join(map(chr, body["prompt"])) + "!") if body.get("echo") else self.complete(body)

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                server.asked.append((self.path, self.headers.get("Authorization"), body))
                status, headers, content = server.answer(self.path, body)
                if status == HANG_UP:
                    self.close_connection = True
                    return
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


class Inbox(queue.SimpleQueue[Reply | Exception]):
    """Where replies are delivered to."""

    def reply(self) -> Reply:
        found = self.get(timeout=30)
        assert isinstance(found, Reply), found
        return found

    def error(self) -> str:
        found = self.get(timeout=30)
        assert isinstance(found, EngineError), found
        assert "\n" not in str(found) and SECRET not in repr(found)
        return str(found)


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def engine(server: Server, request: pytest.FixtureRequest) -> Iterator[EndpointEngine]:
    options = {"concurrency": 4, "retries": 2} | getattr(request, "param", {})
    one = EndpointEngine(server.url, None, Letters(), **options)
    yield one
    one.close()


def then(*answers: Answer) -> Script:
    """One answer after the other; the last one for good."""
    left = list(answers)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def test_a_draw_is_sent_as_token_ids_with_its_sampling(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    engine.submit([1, 2, 3], SAMPLE, inbox.put)
    assert inbox.reply() == Reply("yes", 2)
    assert server.completions == [
        {
            "model": "small",
            "prompt": [1, 2, 3],
            "max_tokens": 16,
            "temperature": 0.8,
            "top_p": 0.95,
            "top_k": 20,
            "seed": 7,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
    ]
    assert server.asked[0][1] is None


def test_a_choice_brings_the_logprobs_of_its_tokens_alone(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    engine.submit([1], SCORE, inbox.put)
    assert inbox.reply() == Reply(tokens=1, logprobs={65: -0.5, 66: -1.5})
    assert server.completions[0]["logprob_token_ids"] == [65, 66]
    assert server.completions[0]["max_tokens"] == 1


def test_a_server_that_does_not_know_the_tokens_asked_for(engine: EndpointEngine, inbox: Inbox) -> None:
    engine.submit([1], ScoreTokens((65, 99)), inbox.put)
    assert "logprob_token_ids" in inbox.error()


@pytest.mark.parametrize("broken", [False, True])
def test_a_server_is_asked_best_first_and_no_further_than_its_numbers_go(
    server: Server, engine: EndpointEngine, broken: bool
) -> None:
    def scored(body: dict[str, Any]) -> Answer:
        place = "".join(map(chr, body["prompt"]))
        likely = {"?": "a", "?a": "x", "?b": "x"}[place]
        number = None if broken and place == "?a" else -0.1
        top = {f"token_id:{t}": number if chr(t) == likely else -12.0 for t in body["logprob_token_ids"]}
        return 200, {}, {"choices": [{"text": "", "logprobs": {"top_logprobs": [top]}}], "usage": {}}

    server.complete = scored
    labels = ["ax", "ay", "bx", "by", "c"]
    talk = Distribution(
        [ord("?")], LabelTrie.build([[ord(letter) for letter in label] for label in labels], ord("."), 0)
    )
    failed = converse(engine, {"row": talk})
    asked = ["".join(map(chr, body["prompt"])) for body in server.completions]
    assert asked == ["?", "?a"]
    if broken:
        assert failed == {"row": NOT_FINITE} and talk.records == []
        return
    (record,) = talk.records
    assert not failed and record["output_tokens"] == 2 and 0 < record["unasked"] < 0.001
    assert max(zip(record["label_probabilities"], labels, strict=True))[1] == "ax"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_tried_again(
    server: Server, engine: EndpointEngine, inbox: Inbox, status: int
) -> None:
    server.complete = then((status, {}, {}), completed())
    engine.submit([1], SAMPLE, inbox.put)
    assert inbox.reply().text == "yes"
    assert len(server.completions) == 2


def test_a_failure_that_stays_fails_this_request_alone(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    server.complete = lambda body: (
        (503, {}, {"error": {"message": "no room"}}) if body["prompt"] == [1] else completed()
    )
    engine.submit([1], SAMPLE, inbox.put)
    engine.submit([2], SAMPLE, inbox.put)
    assert inbox.reply().text == "yes"
    assert "503: no room; " in inbox.error()
    assert [body["prompt"] for body in server.completions].count([1]) == 3


@pytest.mark.parametrize("after", ["1", "not a time"])
def test_waits_as_long_as_the_server_says(server: Server, engine: EndpointEngine, inbox: Inbox, after: str) -> None:
    server.complete = then((429, {"Retry-After": after}, {}), completed())
    begun = time.monotonic()
    engine.submit([1], SAMPLE, inbox.put)
    assert inbox.reply()
    assert (time.monotonic() - begun >= 1) == (after == "1")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_tried_again_and_says_why(
    server: Server, engine: EndpointEngine, inbox: Inbox, status: int
) -> None:
    server.complete = lambda body: (status, {}, {"error": {"message": "too\nlong"}})
    engine.submit([1], SAMPLE, inbox.put)
    assert f"answered {status}: too long; " in inbox.error()
    assert len(server.completions) == 1


@pytest.mark.parametrize("content", [{"detail": "gone"}, {"error": "gone"}, {"message": "gone"}, b"gone"])
def test_the_servers_words_in_any_form(server: Server, engine: EndpointEngine, inbox: Inbox, content: Any) -> None:
    server.complete = lambda body: (400, {}, content)
    engine.submit([1], SAMPLE, inbox.put)
    assert "400: gone; " in inbox.error()


@pytest.mark.parametrize(
    "content", [b"<html>", {}, {"choices": []}, {"choices": None}, [1], {"choices": [{"text": "x"}]}]
)
def test_an_answer_of_another_form(server: Server, engine: EndpointEngine, inbox: Inbox, content: Any) -> None:
    server.complete = lambda body: (200, {}, content)
    engine.submit([1], SAMPLE, inbox.put)
    inbox.error()


@pytest.mark.parametrize("engine", [{"answer_seconds": 0.3, "retries": 1}], indirect=True)
def test_an_answer_that_takes_too_long_is_asked_for_again(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    waits = iter([1.0])

    def complete(body: dict[str, Any]) -> Answer:
        time.sleep(next(waits, 0.0))
        return completed()

    server.complete = complete
    engine.submit([1], SAMPLE, inbox.put)
    assert inbox.reply().text == "yes"
    assert len(server.completions) == 2


def test_a_connection_that_breaks(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    server.complete = then((HANG_UP, {}, {}), completed())
    engine.submit([1], SAMPLE, inbox.put)
    assert inbox.reply().text == "yes"


def test_a_server_that_goes_away(server: Server, engine: EndpointEngine, inbox: Inbox) -> None:
    server.complete = lambda body: (HANG_UP, {}, {})
    server.stop()
    engine.submit([1], SAMPLE, inbox.put)
    assert "Connection refused; start it" in inbox.error()


@pytest.mark.parametrize("engine", [{"concurrency": 3}], indirect=True)
def test_no_more_requests_at_once_than_allowed_and_connections_are_kept(
    server: Server, engine: EndpointEngine, inbox: Inbox
) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def complete(body: dict[str, Any]) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return completed()

    server.complete = complete
    for _ in range(40):
        engine.submit([1], SAMPLE, inbox.put)
    assert all(inbox.reply() for _ in range(40))
    assert most == 3
    assert server.connections <= 3


@pytest.mark.parametrize("wait", ["server", "backoff"])
def test_close_delivers_once_for_every_request(server: Server, engine: EndpointEngine, inbox: Inbox, wait: str) -> None:
    go_on = threading.Event()

    def complete(body: dict[str, Any]) -> Answer:
        if wait == "backoff":
            return 503, {"Retry-After": "60"}, {}
        go_on.wait(20)
        return completed()

    server.complete = complete
    for _ in range(10):
        engine.submit([1], SAMPLE, inbox.put)
    while len(server.completions) < 4:
        time.sleep(0.01)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 1
    assert ["stopped" in inbox.error() for _ in range(10)] == [True] * 10
    go_on.set()
    for thread in engine._threads:
        thread.join(5)
        assert not thread.is_alive()
    engine.submit([1], SAMPLE, inbox.put)
    assert "stopped" in inbox.error()
    assert inbox.empty() and len(server.completions) == 4


def test_close_while_replies_arrive_delivers_once(server: Server) -> None:
    for round_ in range(5):
        engine = EndpointEngine(server.url, None, Letters(), concurrency=8)
        counts = [0] * 200
        lock = threading.Lock()

        def deliver(number: int, counts: list[int] = counts, lock: threading.Lock = lock) -> None:
            with lock:
                counts[number] += 1

        for number in range(200):
            engine.submit([1], SAMPLE, lambda reply, number=number, deliver=deliver: deliver(number))
        time.sleep(0.02 * round_)
        engine.close()
        for thread in engine._threads:
            thread.join(10)
        assert counts == [1] * 200


def test_the_token_is_sent_and_said_nowhere(server: Server, inbox: Inbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    server.complete = lambda body: (401, {}, {"error": f"Bearer {SECRET} is wrong"})
    engine = EndpointEngine(server.url, None, Letters(), concurrency=1, token=f"{SECRET}\n")
    engine.submit([1], SAMPLE, inbox.put)
    assert "Bearer ... is wrong" in inbox.error()
    assert {token for _, token, _ in server.asked} == {f"Bearer {SECRET}"}
    assert SECRET not in caplog.text + repr(engine) + repr(engine._server._pool)
    engine.close()


def test_a_token_that_no_header_can_carry_is_not_repeated(server: Server) -> None:
    with pytest.raises(EngineError, match="TUTELAGE_ENDPOINT_TOKEN") as caught:
        EndpointEngine(server.url, None, Letters(), concurrency=1, token=f"{SECRET}\r\nX-Other: 1")
    assert SECRET not in str(caught.value)


def start_error(server: Server, model: str | None = None, tokenizer: Any = None) -> str:
    with pytest.raises(EngineError) as caught:
        EndpointEngine(server.url, model, tokenizer or Letters(), concurrency=1, retries=1)
    return str(caught.value)


def test_redirects_are_not_followed(server: Server) -> None:
    other = Server()
    server.models = lambda: (307, {"Location": f"{other.url}/models"}, {})
    assert f"redirects to {other.url}/models, which is not followed" in start_error(server)
    assert not other.asked
    other.stop()


def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    EndpointEngine(server.url, None, Letters(), concurrency=1).close()


def test_which_model_is_taken(server: Server) -> None:
    server.models = lambda: listed("small", "large")
    engine = EndpointEngine(f"{server.url}/", "large", Letters(), concurrency=1)
    assert (engine.model, engine.max_context) == ("large", 2048)
    engine.close()
    assert "has small, large; say in the spec which" in start_error(server)
    assert "has no model other, it has small, large" in start_error(server, "other")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (listed(), "has no model;"),
        ((200, {}, {"models": []}), "no list of models"),
        ((200, {}, b"<html>"), "sends no JSON"),
        ((404, {}, {"detail": "Not Found"}), "404: Not Found; teacher.endpoint must be the address that ends in /v1"),
        ((401, {}, {"error": "Unauthorized"}), "401: Unauthorized; put the server's token into"),
    ],
)
def test_a_server_that_cannot_be_used(server: Server, answer: Answer, said: str) -> None:
    server.models = lambda: answer
    assert said in start_error(server)


def test_nobody_listens(server: Server) -> None:
    server.stop()
    begun = time.monotonic()
    assert (
        "gives no answer: Failed to establish a new connection: [Errno 111] Connection refused; start it"
        in start_error(server)
    )
    assert time.monotonic() - begun < 2


def test_another_models_tokenizer_is_noticed(server: Server) -> None:
    class Other(Letters):
        def decode(self, ids: list[int]) -> str:
            return "".join(chr(number + 1) for number in ids)

    assert "reads tokens in another way" in start_error(server, tokenizer=Other())


INSIDE = [
    "http://127.0.0.1:8000/v1",
    "http://0.0.0.0:8000/v1",
    "http://10.1.2.3/v1",
    "http://172.31.0.1/v1",
    "https://192.168.1.1/v1",
    "http://[::1]:8000/v1",
    "http://[fd00::1]/v1",
    "http://[::ffff:10.0.0.1]/v1",
]
NAMES_OF_THE_HOUSE = [
    "http://localhost:8000/v1",
    "http://gpu-box:8000/v1",
    "http://gpu.local/v1",
    "http://llm.corp.internal/v1",
    "http://llm.team.svc/v1",
    "http://llm.team.svc.cluster.local./v1",
]
OUTSIDE = [
    "https://8.8.8.8/v1",
    "http://172.32.0.1/v1",
    "http://134744072/v1",
    "http://0x08080808/v1",
    "http://010.0.0.1/v1",
    "http://[2001:4860:4860::8888]/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://198.18.0.1/v1",
]


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("url", INSIDE)
def test_hosts_of_the_house(url: str, no_lookups: None) -> None:
    check_host(url, allow_external=False)


@pytest.mark.parametrize("url", NAMES_OF_THE_HOUSE)
def test_names_of_the_house_are_judged_where_they_are_known(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: Any) -> Any:
        raise socket.gaierror("not here")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    check_host(url, allow_external=False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: [(0, 0, 0, "", ("8.8.8.8", 0))])
    with pytest.raises(UserError, match=r"is outside your private network"):
        check_host(url, allow_external=False)


@pytest.mark.parametrize("url", OUTSIDE)
def test_hosts_outside_need_to_be_allowed(url: str, no_lookups: None) -> None:
    with pytest.raises(UserError, match=r"Set teacher\.allow_external: true to allow sending texts"):
        check_host(url, allow_external=False)
    check_host(url, allow_external=True)


@pytest.mark.parametrize(
    ("addresses", "inside"),
    [(["10.0.0.1"], True), (["10.0.0.1", "8.8.8.8"], False), (["fd00::1", "127.0.0.1"], True), (["2600::1"], False)],
)
def test_names_are_where_they_resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str], inside: bool) -> None:
    found = [(0, 0, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: found)
    if inside:
        check_host("http://llm.example.com/v1", allow_external=False)
    else:
        with pytest.raises(UserError, match=r"llm\.example\.com is outside your private network"):
            check_host("http://llm.example.com/v1", allow_external=False)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(UserError, match=r"the name nowhere\.invalid cannot be found"):
        check_host("http://nowhere.invalid/v1", allow_external=False)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://localhost/v1",
        "file:///etc/passwd",
        "localhost:8000/v1",
        "http:///v1",
        "http://",
        "",
        "http://localhost:eight/v1",
        "http://localhost:99999/v1",
        "http://[::1/v1",
        "http://user:hunter2@localhost/v1",
        "http://hunter2@localhost/v1",
        "http://localhost/v1?key=hunter2",
        "http://localhost/v1#hunter2",
        "http://10.0.0.1\\.example.com/v1",
        "http://10.0.0.1 .example.com/v1",
    ],
)
@pytest.mark.parametrize("allow_external", [False, True])
def test_addresses_that_cannot_be_used(url: str, allow_external: bool, no_lookups: None) -> None:
    with pytest.raises(UserError, match=r"teacher\.endpoint") as caught:
        check_host(url, allow_external)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UserError):
        EndpointEngine(url, None, Letters(), concurrency=1)
