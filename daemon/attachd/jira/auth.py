"""Who we are to Jira: the header that each request carries, from a token that may change while we run."""

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
        """*read* returns the token, and raises ``errors.Mistake`` where it cannot be had."""
        self._kind = kind
        self._user = user
        self._read = read
        self._lock = threading.Lock()
        self._token: str | None = None
        #: Changes with the token: an answer to a request that carried another one says nothing about this one.
        self.generation = 0

    @property
    def anonymous(self) -> bool:
        """Whether requests carry no credentials at all."""
        return self._read is None

    def header(self) -> str | None:
        """The header's value, None for anonymous. Raises ``errors.Mistake`` where the token cannot be read."""
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
        """Read the token again; True if it is another one now. Raises ``errors.Mistake``; the old one is kept then."""
        if self._read is None:
            return False
        fresh = self._read()
        with self._lock:
            changed = fresh != self._token
            self.generation += changed
            self._token = fresh
        return changed

    def renew(self, refused: str) -> None:
        """Say that there is no other header than *refused*: a token that somebody made is good or it is not."""


def unreadable(mistake: Mistake) -> Fault:
    """The token cannot be read: that is the account's trouble, and no file's."""
    return Fault(Scope.ACCOUNT, "token", f"the token cannot be read: {mistake}", cure=Cure.PROBE)


# Atlassian's gateway: the one address of a site on Jira Cloud at which tokens with scopes are good.
# At the site's own address they draw the same 401 as a token that has ended (Atlassian, "Manage API tokens").

ADDRESS = "https://api.atlassian.com/ex/jira/"
_CLOUD_ID = re.compile(r"[0-9A-Fa-f-]{8,64}")


def may_be_needed(url: str, kind: str) -> bool:
    """Whether a 401 from the site at *url* may only mean that the token belongs to the gateway."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return kind in ("basic", "oauth2") and host.endswith(".atlassian.net")


def address(answer: Exchange) -> str | None:
    """The site's address at the gateway, from its ``_edge/tenant_info``; None where that does not tell."""
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    cloud_id = told.get("cloudId") if isinstance(told, dict) else None
    return ADDRESS + cloud_id if isinstance(cloud_id, str) and _CLOUD_ID.fullmatch(cloud_id) else None


def hint(kind: str, where: str) -> str:
    """Say at which address the token may be good."""
    if kind == "oauth2":
        return f'access tokens of OAuth are good only at jira.url = "{where}"'
    return f'if it is an API token with scopes, it is good only at jira.url = "{where}"'
