"""The web page for people who want to see attachments. It changes nothing, and trusts no uploaded content."""

from __future__ import annotations

import importlib.resources
from collections.abc import Awaitable, Callable

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from attachd.standin import view
from attachd.standin.exchange import Site
from attachd.standin.rest import Download, download

#: Any other Host header comes from a page elsewhere whose name points to this machine (DNS rebinding).
OWN_NAMES = ["127.0.0.1", "localhost"]
OWN_NAMES_ONLY = [Middleware(TrustedHostMiddleware, allowed_hosts=OWN_NAMES, www_redirect=False)]

_ASSETS = {"app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def routes(site: Site) -> list[BaseRoute]:
    """List the paths of the page."""
    return [
        _route("/", _document(site)),
        _route("/browse/{key}", _document(site)),
        _route("/__standin__/fragment", _fragment(site)),
        _route("/__standin__/preview/{id}", _preview(site)),
        *(_route(f"/__standin__/{name}", _asset(name, mime)) for name, mime in _ASSETS.items()),
    ]


def downloads(site: Site) -> list[BaseRoute]:
    """List the path of stored files, which exists without the page too."""

    async def endpoint(request: HttpRequest) -> Response:
        it = site.store.attachment(request.path_params["id"])
        return Response("Not found", 404) if it is None else download(it)

    return [_route("/__standin__/download/{id}", endpoint)]


def signpost(site: Site) -> list[BaseRoute]:
    """Redirect from the root to the page."""

    async def endpoint(_request: HttpRequest) -> Response:
        return RedirectResponse(f"{site.store.base_path}/")

    return [_route("/", endpoint)]


def _route(path: str, endpoint: Endpoint) -> BaseRoute:
    return Route(path, endpoint, middleware=OWN_NAMES_ONLY)


def _document(site: Site) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        key = request.path_params.get("key")
        content = _content(site, key)
        address = f"{site.store.base_path}/__standin__/fragment" + (f"?issue={key}" if content and key else "")
        title = f"{key} - Stand-in Jira" if key else "Stand-in Jira"
        page = view.document(site.store, title, address, content or view.missing(key or ""))
        return HTMLResponse(page, 200 if content else 404, _COMMON | _policy(request))

    return endpoint


def _policy(request: HttpRequest) -> dict[str, str]:
    own = f"{request.url.scheme}://{request.url.netloc}"
    here = own + request.scope.get("root_path", "")
    return {
        "Content-Security-Policy": f"default-src 'none'; script-src {here}/__standin__/app.js; "
        f"style-src {here}/__standin__/style.css; img-src {own}; connect-src {own}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def _content(site: Site, key: str | None) -> str | None:
    """Return the content of the page: the overview, one issue, or None if it does not exist."""
    if key is None:
        return view.overview(site.store)
    found = next((subject for subject in view.subjects(site.store) if subject.issue.key == key.upper()), None)
    return None if found is None else view.issue(site.store, found)


def _fragment(site: Site) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        tag = f'"{site.store.version}"'
        headers = _COMMON | {"ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content = _content(site, request.query_params.get("issue"))
        return HTMLResponse(content or "", 200 if content else 404, headers)

    return endpoint


def _preview(site: Site) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        it = site.store.attachment(request.path_params["id"])
        mime = None if it is None else view.image_type(it.path)
        if it is None or mime is None:
            return Response("Not found", 404, _COMMON)
        headers = _COMMON | {"Content-Security-Policy": "default-src 'none'; sandbox", "Content-Disposition": "inline"}
        return Download(it.path, mime, headers)

    return endpoint


def _asset(name: str, mime: str) -> Endpoint:
    data = importlib.resources.files("attachd.standin").joinpath("assets", name).read_bytes()

    async def endpoint(_request: HttpRequest) -> Response:
        return Response(data, 200, _COMMON, mime)

    return endpoint
