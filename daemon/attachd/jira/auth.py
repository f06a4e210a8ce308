"""The header that signs each request, from a token that may change while attachd runs."""

from __future__ import annotations

import base64
import re
import threading
import urllib.parse
from collections.abc import Callable

from attachd.errors import Mistake
from attachd.jira.reply import Exchange, Reply
from attachd.model import Cure, Fault, Scope


class Credentials:
    """The ``Authorization`` header's value; read again on ``reload``, shared by all workers.

    Basic and bearer as in Atlassian's "Basic auth for REST APIs" and "Personal access tokens"; sent without being asked,
    because Jira does not challenge where it allows anonymous use.
    """

    def __init__(self, kind: str, user: str, read: Callable[[], str] | None) -> None:
        """*read* returns the token, or raises ``errors.Mistake``."""
        self._kind = kind
        self._user = user
        self._read = read
        self._lock = threading.Lock()
        self._token: str | None = None
        #: Changes with the token: an answer to a request with another token says nothing about this one.
        self.generation = 0

    @property
    def anonymous(self) -> bool:
        """Return True if requests have no credentials."""
        return self._read is None

    def header(self) -> str | None:
        """Return the header's value, None for anonymous. Raises ``errors.Mistake`` if the token cannot be read."""
        if self._read is None:
            return None
        with self._lock:
            if self._token is None:
                self._token = self._read()
            token = self._token
        if self._kind == "bearer":
            return f"Bearer {token}"
        return "Basic " + base64.b64encode(f"{self._user}:{token}".encode()).decode()

    def reload(self) -> bool:
        """Read the token again, and return True if it has changed. Raises ``errors.Mistake`` and keeps the old one."""
        if self._read is None:
            return False
        fresh = self._read()
        with self._lock:
            changed = fresh != self._token
            self.generation += changed
            self._token = fresh
        return changed

    def renew(self, refused: str) -> None:
        """Return None: unlike OAuth, a fixed token has no other header than *refused*."""


def unreadable(mistake: Mistake) -> Fault:
    """Return the fault of an unreadable token, which concerns the account and no single file."""
    return Fault(Scope.ACCOUNT, "token", f"the token cannot be read: {mistake}", cure=Cure.PROBE)


# Atlassian's gateway: the only address of a Jira Cloud site that accepts tokens with scopes. The site's own address answers
# them with the same 401 as an expired token (Atlassian, "Manage API tokens").

ADDRESS = "https://api.atlassian.com/ex/jira/"
_CLOUD_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")


def may_be_needed(url: str, kind: str) -> bool:
    """Return True if a 401 from the site at *url* may only mean that the token belongs to the gateway."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return kind in ("basic", "oauth2") and host.endswith(".atlassian.net")


def address(answer: Exchange) -> str | None:
    """Return the site's address at the gateway from its ``_edge/tenant_info``, or None."""
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    cloud_id = told.get("cloudId") if isinstance(told, dict) else None
    return ADDRESS + cloud_id if isinstance(cloud_id, str) and _CLOUD_ID.fullmatch(cloud_id) else None


def hint(kind: str, where: str) -> str:
    """Return a hint at the address that may accept the token."""
    if kind == "oauth2":
        return f'OAuth access tokens work only with jira.url = "{where}"'
    return f'an API token with scopes works only with jira.url = "{where}"'
