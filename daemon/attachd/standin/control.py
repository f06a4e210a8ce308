"""Settings and faults over HTTP, for a stand-in that runs as its own process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from attachd.standin.exchange import Site
from attachd.standin.faults import from_json
from attachd.standin.page import OWN_NAMES_ONLY
from attachd.standin.store import described


def routes(site: Site) -> list[BaseRoute]:
    """List the paths below ``/__standin__``."""

    async def add_fault(values: dict[str, Any]) -> None:
        site.faults.add(from_json(values))

    async def configure(values: dict[str, Any]) -> None:
        site.store.configure(values)

    async def add_issue(values: dict[str, Any]) -> None:
        site.store.add_issue(values["key"], values.get("summary", ""))

    async def clear_faults(_request: HttpRequest) -> Response:
        site.faults.clear()
        return Response(status_code=204)

    async def attachments(request: HttpRequest) -> Response:
        issue = request.query_params.get("issue")
        found = site.store.all_attachments() if issue is None else site.store.attachments(issue)
        return JSONResponse([described(it) for it in found])

    async def requests(request: HttpRequest) -> Response:
        issue = request.query_params.get("issue")
        return JSONResponse([asdict(record) for record in site.log.all() if issue in (None, record.issue)])

    async def comments(request: HttpRequest) -> Response:
        return JSONResponse(site.store.comments.get(request.query_params.get("issue", ""), []))

    async def hear(values: dict[str, Any]) -> None:
        site.store.heard.append(values)

    async def heard(_request: HttpRequest) -> Response:
        return JSONResponse(site.store.heard)

    return [
        Route("/__standin__/faults", _changing(add_fault), methods=["POST"]),
        Route("/__standin__/faults", clear_faults, methods=["DELETE"]),
        Route("/__standin__/set", _changing(configure), methods=["POST"]),
        Route("/__standin__/issues", _changing(add_issue), methods=["POST"]),
        Route("/__standin__/attachments", attachments, middleware=OWN_NAMES_ONLY),
        Route("/__standin__/hook", _changing(hear), methods=["POST"]),
        Route("/__standin__/hook", heard, middleware=OWN_NAMES_ONLY),
        Route("/__standin__/comments", comments, middleware=OWN_NAMES_ONLY),
        Route("/__standin__/requests", requests, middleware=OWN_NAMES_ONLY),
    ]


def _changing(change: Callable[[dict[str, Any]], Awaitable[None]]) -> Callable[[HttpRequest], Awaitable[Response]]:
    """Pass the JSON of a request to *change*, and answer 400 to what it does not understand."""

    async def endpoint(request: HttpRequest) -> Response:
        # A web page can send this type only with the server's consent (CORS), which the stand-in never gives.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "send application/json"}, 415)
        try:
            await change(json.loads(await request.body()))
        except (ValueError, TypeError, KeyError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody hears it
        return Response(status_code=204)

    return endpoint
