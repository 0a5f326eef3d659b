"""The server of the review page: one process on 127.0.0.1, for one reviewer.

All requests but those for the page's own files are POSTs of JSON objects below the token. An answer that is not 200 has
``error``, a sentence for the reviewer. Knows no run but as a place for decisions, and no labels.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from runner.review.decisions import Action, ListName, Writer, read
from runner.review.lists import Item
from runner.review.page.session import RefusedError, Session
from runner.rundir.folder import Folder, fingerprint
from runner.rundir.lock import locked
from runner.system.errors import BusyError, UserError
from runner.system.sanitize import clean
from runner.tasks.shared.shown import Question

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
except ImportError:
    raise UserError(
        "review.page-needs-extra", "the page needs starlette and uvicorn: pip install 'tutelage[review]'"
    ) from None
from runner.review.page.guards import Guarded

STATIC = Path(__file__).parent / "static"
LARGEST_BODY = 64 * 1024
OPENED = ("review", "opened")
"""Below the run: a folder with a lock for each reviewer who has the page open."""


@dataclass(frozen=True)
class Status:
    """How far a list has come: a sentence for people, and whether it is ``enough``, so that nothing more is asked."""

    sentence: str = ""
    enough: bool = False


@dataclass(frozen=True)
class About:
    """What the page says besides the rows: the job's name, what the labels mean, and how a value is asked for."""

    name: str
    instructions: str
    question: Question


def serve(
    run: Folder,
    lists: Mapping[ListName, Sequence[Item]],
    about: About,
    reviewer: str,
    status: Callable[[ListName], Status] = lambda name: Status(),
    port: int = 0,
    opened: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until a signal stops it; ``opened`` is called with its address once it answers.

    ``lists`` in the order in which they are offered. ``status`` is asked after each decision, in a thread of its own.

    :raises BusyError: when this reviewer has the page of this run open already.
    :raises UserError: when the port is taken, or decisions of before cannot be read.
    """
    with _once(run, reviewer):
        session = Session(lists, about.question, reviewer, read(run), Writer(run).append)
        token = secrets.token_urlsafe(24)
        with _listen(port) as listening:
            config = uvicorn.Config(
                application(session, about, status, token),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,  # it would hold the token
                server_header=False,
                timeout_graceful_shutdown=2,
            )
            opened(f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/")
            uvicorn.Server(config).run(sockets=[listening])


def application(session: Session, about: About, status: Callable[[ListName], Status], token: str) -> Starlette:
    """The page as an ASGI application, at ``/TOKEN/``."""
    handlers = _Handlers(session, about, status)
    asked = {"task": handlers.task, "next": handlers.next, "decide": handlers.decide, "undo": handlers.undo}
    asked |= {"status": handlers.status, "alive": handlers.alive, "leave": handlers.leave}
    routes = [
        Route("/", _index),
        *(Route(f"/{name}", partial(_answer, handler), methods=["POST"]) for name, handler in asked.items()),
        Mount("/", StaticFiles(directory=STATIC)),
    ]
    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=[Middleware(Guarded, token=token)])


class _Handlers:
    """The requests of the page: each gets a JSON object and gives one."""

    def __init__(self, session: Session, about: About, status: Callable[[ListName], Status]) -> None:
        self._session, self._about, self._status = session, about, status

    def task(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What stays the same while the page is open."""
        return {
            "name": self._about.name,
            "reviewer": self._session.reviewer,
            "instructions": clean(self._about.instructions),
            "question": asdict(self._about.question),
            "lists": [{"name": name, **counts} for name, counts in self._session.totals().items()],
        }

    def next(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        was = asked.get("was")
        return self._session.next(_list(asked), _word(asked, "view"), was if isinstance(was, str) else None)

    def decide(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answers once the decision is on the disk, with the row that follows."""
        name, view, seconds = _list(asked), _word(asked, "view"), asked.get("seconds")
        if not (seconds is None or (isinstance(seconds, int | float) and seconds >= 0)):
            raise ValueError("seconds must be a number")
        action = cast(Action, _word(asked, "action"))
        row, decision = _word(asked, "id"), _word(asked, "decision")
        self._session.decide(name, view, row, action, asked.get("value"), seconds, decision)
        return self._session.next(name, view)

    def undo(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        undoes = asked.get("undoes")
        return self._session.undo(
            _list(asked), _word(asked, "view"), _word(asked, "decision"), undoes if isinstance(undoes, str) else None
        )

    def status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return asdict(self._status(_list(asked)))

    def alive(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._session.alive(_word(asked, "view"))
        return {}

    def leave(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._session.leave(_word(asked, "view"))
        return {}


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _answer(handler: Callable[[Mapping[str, Any]], dict[str, Any]], request: Request) -> Response:
    """The handler's answer, worked out in a thread; what went wrong, as a sentence."""
    try:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_BODY:
                return _refused(413, "the request is too large")
        asked = json.loads(body)
        if not isinstance(asked, dict):
            raise ValueError("a request is a JSON object")
        return JSONResponse(await run_in_threadpool(handler, asked))
    except RefusedError as error:
        return _refused(409, str(error))
    except ValueError as error:
        return _refused(400, str(error))
    except (UserError, OSError) as error:
        return _refused(507, str(error))
    except Exception as error:  # the page must say it; nothing was stored
        return _refused(500, f"{type(error).__name__}: {error}")


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)


def _word(asked: Mapping[str, Any], key: str) -> str:
    word = asked.get(key)
    if not isinstance(word, str) or not word:
        raise ValueError(f"the request lacks {key!r}")
    return word


def _list(asked: Mapping[str, Any]) -> ListName:
    return cast(ListName, _word(asked, "list"))


@contextmanager
def _once(run: Folder, reviewer: str) -> Iterator[None]:
    """One page for each reviewer of a run: two servers would ask the same rows."""
    folder = run.child(*OPENED, fingerprint(reviewer))
    try:
        with locked(folder):
            yield
    except BusyError as error:
        raise BusyError(
            "review.page-open",
            f"{reviewer} has the review page of {run.url} open already: use that one, stop it, or give another "
            f"--reviewer ({error})",
        ) from error


def _listen(port: int) -> socket.socket:
    # With its protocol named: else asyncio leaves Nagle's algorithm on, and an answer in two parts takes 40 ms more.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(
            "review.port-in-use", f"port {port} of 127.0.0.1 cannot be used ({error}); choose another, or 0 for any"
        ) from error
    return listening
