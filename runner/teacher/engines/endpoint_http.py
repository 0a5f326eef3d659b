"""The HTTP side of a server that is asked: connections to one host alone, what is tried again, and errors in words.

Nothing is sent anywhere but to the one host of the address: no redirect is followed and no proxy of the environment is
used.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NameResolutionError

from runner.system.errors import EngineError
from runner.teacher.engines import hosts
from runner.teacher.engines.hosts import TOKEN_VARIABLE

CONNECT_SECONDS = 10.0
BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 60.0
RETRY_AFTER_MAX_SECONDS = 300
"""The longest that the server can make us wait by its Retry-After header."""

_PASSING = frozenset({429, 500, 502, 503, 504})


def stopped() -> EngineError:
    """Of requests that are under way when the engine is closed."""
    return EngineError("teacher.engine-stopped", "the engine was stopped")


class Retries(Retry):
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

    def new(self, **options: Any) -> Retries:
        """A copy with changes, which urllib3 makes at every failure."""
        return super().new(stopped=self._stopped, **options)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait as the server says, else longer each time. :raises EngineError: when stopped meanwhile."""
        try:
            asked = self.get_retry_after(response) if response else None
        except InvalidHeader:
            asked = None
        if self._stopped.wait(asked or self.get_backoff_time()):
            raise stopped()


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


class Server:
    """The HTTP side: connections to one host, kept open; what goes wrong becomes one line that says what to do."""

    def __init__(self, url: str, token: str | None, connections: int, allow_external: bool) -> None:
        parts = hosts.address_of(url)
        self._url, self._path = url.rstrip("/"), parts.path.rstrip("/")
        self._token = (token or "").strip()
        # What http.client says about a header that it cannot send holds the header.
        if not re.fullmatch(r"[\x21-\x7e]*", self._token):
            raise EngineError(
                "teacher.token-invalid", f"{TOKEN_VARIABLE} holds characters that no token has; set it anew"
            )
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
            raise EngineError("teacher.server-unreachable", self._unreachable(error)) from error
        except ValueError as error:
            raise EngineError(
                "teacher.endpoint-path", f"what answers at {self._url} sends no JSON; teacher.endpoint must end in /v1"
            ) from error
        raise EngineError("teacher.server-refused", self._refusal(response))

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
