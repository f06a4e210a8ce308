"""The JSON that Jira answers: attachments, users, errors."""

from __future__ import annotations

import datetime
import urllib.parse
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from attachd.standin.store import Attachment, Issue, Store

Json = dict[str, Any]

NOT_THERE = "Issue does not exist or you do not have permission to see it."
MAY_NOT_ATTACH = "You do not have permission to create attachments for this issue."
NOT_LOGGED_IN = "Client must be authenticated to access this resource."


def refusal(status: int, *messages: str, headers: dict[str, str] | None = None) -> Response:
    """Refuse in Jira's own words and shape."""
    return JSONResponse({"errorMessages": list(messages), "errors": {}}, status, headers)


def lacking_scope() -> Response:
    """Refuse as Atlassian's gateway does where a token lacks a scope."""
    return JSONResponse({"code": 401, "message": "Unauthorized; scope does not match"}, 401)


def xsrf_refusal() -> Response:
    """Refuse as the filter against forged requests does."""
    return PlainTextResponse("XSRF check failed", 403)


def proxy_page(status: int, title: str) -> Response:
    """Answer as a reverse proxy does."""
    return HTMLResponse(
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
        status,
    )


def login_page(status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a page for people."""
    head = "<!DOCTYPE html><html><head><title>Log in - Jira</title></head>"
    return HTMLResponse(f"{head}<body><form id='login-form'></form></body></html>", status, headers)


def moment(milliseconds: int) -> str:
    """Write a time as Jira does: an offset without a colon."""
    at = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}+0000"


def user(store: Store, base: str, name: str | None = None) -> Json:
    """Describe an account: our own, or another by its id or name."""
    name = name or store.author
    own = name == store.author
    shown = {"displayName": "Stand-in account" if own else name, "active": True, "timeZone": "Etc/UTC"}
    if store.cloud:
        query = urllib.parse.urlencode({"accountId": name})
        return {"self": f"{base}/rest/api/3/user?{query}", "accountId": name, "accountType": "atlassian", **shown} | (
            {"emailAddress": store.user} if own else {}
        )
    query = urllib.parse.urlencode({"username": name})
    return {"self": f"{base}/rest/api/2/user?{query}", "name": name, "key": f"JIRAUSER-{name}", **shown}


def attachment(store: Store, base: str, it: Attachment) -> Json:
    """Describe an attachment as an upload's answer and an issue do."""
    version = "3" if store.cloud else "2"
    content = f"{base}/rest/api/3/attachment/content/{it.id}"
    if not store.cloud:
        content = f"{base}/secure/attachment/{it.id}/{urllib.parse.quote(it.filename, safe='')}"
    shown = {
        "self": f"{base}/rest/api/{version}/attachment/{it.id}",
        "id": it.id,
        "filename": it.filename,
        "author": user(store, base, it.author),
        "created": it.created if store.created_as_millis else moment(it.created),
        "size": it.size,
        "mimeType": it.mime,
        "content": content,
    }
    if it.mime.startswith("image/"):
        shown["thumbnail"] = content.replace("/attachment/content/", "/attachment/thumbnail/")
    return shown


def metadata(store: Store, base: str, it: Attachment) -> Json:
    """Describe an attachment as ``GET attachment/{id}`` does: with a number for its id."""
    return attachment(store, base, it) | {"id": int(it.id)}


def issue(store: Store, base: str, it: Issue, wanted: set[str]) -> Json:
    """Describe an issue with those of its fields that are *wanted*."""
    everything = not wanted or "*all" in wanted
    fields: Json = {}
    if everything or "summary" in wanted:
        fields["summary"] = it.summary
    if (everything or "attachment" in wanted) and not store.hide_attachment_field:
        fields["attachment"] = [attachment(store, base, one) for one in store.shown_of(it)]
    version = "3" if store.cloud else "2"
    return {
        "expand": "renderedFields,names,schema,operations,editmeta,changelog",
        "id": str(it.id),
        "self": f"{base}/rest/api/{version}/issue/{it.id}",
        "key": it.key,
        "fields": fields,
    }


def permissions(wanted: list[str], granted: dict[str, bool]) -> Json:
    """Describe what the account may do."""
    return {
        "permissions": {
            key: {
                "id": str(number),
                "key": key,
                "name": key.replace("_", " ").title(),
                "type": "GLOBAL" if key == "ADMINISTER" else "PROJECT",
                "description": "",
                "havePermission": granted[key],
            }
            for number, key in enumerate(granted, 10)
            if key in wanted
        }
    }


def server_info(store: Store, base: str) -> Json:
    """Describe the server."""
    numbers = [1001, 0, 0] if store.cloud else [10, 3, 24]
    return {
        "baseUrl": base,
        "version": "1001.0.0-SNAPSHOT" if store.cloud else "10.3.24",
        "versionNumbers": numbers,
        "deploymentType": store.deployment,
        "buildNumber": 100_000,
        "buildDate": "2026-01-01T00:00:00.000+0000",
        "serverTime": moment(store.now_ms()),
        "scmInfo": "standin",
        "serverTitle": "Stand-in Jira",
    }
