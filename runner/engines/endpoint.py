"""A server that the user already hosts (``vllm serve``), asked through its OpenAI-compatible completions API.

Prompts travel as token ids, rendered here: what a text says cannot act as a control token on the way. Only
this file knows HTTP. Nothing is sent anywhere but to the one host of the address: no redirect is followed and
no proxy of the environment is used.
"""

from __future__ import annotations

import logging
import math
import queue
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NameResolutionError

from runner.engines import hosts
from runner.engines.protocol import Deliver, Reply, Request, Sample, ScoreTokens
from runner.system.errors import EngineError, UserError

TOKEN_VARIABLE = "TUTELAGE_ENDPOINT_TOKEN"
"""The environment variable that holds the server's bearer token. The caller reads it; it stands nowhere else."""

CONNECT_SECONDS = 10.0
START_SECONDS = 30.0
"""How long the server may take to say what it has."""
ANSWER_SECONDS = 600.0
"""How long one answer may take, waiting in the server's own queue included."""
BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 60.0
RETRY_AFTER_MAX_SECONDS = 300
"""The longest that the server can make us wait by its Retry-After header."""

_PASSING = frozenset({429, 500, 502, 503, 504})
_PROBE = "Sales rose by 12 % in the second quarter, the company said."


@dataclass(frozen=True)
class Endpoint:
    """A server to ask: its address, the model's name there (None: the only one it has), requests at once.

    ``allow_external``: it may be outside private networks.
    """

    url: str
    model: str | None
    concurrency: int
    allow_external: bool = False


def check_host(url: str, allow_external: bool) -> None:
    """Whether texts may be sent to ``url``. Names are what they resolve to, here and again for each connection.

    A name that only other machines know (without a dot, or with an ending such as ``.svc``) is judged there alone.

    :raises UserError: when the address cannot be used at all, is never asked (:mod:`runner.engines.hosts`), or its host
        is not the user's own and ``allow_external`` is false.
    """
    host = _parts(url).hostname or ""
    try:
        hosts.judged(host, allow_external)
    except (OSError, UnicodeError) as error:
        if not hosts.is_local_name(host):
            raise UserError(f"teacher.endpoint: the name {host} cannot be found; correct it") from error


def _parts(url: str) -> SplitResult:
    # No message repeats the address: it may hold a password.
    if "@" in url:
        raise UserError(f"teacher.endpoint holds a user name or a password; a token belongs into {TOKEN_VARIABLE}")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and parts.hostname
    except ValueError:
        usable = None
    if not usable or not re.fullmatch(r"[a-z0-9._:%-]+", usable) or parts.query or parts.fragment:
        raise UserError("teacher.endpoint is not an address of the form http://host:port/v1 (or https)")
    return parts


@dataclass(frozen=True, eq=False)
class _Pending:
    prompt: Sequence[int]
    request: Request
    deliver: Deliver


class EndpointEngine:
    """A model behind a server's address, such as ``http://host:8000/v1``.

    ``concurrency`` requests are at the server at once. Each is sent again up to ``retries`` times where the
    failure may pass: no connection, no answer within ``answer_seconds``, status 429, 500, 502, 503 or 504.
    ``model``: the model's name at the server; ``max_context``: the tokens it holds, None where the server
    does not say.

    :raises UserError: when ``url`` is no usable address, or one that :func:`check_host` refuses: every connection is
        judged, and goes to the very address that was.
    :raises EngineError: when the server cannot be reached, refuses, has another model than ``model_name``
        (None: the one that it has), or reads tokens otherwise than ``tokenizer`` writes them.
    """

    def __init__(
        self,
        url: str,
        model_name: str | None,
        tokenizer: Any,
        concurrency: int,
        retries: int = 5,
        token: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        allow_external: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.block_tokens: int | None = None
        self._stopped = threading.Event()
        self._server = _Server(url, token, concurrency, allow_external)
        self._seconds = answer_seconds
        # A server that is not there when the work starts is the user's to start: no long wait.
        self._at_start = _Retries(self._stopped, min(retries, 2), connect=0, other=0)
        self._at_work = _Retries(self._stopped, retries)
        self.model, self.max_context = self._find_model(model_name)
        self._check_tokenizer()
        self._lock = threading.Lock()
        self._open: set[_Pending] = set()
        self._inbox: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="endpoint", daemon=True) for _ in range(concurrency)]
        for thread in self._threads:
            thread.start()

    def submit(self, prompt: Sequence[int], request: Request, deliver: Deliver) -> None:
        """See :class:`runner.engines.protocol.Engine`. A request that fails delivers an EngineError."""
        pending = _Pending(prompt, request, deliver)
        with self._lock:
            if not self._stopped.is_set():
                self._open.add(pending)
                self._inbox.put(pending)
                return
        deliver(_stopped())

    def close(self) -> None:
        """What is under way gets an error at once; an answer that still comes is dropped."""
        with self._lock:
            self._stopped.set()
            left, self._open = self._open, set()
        for pending in left:
            pending.deliver(_stopped())
        for _ in self._threads:
            self._inbox.put(None)
        self._server.close()

    def _work(self) -> None:
        while pending := self._inbox.get():
            if self._stopped.is_set():
                continue
            try:
                reply: Reply | Exception = self._answer(pending)
            except Exception as error:  # whatever it is, it concerns this request alone
                reply = error
            # Whoever takes the request out delivers: this thread or close(), never both.
            with self._lock:
                mine = pending in self._open
                self._open.discard(pending)
            if mine:
                pending.deliver(reply)

    def _answer(self, pending: _Pending) -> Reply:
        request = pending.request
        fields = _score_fields(request) if isinstance(request, ScoreTokens) else _sample_fields(request)
        answer = self._complete(self._at_work, pending.prompt, fields)
        try:
            return _reply(request, answer)
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(
                "the teacher's server did not send what was asked for; it must be a vLLM whose completions "
                "know logprob_token_ids, such as 0.32"
            ) from error

    def _complete(self, retries: Retry, prompt: Sequence[int], fields: dict[str, Any]) -> Any:
        body = {"model": self.model, "prompt": list(prompt)} | fields
        return self._server.ask("POST", "/completions", retries, self._seconds, body)

    def _find_model(self, asked: str | None) -> tuple[str, int | None]:
        answer = self._server.ask("GET", "/models", self._at_start, START_SECONDS)
        try:
            served: dict[str, int | None] = {str(one["id"]): one.get("max_model_len") for one in answer["data"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineError(
                "the teacher's server sent no list of models; teacher.endpoint must end in /v1"
            ) from error
        names = ", ".join(served) or "no model"
        if asked is None and len(served) != 1:
            raise EngineError(f"the teacher's server has {names}; say in the spec which one is the teacher")
        name = next(iter(served)) if asked is None else asked
        if name not in served:
            raise EngineError(f"the teacher's server has no model {name}, it has {names}; correct the spec")
        return name, served[name]

    def _check_tokenizer(self) -> None:
        """Another model's tokenizer would go unnoticed: every number is a token of every large vocabulary."""
        ids = self.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        ours = "".join(self.tokenizer.decode(ids).split())
        answer = self._complete(self._at_start, ids, {"echo": True, "max_tokens": 1, "temperature": 0.0})
        try:
            theirs = "".join(answer["choices"][0]["text"].split())
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineError("the teacher's server sent no text; it must be one that vLLM runs") from error
        if not theirs.startswith(ours):
            raise EngineError(
                f"the teacher's server reads tokens in another way: {self.model} has not the tokenizer that "
                "teacher.model names; set it to the model that the server runs"
            )


def _stopped() -> EngineError:
    return EngineError("the engine was stopped")


_PLAIN = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Said in every request: a server takes what is not said from the model's generation_config.json."""


def _score_fields(request: ScoreTokens) -> dict[str, Any]:
    return _PLAIN | {
        "max_tokens": 1,
        "temperature": 0.0,
        "logprob_token_ids": list(request.tokens),
        "logprobs": 1,  # must be there, but the tokens asked for take precedence over its number
        "return_tokens_as_token_ids": True,
    }


def _sample_fields(request: Sample) -> dict[str, Any]:
    how = request.sampling
    fields = {
        "max_tokens": how.max_tokens,
        "temperature": how.temperature,
        "top_p": how.top_p,
        "top_k": how.top_k,
        "seed": request.seed,
    }
    return _PLAIN | fields | ({"structured_outputs": {"json": how.schema}} if how.schema else {})


_ZERO = -9999.0
"""What a server writes for a probability of 0, since JSON has no infinity."""


def _reply(request: Request, answer: Any) -> Reply:
    """:raises KeyError, IndexError, TypeError: when the answer has another form."""
    choice = answer["choices"][0]
    if isinstance(request, Sample):
        text, tokens = choice["text"], answer["usage"]["completion_tokens"]
        if not isinstance(text, str) or type(tokens) is not int:
            raise TypeError("no text")
        return Reply(text, tokens)
    found = choice["logprobs"]["top_logprobs"][0]
    return Reply(tokens=1, logprobs={token: _logprob(found[f"token_id:{token}"]) for token in request.tokens})


def _logprob(value: Any) -> float:
    """A number as it is meant. JSON has no NaN either: some servers write null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return -math.inf if value <= _ZERO else float(value)


class _Retries(Retry):
    """urllib3's rules for this server: what is tried again and after what wait. A wait ends when we are stopped."""

    def __init__(self, stopped: threading.Event, total: int | None, **options: Any) -> None:
        ours: dict[str, Any] = {
            "allowed_methods": None,  # a POST too: the same question again does no harm
            "status_forcelist": _PASSING,
            "raise_on_status": False,
            "backoff_factor": BACKOFF_SECONDS,
            "backoff_jitter": BACKOFF_SECONDS,
            "backoff_max": BACKOFF_MAX_SECONDS,
            "retry_after_max": RETRY_AFTER_MAX_SECONDS,
        }
        super().__init__(total=total, **(ours | options))
        self._stopped = stopped

    def new(self, **options: Any) -> _Retries:
        """A copy with changes, which urllib3 makes at every failure."""
        return super().new(stopped=self._stopped, **options)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait as the server says, else longer each time. :raises EngineError: when stopped meanwhile."""
        try:
            asked = self.get_retry_after(response) if response else None
        except InvalidHeader:
            asked = None
        if self._stopped.wait(asked or self.get_backoff_time()):
            raise _stopped()


class _Judged(HTTPConnection):
    """A connection to an address that was judged, and not to what the name is looked up as a moment later."""

    def __init__(self, *arguments: Any, allow_external: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._allow_external = allow_external

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            addresses = hosts.judged(name.strip("[]"), self._allow_external)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(name, self, socket.gaierror(str(error))) from error
        for number, address in enumerate(addresses, 1):
            self._dns_host = address
            try:
                return super()._new_conn()
            except HTTPError:
                if number == len(addresses):
                    raise
            finally:
                self._dns_host = name  # what the request and the certificate are about
        raise AssertionError("no address was judged")


class _JudgedHttps(_Judged, HTTPSConnection):
    """The same with TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Judged


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _JudgedHttps


class _Server:
    """The HTTP side: connections to one host, kept open; what goes wrong becomes one line that says what to do."""

    def __init__(self, url: str, token: str | None, connections: int, allow_external: bool) -> None:
        parts = _parts(url)
        self._url, self._path = url.rstrip("/"), parts.path.rstrip("/")
        self._token = (token or "").strip()
        # What http.client says about a header that it cannot send holds the header.
        if not re.fullmatch(r"[\x21-\x7e]*", self._token):
            raise EngineError(f"{TOKEN_VARIABLE} holds characters that no token has; set it anew")
        self._headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        # It warns of every try that failed; the last one's error says it all.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        pool = _HttpsPool if parts.scheme == "https" else _HttpPool
        options: dict[str, Any] = {"maxsize": connections, "block": True, "allow_external": allow_external}
        # Without a port http.client would take the end of an IPv6 address for one.
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._pool = pool(parts.hostname or "", port, **options)

    def ask(self, method: str, path: str, retries: Retry, seconds: float, body: dict[str, Any] | None = None) -> Any:
        """The JSON of the answer. :raises EngineError: when there is none, or it is a refusal."""
        try:
            response = self._pool.request(
                method,
                self._path + path,
                headers=self._headers,
                json=body,
                retries=retries,
                redirect=False,
                timeout=Timeout(connect=CONNECT_SECONDS, read=seconds),
            )
            if response.status == 200:
                return response.json()
        except HTTPError as error:
            raise EngineError(self._unreachable(error)) from error
        except ValueError as error:
            raise EngineError(f"what answers at {self._url} sends no JSON; teacher.endpoint must end in /v1") from error
        raise EngineError(self._refusal(response))

    def close(self) -> None:
        """Close the connections that rest; those at work close when their answer is there."""
        self._pool.close()

    def _unreachable(self, error: HTTPError) -> str:
        cause = error.reason if isinstance(error, MaxRetryError) else error
        words = _one_line(re.sub(r"^\w+\(host=[^)]*\): ", "", str(cause)))
        return f"the teacher's server at {self._url} gives no answer: {words}; start it, or correct teacher.endpoint"

    def _refusal(self, response: BaseHTTPResponse) -> str:
        if 300 <= response.status < 400:
            to = self._clean(response.headers.get("Location", "nowhere"))
            return f"the teacher's server redirects to {to}, which is not followed; correct teacher.endpoint"
        said = self._clean(_error_text(response))
        return f"the teacher's server answered {response.status}: {said}; {_advice(response.status)}"

    def _clean(self, text: str) -> str:
        return _one_line(text.replace(self._token, "...") if self._token else text)


def _error_text(response: BaseHTTPResponse) -> str:
    """What the server says in an error: servers and their frameworks put it into different fields."""
    try:
        found = response.json()
    except ValueError:
        return response.data.decode(errors="replace")
    while isinstance(found, dict):
        found = found.get("error") or found.get("message") or found.get("detail") or str(found)
    return str(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300] or "nothing"


def _advice(status: int) -> str:
    if status in (401, 403):
        return f"put the server's token into the environment variable {TOKEN_VARIABLE}"
    if status == 404:
        return "teacher.endpoint must be the address that ends in /v1, and the server must have the teacher's model"
    if status in _PASSING:
        return "all retries failed; look at the server's log"
    return "look at the spec's teacher section and at the server's log"
