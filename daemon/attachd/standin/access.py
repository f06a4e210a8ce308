"""Who is asking, and what the account may do with an issue."""

from __future__ import annotations

import base64
import binascii
import enum
import hmac

from starlette.datastructures import Headers

from attachd.standin.records import Issue
from attachd.standin.settings import Settings


class Caller(enum.Enum):
    """What the credentials of a request prove."""

    KNOWN = "OK"
    WRONG = "AUTHENTICATED_FAILED"
    ANONYMOUS = ""


def caller(settings: Settings, headers: Headers) -> Caller:
    """Judge the credentials: the account's name and token, or the token as a bearer's."""
    given = headers.get("authorization")
    if given is None:
        return Caller.ANONYMOUS
    scheme, _, value = given.partition(" ")
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
    """Whether *keys* name the issue or its project."""
    return issue.key in keys or issue.key.rpartition("-")[0] in keys


def visible(settings: Settings, who: Caller, issue: Issue | None) -> bool:
    """Whether the caller may know that the issue exists."""
    return issue is not None and who is Caller.KNOWN and not concerned(issue, settings.invisible)


def granted(settings: Settings, who: Caller, issue: Issue | None) -> dict[str, bool]:
    """List the permissions that there are, and whether the caller has them (on *issue*, if one is named)."""
    known = who is Caller.KNOWN
    return {
        "BROWSE_PROJECTS": known,
        "CREATE_ATTACHMENTS": known and not (issue is not None and concerned(issue, settings.read_only)),
        "DELETE_OWN_ATTACHMENTS": known,
        "DELETE_ALL_ATTACHMENTS": known,
        "ADD_COMMENTS": known,
        "EDIT_ISSUES": known,
        "ADMINISTER": False,
    }
