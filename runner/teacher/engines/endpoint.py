"""A server that the user already hosts (``vllm serve``), asked through its OpenAI-compatible completions API.

Prompts travel as token ids, rendered here: what a text says cannot act as a control token on the way.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from urllib3 import Retry

from runner.system.errors import EngineError
from runner.teacher.engines.endpoint_http import Retries, Server, stopped
from runner.teacher.engines.endpoint_requests import fields_of, reply_of
from runner.teacher.engines.protocol import Deliver, Reply, Request

START_SECONDS = 30.0
"""How long the server may take to say what it has."""
ANSWER_SECONDS = 600.0
"""How long one answer may take, waiting in the server's own queue included."""

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

    :raises UserError: when ``url`` is no usable address, or one that :func:`runner.teacher.engines.hosts.check_host`
        refuses: every connection is judged, and goes to the very address that was.
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
        self._server = Server(url, token, concurrency, allow_external)
        self._seconds = answer_seconds
        # A server that is not there when the work starts is the user's to start: no long wait.
        self._at_start = Retries(self._stopped, min(retries, 2), connect=0, other=0)
        self._at_work = Retries(self._stopped, retries)
        self.model, self.max_context = self._find_model(model_name)
        self._check_tokenizer()
        self._lock = threading.Lock()
        self._open: set[_Pending] = set()
        self._inbox: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="endpoint", daemon=True) for _ in range(concurrency)]
        for thread in self._threads:
            thread.start()

    def submit(self, prompt: Sequence[int], request: Request, deliver: Deliver) -> None:
        """See :class:`runner.teacher.engines.protocol.Engine`. A request that fails delivers an EngineError."""
        pending = _Pending(prompt, request, deliver)
        with self._lock:
            if not self._stopped.is_set():
                self._open.add(pending)
                self._inbox.put(pending)
                return
        deliver(stopped())

    def close(self) -> None:
        """What is under way gets an error at once; an answer that still comes is dropped."""
        with self._lock:
            self._stopped.set()
            left, self._open = self._open, set()
        for pending in left:
            pending.deliver(stopped())
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
        answer = self._complete(self._at_work, pending.prompt, fields_of(pending.request))
        try:
            return reply_of(pending.request, answer)
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(
                "teacher.server-unsupported",
                "the teacher's server did not send what was asked for; it must be a vLLM whose completions "
                "know logprob_token_ids, such as 0.32",
            ) from error

    def _complete(self, retries: Retry, prompt: Sequence[int], fields: dict[str, Any]) -> Any:
        body = {"model": self.model, "prompt": list(prompt)} | fields
        return self._server.ask("POST", "/completions", retries, self._seconds, body)

    def _find_model(self, asked: str | None) -> tuple[str, int | None]:
        answer = self._server.ask("GET", "/models", self._at_start, START_SECONDS)
        try:
            served: dict[str, int | None] = {str(model["id"]): model.get("max_model_len") for model in answer["data"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise EngineError(
                "teacher.endpoint-path", "the teacher's server sent no list of models; teacher.endpoint must end in /v1"
            ) from error
        names = ", ".join(served) or "no model"
        if asked is None and len(served) != 1:
            raise EngineError(
                "teacher.model-ambiguous", f"the teacher's server has {names}; say in the spec which one is the teacher"
            )
        name = next(iter(served)) if asked is None else asked
        if name not in served:
            raise EngineError(
                "teacher.model-not-served",
                f"the teacher's server has no model {name}, it has {names}; correct the spec",
            )
        return name, served[name]

    def _check_tokenizer(self) -> None:
        """Another model's tokenizer would go unnoticed: every number is a token of every large vocabulary."""
        ids = self.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        ours = "".join(self.tokenizer.decode(ids).split())
        answer = self._complete(self._at_start, ids, {"echo": True, "max_tokens": 1, "temperature": 0.0})
        try:
            theirs = "".join(answer["choices"][0]["text"].split())
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EngineError(
                "teacher.server-unsupported", "the teacher's server sent no text; it must be one that vLLM runs"
            ) from error
        if not theirs.startswith(ours):
            raise EngineError(
                "teacher.tokenizer-differs",
                f"the teacher's server reads tokens in another way: {self.model} has not the tokenizer that "
                "teacher.model names; set it to the model that the server runs",
            )
