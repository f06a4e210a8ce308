"""Every REST endpoint except the upload: issues, attachments, the account, and the server."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from attachd.standin import shapes
from attachd.standin.access import Caller, granted, visible
from attachd.standin.exchange import Exchange
from attachd.standin.store import Attachment

#: Bytes read at once from a stored file.
BLOCK = 1 << 18


class Download(Response):
    """A stored file as a reply, read block by block."""

    def __init__(self, path: Path, mime: str, headers: dict[str, str]) -> None:
        """Answer with the bytes of *path*."""
        size = path.stat().st_size
        super().__init__(b"", 200, headers | {"content-length": str(size)}, mime)
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  Starlette's names
        """Send head and blocks."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._path.open("rb") as file:
            while block := file.read(BLOCK):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def download(it: Attachment) -> Download:
    """Answer with an attachment to save. The browser never shows it, whatever type it claims."""
    name = urllib.parse.quote(it.filename, safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "X-Content-Type-Options": "nosniff"}
    return Download(it.path, "application/octet-stream", headers)


async def issue(x: Exchange) -> Response:
    """``GET issue/{key}``."""
    found = x.store.find_issue(x.http.path_params["key"])
    if found is None or not visible(x.store, x.who, found):
        return shapes.refusal(404, shapes.NOT_THERE)
    wanted = {name.strip() for name in x.http.query_params.get("fields", "").split(",") if name.strip()}
    return JSONResponse(shapes.issue(x.store, x.site.base, found, wanted))


async def comment(x: Exchange) -> Response:
    """``POST`` and ``GET issue/{key}/comment``, in the plain text of version 2; the newest first."""
    found = x.store.find_issue(x.http.path_params["key"])
    if found is None or not visible(x.store, x.who, found):
        return shapes.refusal(404, shapes.NOT_THERE)
    if x.http.method == "GET":
        return JSONResponse({"comments": list(reversed(x.store.comments.get(found.key, [])))})
    if found.key in x.store.read_only:
        return shapes.refusal(403, "You do not have the permission to comment on this issue.")
    values = await x.http.json()
    made = {"id": str(len(x.store.comments) + 1), "body": values["body"], "properties": values.get("properties", [])}
    x.store.comments.setdefault(found.key, []).append(made)
    return JSONResponse(made, 201)


async def meta(x: Exchange) -> Response:
    """``GET attachment/meta``."""
    return JSONResponse({"enabled": x.store.attachments_enabled, "uploadLimit": x.store.upload_limit})


def _attachment(x: Exchange) -> Attachment | None:
    """Return the attachment of a path, if the caller may see its issue."""
    it = x.store.attachment(x.http.path_params["id"])
    if it is None or not x.store.attachments_enabled or not visible(x.store, x.who, x.store.find_issue(it.issue)):
        return None
    return it


def _no_attachment(x: Exchange) -> Response:
    return shapes.refusal(404, f"The attachment with id '{x.http.path_params['id']}' does not exist")


async def attachment(x: Exchange) -> Response:
    """``GET attachment/{id}``."""
    it = _attachment(x)
    return _no_attachment(x) if it is None else JSONResponse(shapes.metadata(x.store, x.site.base, it))


async def delete(x: Exchange) -> Response:
    """``DELETE attachment/{id}``."""
    it = _attachment(x)
    if it is None:
        return _no_attachment(x)
    x.store.delete(it.id)
    return Response(b"", 204)


async def content(x: Exchange) -> Response:
    """``GET attachment/content/{id}`` and ``thumbnail/{id}``: a redirect, or the bytes with ``redirect=false``."""
    it = _attachment(x)
    if it is None:
        return _no_attachment(x)
    if x.http.query_params.get("redirect", "true").lower() == "false":
        return download(it)
    return Response(b"", 303, {"Location": f"{x.site.base}/__standin__/download/{it.id}"})


async def secure(x: Exchange) -> Response:
    """``/secure/attachment/{id}/{name}``: not REST, so that a personal access token leads to the login on many sites."""
    it = _attachment(x)
    scheme = x.http.headers.get("authorization", "").partition(" ")[0].lower()
    if it is None or scheme not in x.store.secure_schemes:
        return Response(b"", 302, {"Location": f"{x.store.base_path}/login.jsp?permissionViolation=true"})
    return download(it)


async def myself(x: Exchange) -> Response:
    """``GET myself``: the only resource that is never anonymous."""
    if x.who is not Caller.KNOWN:
        return shapes.refusal(401, shapes.NOT_LOGGED_IN)
    return JSONResponse(shapes.user(x.store, x.site.base))


async def server_info(x: Exchange) -> Response:
    """``GET serverInfo``."""
    return JSONResponse(shapes.server_info(x.store, x.site.base))


async def tenant(x: Exchange) -> Response:
    """``GET /_edge/tenant_info``."""
    return JSONResponse({"cloudId": x.store.cloud_id})


async def permissions(x: Exchange) -> Response:
    """``GET mypermissions``: on Cloud of those asked for, on Data Center of all."""
    query = x.http.query_params
    named = query.get("issueKey") or query.get("issueId")
    found = x.store.find_issue(named) if named else None
    if named and not visible(x.store, x.who, found):
        return shapes.refusal(404, shapes.NOT_THERE)
    project = "" if named else query.get("projectKey", "")
    if project and (project in x.store.invisible or not x.store.has_project(project)):
        return shapes.refusal(404, f"No project could be found with key '{project}'.")
    all_of_them = granted(x.store, x.who, found, project)
    if not x.store.cloud:
        if x.who is not Caller.KNOWN:
            return shapes.refusal(401, shapes.NOT_LOGGED_IN)
        return JSONResponse(shapes.permissions(list(all_of_them), all_of_them))
    wanted = [key for key in query.get("permissions", "").split(",") if key]
    if not wanted:
        return shapes.refusal(400, "The 'permissions' query parameter is required.")
    if unknown := [key for key in wanted if key not in all_of_them]:
        return shapes.refusal(400, f"Unrecognized permission: {', '.join(unknown)}")
    return JSONResponse(shapes.permissions(wanted, all_of_them))


async def unknown(x: Exchange) -> Response:
    """Answer for every unknown REST path."""
    return JSONResponse({"message": f"null for uri: {x.http.url}", "status-code": 404}, 404)
