"""Who may see the page, and who may press its buttons. Pure decisions, and the one piece of ASGI that asks them first.

On a port other users of the machine, and every page that a browser here has open, can send requests: so a token is needed, the
Host is checked against names that are pointed here (DNS rebinding), and the Origin and a form's own token against requests that
another page makes (OWASP, "Cross-Site Request Forgery Prevention"). A socket is guarded by its mode instead of the token.
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

#: What machines ask without a token; nothing of it names a file or an issue.
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})

#: Nothing is loaded from elsewhere, nothing inline runs, and nobody frames it (https://www.w3.org/TR/CSP3/).
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
    """What is asked of a request. ``token`` is None on a socket; *names* are those under which a proxy serves the page."""

    secret: bytes
    token: str | None
    port: int
    names: Sequence[str] = ()

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this machine itself, or a name of the configuration."""
        try:
            parts = urllib.parse.urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        # 80 is the one that browsers leave out.
        return name in self.names or (addresses.is_loopback(name) and (self.token is None or (port or 80) == self.port))

    def knows_origin(self, origin: str, host: str) -> bool:
        """Whether the page that sends a form is this one."""
        try:
            parts = urllib.parse.urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc == host

    @property
    def cookie(self) -> str:
        """The name of the cookie; ports share their cookies (RFC 6265, 8.5)."""
        return f"attachd-{self.port}"

    @property
    def pass_(self) -> str:
        """What the cookie holds: the token itself stays out of the browser's files."""
        return self._derived(b"cookie")

    @property
    def form(self) -> str:
        """What each form of the page carries."""
        return self._derived(b"form")

    def admits(self, cookies: Mapping[str, str]) -> bool:
        """Whether the browser has shown the token before."""
        return self.token is None or hmac.compare_digest(cookies.get(self.cookie, "").encode(), self.pass_.encode())

    def is_token(self, given: str) -> bool:
        """Whether this is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def is_form(self, given: str) -> bool:
        """Whether a form is one of the page's own."""
        return hmac.compare_digest(given.encode(), self.form.encode())

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self.secret, purpose, hashlib.sha256).hexdigest()


class Gatekeeper:
    """Asks the gate before anything else, and gives every answer its headers."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        """Stand before *app*."""
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""

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
            said = "This page is known here under another name. A proxy in front of it: name it in web.hosts.\n"
            return PlainTextResponse(said, 421)
        if scope["method"] == "POST" and not gate.knows_origin(headers.get("origin", ""), host):
            return PlainTextResponse("Forms are taken from this page alone.\n", 403)
        if path in OPEN:
            return None
        given = urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and gate.is_token(given):
            return self._admitted(path)
        if not gate.admits(_cookies(headers)):
            said = "This page needs its token. `attachd web`, on the machine where attachd runs, prints the address with it.\n"
            return PlainTextResponse(said, 401)
        return None

    def _admitted(self, path: str) -> Response:
        """The token goes into a cookie, out of the address, where history and others over one's shoulder would see it."""
        answer = RedirectResponse("./" if path == "/" else path.lstrip("/"), 303)
        answer.set_cookie(self._gate.cookie, self._gate.pass_, max_age=30 * 86400, httponly=True, samesite="strict")
        return answer


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        found = http.cookies.SimpleCookie(headers.get("cookie", ""))
    except http.cookies.CookieError:
        return {}
    return {name: morsel.value for name, morsel in found.items()}
