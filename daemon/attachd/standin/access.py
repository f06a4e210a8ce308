"""The caller of a request, and what the account may do with an issue."""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
import time

from starlette.datastructures import Headers

from attachd.standin.settings import Settings
from attachd.standin.store import Issue


class Caller(enum.Enum):
    """The caller that the credentials of a request prove."""

    KNOWN = "OK"
    WRONG = "AUTHENTICATED_FAILED"
    ANONYMOUS = ""


#: The classic scope that a request needs if tokens have scopes. Other requests need none.
SCOPES = {
    "upload": "write:jira-work",
    "listing": "read:jira-work",
    "meta": "read:jira-work",
    "attachment": "write:jira-work",
    "content": "read:jira-work",
    "permissions": "read:jira-work",
    "myself": "read:jira-user",
}


def lacks_scope(settings: Settings, who: Caller, where: str) -> bool:
    """Return True if the gateway refuses a request because the token lacks its scope."""
    return settings.scoped and who is Caller.KNOWN and where in SCOPES and SCOPES[where] not in settings.scopes


def caller(settings: Settings, headers: Headers, *, gateway: bool) -> Caller:
    """Check the credentials: user name and token, a bearer token, or an access token."""
    given = headers.get("authorization")
    if given is None:
        return Caller.ANONYMOUS
    if settings.scoped and not gateway:
        return Caller.WRONG
    scheme, _, value = given.partition(" ")
    if scheme.lower() == "bearer" and settings.access_tokens.get(value, 0.0) > time.monotonic():
        return Caller.KNOWN
    right = {"basic": f"{settings.user}:{settings.token}", "bearer": settings.token}.get(scheme.lower())
    if right is None:
        return Caller.WRONG
    sent = _decoded(value) if scheme.lower() == "basic" else value.encode("latin-1")
    return Caller.KNOWN if hmac.compare_digest(sent, right.encode()) else Caller.WRONG


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def identity_headers(settings: Settings, who: Caller) -> dict[str, str]:
    """Name the caller as Jira does on every answer."""
    known = who is Caller.KNOWN
    if settings.cloud:
        name = {"X-AAccountId": settings.account_id} if known else {}
    else:
        name = {"X-AUSERNAME": settings.user if known else "anonymous"}
    return name | ({"X-Seraph-LoginReason": who.value} if who.value else {})


def concerned(issue: Issue, keys: set[str]) -> bool:
    """Return True if *keys* contain the issue or its project."""
    return issue.key in keys or issue.key.rpartition("-")[0] in keys


def visible(settings: Settings, who: Caller, issue: Issue | None) -> bool:
    """Return True if the caller may know that the issue exists."""
    return issue is not None and who is Caller.KNOWN and not concerned(issue, settings.invisible)


def granted(settings: Settings, who: Caller, issue: Issue | None, project: str = "") -> dict[str, bool]:
    """List all permissions, and whether the caller has them (on *issue* or in *project*, if given)."""
    known = who is Caller.KNOWN
    read_only = concerned(issue, settings.read_only) if issue is not None else project in settings.read_only
    return {
        "BROWSE_PROJECTS": known,
        "CREATE_ATTACHMENTS": known and not read_only,
        "DELETE_OWN_ATTACHMENTS": known,
        "DELETE_ALL_ATTACHMENTS": known,
        "ADD_COMMENTS": known,
        "EDIT_ISSUES": known,
        "ADMINISTER": False,
    }
