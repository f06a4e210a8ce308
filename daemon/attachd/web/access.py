"""Access to the page and its buttons: pure decisions, and the piece of ASGI that applies them to each request.

Other users of the machine, and every page that a browser here has open, can send requests to a port. So the page needs a
token. It checks the Host against DNS rebinding, and the Origin and a form token against requests of other pages (OWASP,
"Cross-Site Request Forgery Prevention"). A socket is guarded by its mode instead of the token.
"""

from __future__ import annotations

import hashlib
import hmac
import http.cookies
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attachd.config import addresses

#: Programs may ask these without a token; they name no file and no issue.
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})

#: Nothing is loaded from elsewhere, nothing inline runs, and no other page frames it (https://www.w3.org/TR/CSP3/).
POLICY = "; ".join(
    (
        *("default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "img-src 'self'"),
        *("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # With "no-referrer" a browser calls its own origin "null" when it posts a form (Fetch, "append a request `Origin` header").
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """The checks of a request. ``token`` is None on a socket; *names* are the host names of proxies in front."""

    secret: bytes
    token: str | None
    port: int
    names: Sequence[str] = ()

    def knows_host(self, host: str) -> bool:
        """Return True if a Host header names this machine, or a host of the configuration."""
        try:
            parts = urllib.parse.urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        # Browsers leave out port 80.
        return name in self.names or (addresses.is_loopback(name) and (self.token is None or (port or 80) == self.port))

    def knows_origin(self, origin: str, host: str) -> bool:
        """Return True if a form comes from this page."""
        try:
            parts = urllib.parse.urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc == host

    @property
    def cookie(self) -> str:
        """Return the name of the cookie; it has the port, because ports share cookies (RFC 6265, 8.5)."""
        return f"attachd-{self.port}"

    @property
    def pass_(self) -> str:
        """Return the value of the cookie; the token itself stays out of the browser's files."""
        return self._derived(b"cookie")

    @property
    def form(self) -> str:
        """Return the form token of the page."""
        return self._derived(b"form")

    def admits(self, cookies: Mapping[str, str]) -> bool:
        """Return True if the browser has shown the token before."""
        return self.token is None or hmac.compare_digest(cookies.get(self.cookie, "").encode(), self.pass_.encode())

    def is_token(self, given: str) -> bool:
        """Return True if this is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def is_form(self, given: str) -> bool:
        """Return True if this is the form token."""
        return hmac.compare_digest(given.encode(), self.form.encode())

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self.secret, purpose, hashlib.sha256).hexdigest()


class Gatekeeper:
    """Asks the gate first, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if scope["type"] != "http":
            return
        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        gate, headers, path = self._gate, Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if not gate.knows_host(host):
            said = "This host name is unknown here. If a proxy serves the page, add its name to web.hosts.\n"
            return PlainTextResponse(said, 421)
        if scope["method"] == "POST" and not gate.knows_origin(headers.get("origin", ""), host):
            return PlainTextResponse("Only this page may send its forms.\n", 403)
        if path in OPEN:
            return None
        given = urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and gate.is_token(given):
            return self._admitted(path)
        if not gate.admits(_cookies(headers)):
            said = "This page needs its token. Run `attachd web` where attachd runs: it prints the address with the token.\n"
            return PlainTextResponse(said, 401)
        return None

    def _admitted(self, path: str) -> Response:
        """Put the token into a cookie and out of the address, so that the history does not show it."""
        answer = RedirectResponse("./" if path == "/" else path.lstrip("/"), 303)
        answer.set_cookie(self._gate.cookie, self._gate.pass_, max_age=30 * 86400, httponly=True, samesite="strict")
        return answer


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        found = http.cookies.SimpleCookie(headers.get("cookie", ""))
    except http.cookies.CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}
