"""The stand-in as a web application: its paths, and the steps of every request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from attachd.standin import control, fault_actions, page, rest, shapes
from attachd.standin.access import Caller, caller, identity_headers, lacks_scope
from attachd.standin.exchange import Exchange, Over, Site, Struck
from attachd.standin.store import Request
from attachd.standin.tokens import token
from attachd.standin.upload import upload
from attachd.standin.wire import wire_of

Handler = Callable[[Exchange], Awaitable[Response]]

#: Resources that answer every caller, with any credentials.
OPEN = ("serverInfo", "meta", "tenant", "token")


class Endpoint:
    """One REST resource as an ASGI application: logging, faults, authentication, then its handler."""

    def __init__(self, site: Site, where: str, handler: Handler) -> None:
        """Use the name *where* for the faults of this resource."""
        self._site, self._where, self._handler = site, where, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request from its head to its log entry."""
        x = self._begun(HttpRequest(scope, receive))
        try:
            reply = await self._reply(x)
        except (Over, ClientDisconnect):
            self._end(x)
            return
        x.record.status = None if x.wire.gone else reply.status_code
        # The log is complete before the client can see the answer, so that a test may look at once.
        self._end(x)
        await reply(scope, receive, send)

    def _begun(self, http: HttpRequest) -> Exchange:
        key = http.path_params.get("key")
        record = Request(http.method, http.url.path, http.url.query, key)
        fault = self._site.faults.take(self._where, key)
        record.fault = fault.kind if fault else None
        self._site.log.add(record)
        who = caller(self._site.store, http.headers, gateway="/ex/jira/" in http.url.path)
        return Exchange(self._site, http, wire_of(http.state), record, fault, who)

    async def _reply(self, x: Exchange) -> Response:
        await fault_actions.at_head(x)
        try:
            reply = await self._judged(x)
        except Struck:
            reply = await fault_actions.in_body(x)
        for name, value in identity_headers(x.store, x.who).items():
            reply.headers[name] = value
        return fault_actions.stamped(x, await fault_actions.on_reply(x, reply))

    async def _judged(self, x: Exchange) -> Response:
        """Refuse what Jira refuses before any resource; let the handler answer the rest."""
        refusal, headers = self._refused(x)
        reply = refusal or await self._handler(x)
        if not x.record.complete:
            async for _ in x.body():
                pass
        for name, value in headers.items():
            reply.headers[name] = value
        return reply

    def _refused(self, x: Exchange) -> tuple[Response | None, dict[str, str]]:
        if x.who is Caller.WRONG and self._is_told(x) and self._where not in OPEN:
            return shapes.refusal(401, shapes.NOT_LOGGED_IN), {}
        if lacks_scope(x.store, x.who, self._where):
            return shapes.lacking_scope(), {}
        if not x.store.limits or x.store.cloud or x.who is not Caller.KNOWN:
            return None, {}
        granted, headers = x.site.bucket.admit(x.store.moment())
        return (None if granted else shapes.refusal(429, "Rate limit exceeded.")), headers

    def _is_told(self, x: Exchange) -> bool:
        """Return True if wrong credentials get a 401. The gateway never treats them as anonymous."""
        return not x.store.anonymous_fallthrough or x.store.scoped or "/ex/jira/" in x.record.path

    def _end(self, x: Exchange) -> None:
        x.record.ended = True
        x.site.store.note("request", **asdict(x.record))
        x.site.log.touch()


def application(site: Site, *, with_page: bool) -> Starlette:
    """Build the application."""
    routes: list[BaseRoute] = [*control.routes(site), *page.downloads(site)]
    if with_page:
        routes += page.routes(site)
    tenant = Route("/_edge/tenant_info", Endpoint(site, "tenant", rest.tenant), methods=["GET"])
    tokens = _tokens(site)
    gateway = Mount(f"/ex/jira/{site.store.cloud_id}", routes=_rest(site))
    routes += [tenant, *tokens, gateway, *_rest(site)]
    if not site.store.base_path:
        return Starlette(routes=routes)
    # Control, the page's files and the tenant's id are at the root too, for clients without the base path.
    outside = [*control.routes(site), tenant, *tokens, *page.signpost(site)]
    return Starlette(routes=[Mount(site.store.base_path, routes=routes), *outside])


def _tokens(site: Site) -> list[BaseRoute]:
    endpoint = Endpoint(site, "token", token)
    return [Route(path, endpoint, methods=["POST"]) for path in ("/oauth/token", "/rest/oauth2/latest/token")]


def _rest(site: Site) -> list[BaseRoute]:
    versions = ("2", "3") if site.store.cloud else ("2",)
    routes = [route for version in versions for route in _of_version(site, f"/rest/api/{version}")]
    if not site.store.cloud:
        secure = Endpoint(site, "content", rest.secure)
        routes.append(Route("/secure/attachment/{id}/{name:path}", secure, methods=["GET"]))
    unknown = Endpoint(site, "other", rest.unknown)
    return [*routes, Route("/rest/{path:path}", unknown)]


def _of_version(site: Site, prefix: str) -> list[BaseRoute]:
    table: list[tuple[str, str, str, Handler]] = [
        ("POST", "/issue/{key}/attachments", "upload", upload),
        ("GET", "/issue/{key}", "listing", rest.issue),
        ("GET", "/issue/{key}/comment", "comment", rest.comment),
        ("POST", "/issue/{key}/comment", "comment", rest.comment),
        ("GET", "/attachment/meta", "meta", rest.meta),
        ("GET", "/attachment/{id}", "attachment", rest.attachment),
        ("DELETE", "/attachment/{id}", "attachment", rest.delete),
        ("GET", "/mypermissions", "permissions", rest.permissions),
        ("GET", "/myself", "myself", rest.myself),
        ("GET", "/serverInfo", "serverInfo", rest.server_info),
    ]
    if site.store.cloud:
        table += [
            ("GET", "/attachment/content/{id}", "content", rest.content),
            ("GET", "/attachment/thumbnail/{id}", "content", rest.content),
        ]
    return [
        Route(prefix + path, Endpoint(site, where, handler), methods=[method]) for method, path, where, handler in table
    ]
