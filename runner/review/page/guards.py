"""Who may talk to the page's server: this machine's browser, with the token in the address.

Any program on this machine can reach the port, and so can any page that the browser shows. The token keeps both out;
the check of ``Host`` keeps out a name that was made to mean 127.0.0.1 (DNS rebinding), that of ``Origin`` other pages.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost"})
"""With any port: the browser's may be that of a tunnel (``ssh -L``)."""

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guarded:
    """Lets requests through that start with the token, and puts ``HEADERS`` on every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._start = app, f"/{token}/".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no WebSocket is served, and nothing is done at the start
            return
        status, said = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = PlainTextResponse(said, status_code=status) if status else self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if urlsplit(f"//{host}").hostname not in HOSTS:
            return 421, "This server answers to 127.0.0.1 alone."
        if not hmac.compare_digest(str(scope["path"]).encode()[: len(self._start)], self._start):
            return 404, "Not found. The address must hold the token that `tutelage review` printed."
        if scope["method"] == "POST" and headers.get("origin") != f"http://{host}":
            return 403, "Only the page itself may ask for this."
        return 0, ""
