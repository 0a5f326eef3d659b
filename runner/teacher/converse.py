"""Ask an engine and listen, until every row of a batch is done. Knows requests, and nothing of what they are about."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from functools import partial

from runner.system.errors import first_line
from runner.teacher.engines.protocol import Engine, Reply
from runner.teacher.protocol import Ask, Conversation, NotFiniteError

NOT_FINITE = (
    "not finite: the model's probabilities are no numbers; where that is so of many rows it must compute in wider "
    "numbers (teacher.engine_options: {dtype: float32})"
)

UNDER_WAY = 1024
"""Requests of one batch that are in the engine at once: with many labels a row takes hundreds, each a whole prompt."""

_Inbox = queue.SimpleQueue[tuple[str, Ask, Reply | Exception]]


def converse(
    engine: Engine, talks: Mapping[str, Conversation], finished: Callable[[str], None] = lambda _: None
) -> dict[str, str]:
    """Ask and listen until every row is done; the rows that failed, with reasons.

    ``finished`` is called for each row when nothing more is asked about it.
    """
    inbox: _Inbox = queue.SimpleQueue()
    errors: dict[str, str] = {}
    under_way: dict[str, int] = {}

    def put(id_: str, asks: list[Ask]) -> int:
        # Before they are submitted: an engine may answer at once.
        under_way[id_] = under_way.get(id_, 0) + len(asks)
        for ask in asks:
            engine.submit(ask.prompt, ask.request, partial(_post, inbox, id_, ask))
        if not under_way[id_]:
            del under_way[id_]
            finished(id_)
        return len(asks)

    waiting, requests = iter(talks.items()), 0
    while True:
        while requests < UNDER_WAY and (following := next(waiting, None)):
            requests += put(following[0], following[1].begin())
        if not under_way:
            return errors
        id_, ask, reply = inbox.get()
        under_way[id_] -= 1
        requests -= 1
        more: list[Ask] = []
        if isinstance(reply, Exception):
            errors[id_] = f"engine: {first_line(reply, 200)}"
        elif id_ not in errors:
            try:
                more = talks[id_].on_reply(ask, reply)
            except NotFiniteError:
                errors[id_] = NOT_FINITE
        requests += put(id_, more)


def _post(inbox: _Inbox, id_: str, ask: Ask, reply: Reply | Exception) -> None:
    inbox.put((id_, ask, reply))
