"""OAuth 2.0: an access token that is replaced before it expires, and a refresh token that each use replaces.

A refresh invalidates the refresh token that it uses. So attachd writes the new one to disk, synchronised, before it uses the
access token, and only one process asks at a time. If attachd dies between the endpoint's answer and the disk, the new token
is lost. The next refresh gets ``invalid_grant``, and the pause asks for a new token in the configuration. A new configured
token wins over the one on disk, which is stored with a digest of the configured token that it descends from.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from attachd import heartbeat
from attachd.errors import Mistake
from attachd.jira import auth
from attachd.jira.rate_limits import retry_after
from attachd.jira.reply import Broken, Exchange, Reply, legible
from attachd.model import Cure, Fault, Scope

# The request to a token endpoint, and the meaning of its answer (RFC 6749). Nothing here sends anything.
# Secrets go into the body of the request, never into its address or into a message, because some servers repeat them in
# an error.

#: The lifetime of an access token if the endpoint does not say, in seconds. A 401 shows if it was shorter.
USUAL_SECONDS = 3600.0
#: How long before its end an access token is replaced, so that no request begins with one that is just ending.
MARGIN_SECONDS = 120.0
#: Texts that fit into a header as they are (RFC 6750, 2.1, and what servers really send).
_TOKEN = re.compile(r"[!-~]+")
_MASK = "********"


@dataclass(frozen=True, slots=True)
class Application:
    """The OAuth application, and its token endpoint."""

    token_url: str
    client_id: str
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of the configured sources. Without a refresh token the application acts for itself (client credentials)."""

    client_secret: str = field(repr=False)
    refresh_token: str | None = field(repr=False, default=None)

    @property
    def all(self) -> list[str]:
        """Every secret here."""
        return [key for key in (self.client_secret, self.refresh_token) if key]


@dataclass(frozen=True, slots=True)
class Kept:
    """The refresh token that the endpoint gave last, and a digest of the configured one that it descends from."""

    token: str = field(repr=False)
    seed: str


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token with its lifetime in seconds, and the next refresh token, if there is one."""

    access: str = field(repr=False)
    seconds: float
    refresh: str | None = field(repr=False, default=None)


def digest(seed: str) -> str:
    """Return a digest of a configured refresh token, to notice a new one."""
    return hashlib.sha256(b"attachd refresh token\0" + seed.encode()).hexdigest()


def current(seed: str, kept: Kept | None) -> str:
    """Return the refresh token to use: the successor of the configured one, or the configured one if it is new."""
    return kept.token if kept is not None and kept.seed == digest(seed) else seed


def form(application: Application, secret: str, refresh: str | None) -> dict[str, str]:
    """The fields of a token request (RFC 6749, 4.4.2 and 6)."""
    grant = {"grant_type": "client_credentials"}
    if refresh is not None:
        grant = {"grant_type": "refresh_token", "refresh_token": refresh}
    scope = {"scope": application.scope} if application.scope else {}
    return {**grant, "client_id": application.client_id, "client_secret": secret, **scope}


def good_seconds(granted: Granted) -> float:
    """Return how long to use an access token: shorter than its lifetime, and at least half of it."""
    return max(granted.seconds - MARGIN_SECONDS, granted.seconds / 2)


def read(outcome: Exchange, application: Application, secrets: Iterable[str]) -> Granted | Fault:
    """Read the endpoint's answer: tokens, or what is wrong. No word of the fault contains one of *secrets*."""
    found = _read(outcome, application)
    if isinstance(found, Granted):
        return found
    reason = found.reason
    for secret in secrets:
        reason = reason.replace(secret, _MASK)
    return _fault(found.kind, reason, found.wait)


def _read(outcome: Exchange, application: Application) -> Granted | Fault:
    where = application.token_url
    if isinstance(outcome, Broken):
        remedy = "check jira.ca_file and the machine's clock" if outcome.certificate else "attachd tries again"
        return _fault("token-unreachable", f"the token endpoint {where} cannot be reached ({outcome.error}); {remedy}")
    answer = outcome.json if isinstance(outcome.json, dict) else {}
    if outcome.status == 200:
        granted = _granted(answer)
        return granted or _fault("token-endpoint", f"{where} answers 200 without an access token; {_CHECK_URL}")
    if outcome.status == 429 or outcome.status >= 500:
        reason = f"the token endpoint {where} answers {outcome.status}; attachd tries again"
        return _fault("token-unreachable", reason, retry_after(outcome))
    if 300 <= outcome.status < 400:
        to = legible(outcome.header("location"), 200) or "nowhere"
        return _fault("token-endpoint", f"the token endpoint {where} redirects to {to}; {_CHECK_URL}")
    return _declined(outcome, answer, where)


_CHECK_URL = "check jira.auth.token_url"


def _granted(answer: dict[str, Any]) -> Granted | None:
    access, refresh = answer.get("access_token"), answer.get("refresh_token")
    if not isinstance(access, str) or not _TOKEN.fullmatch(access):
        return None
    if str(answer.get("token_type", "bearer")).lower() != "bearer":
        return None
    usable = isinstance(refresh, str) and _TOKEN.fullmatch(refresh)
    return Granted(access, _seconds(answer.get("expires_in")), refresh if usable else None)


def _seconds(given: Any) -> float:
    """Return a number, which some servers write as a text."""
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        return USUAL_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else USUAL_SECONDS


#: What to do about each error of RFC 6749, 5.2, and about ``access_denied``, which is Atlassian's for a wrong client.
_REMEDIES = {
    "invalid_grant": (
        "the refresh token is no longer valid; authorise the application again, and put the new refresh token "
        "where jira.auth.token says; no restart is needed"
    ),
    "invalid_client": "the endpoint does not accept the client; check jira.auth.client_id, and put the right secret where "
    "jira.auth.client_secret says; no restart is needed",
    "unauthorized_client": "the application may not request tokens in this way, or the refresh token belongs to another "
    "application; check jira.auth.client_id, and put new secrets where client_secret and token say",
    "invalid_scope": "the endpoint does not grant the scope; check jira.auth.scope and the scopes of the application",
}
_REMEDIES["access_denied"] = _REMEDIES["invalid_client"]


def _declined(reply: Reply, answer: dict[str, Any], where: str) -> Fault:
    error, said = legible(answer.get("error") or ""), legible(answer.get("error_description") or "")
    if not error:
        what = "a web page" if reply.is_page else "no error of OAuth"
        return _fault("token-endpoint", f"{where} answers {reply.status} with {what}; {_CHECK_URL}")
    words = f"{reply.status} {error}{': ' + said if said else ''}"
    remedy = _REMEDIES.get(error, "check client_id, client_secret, scope and token_url in [jira.auth]")
    return _fault("token-refused", f"the token endpoint gives no access token ({words}); {remedy}")


def _fault(kind: str, reason: str, wait: float | None = None) -> Fault:
    """Return the fault of a missing access token, which concerns the account: uploads stop, and each probe asks again."""
    return Fault(Scope.ACCOUNT, kind, reason, wait=wait, cure=Cure.PROBE)


class Safe(Protocol):
    """Keeps the refresh token beyond this process. Every method raises ``OSError`` if the disk fails."""

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other processes that would request a token."""

    def read(self) -> Kept | None:
        """Return what was written last, or None."""

    def make_room(self) -> None:
        """Reserve space for ``write``, because after the answer it would be too late."""

    def write(self, kept: Kept) -> None:
        """Replace the token completely and durably."""


@dataclass(frozen=True, slots=True)
class _Access:
    header: str = field(repr=False)
    until: float  #: by the clock that nobody can set


class OAuth:
    """The ``Authorization`` header's value from a token endpoint; shared by all workers, one of which asks at a time."""

    anonymous = False

    def __init__(
        self, application: Application, *, read: Callable[[], Keys], ask: Callable[[Mapping[str, str]], Exchange],
        safe: Safe, boot: Callable[[], float], hide: Callable[[str], None],
    ) -> None:  # fmt: skip
        """*read* returns what is configured or raises ``errors.Mistake``; *ask* sends a form to the token endpoint.

        *hide* keeps a token that was received out of every log.
        """
        self._application = application
        self._read, self._ask, self._safe, self._boot, self._hide = read, ask, safe, boot, hide
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._access: _Access | None = None
        self._unwritten: Kept | None = None
        self._failed: Fault | None = None
        self._generation = self._asked_for = 0

    @property
    def generation(self) -> int:
        """The number of access tokens so far: an answer to an earlier one may be due to that token."""
        return self._generation

    def header(self) -> str | Fault:
        """Return the header's value, with a new access token if the last one expires soon; or why there is none."""
        asked = self._asked_for
        with heartbeat.on_jira().holding(self._lock):
            if self._access is not None and self._boot() < self._access.until:
                return self._access.header
            return self._renewed(asked)

    def renew(self, refused: str) -> str | Fault:
        """Return the header to use after a 401 for *refused*. Another worker may have fetched it meanwhile."""
        asked = self._asked_for
        with heartbeat.on_jira().holding(self._lock):
            if self._access is not None and self._access.header != refused:
                return self._access.header
            return self._renewed(asked)

    def reload(self) -> bool:
        """Read the secrets again, and return True if they have changed. Raises ``errors.Mistake``."""
        with heartbeat.on_jira().holding(self._lock):
            fresh = self._read()
            changed, self._keys = fresh != self._keys, fresh
            if changed:
                self._access = None
            return changed

    def _renewed(self, asked: int) -> str | Fault:
        """Request a token, unless another worker did so after *asked*; waiting workers get the same answer."""
        if self._failed is None or self._asked_for == asked:
            self._access, self._failed = None, None
            found = self._outcome()
            self._asked_for += 1
            if isinstance(found, Fault):
                self._failed = found
                return found
            self._access = found
            self._generation += 1
            return found.header
        return self._failed

    def _outcome(self) -> _Access | Fault:
        try:
            self._keys = self._keys or self._read()
            found = self._fetched(self._keys)
        except Mistake as mistake:
            return auth.unreadable(mistake)
        except OSError as error:
            return _unkept(error)
        if isinstance(found, Fault):
            return found
        granted, began = found
        return _Access(f"Bearer {granted.access}", began + good_seconds(granted))

    def _fetched(self, keys: Keys) -> tuple[Granted, float] | Fault:
        if keys.refresh_token is None:
            return self._request(keys, None)
        with self._safe.locked():
            return self._exchanged(keys, keys.refresh_token)

    def _exchanged(self, keys: Keys, seed: str) -> tuple[Granted, float] | Fault:
        if self._unwritten is not None:
            # An earlier answer that could not be written contains the only valid token.
            self._safe.write(self._unwritten)
            self._unwritten = None
        # Read it every time: another process may have used the known one.
        refresh = current(seed, self._safe.read())
        self._hide(refresh)
        self._safe.make_room()
        found = self._request(keys, refresh)
        if isinstance(found, Fault) or found[0].refresh in (None, refresh):
            return found
        self._unwritten = Kept(found[0].refresh or "", digest(seed))
        self._safe.write(self._unwritten)
        self._unwritten = None
        return found

    def _request(self, keys: Keys, refresh: str | None) -> tuple[Granted, float] | Fault:
        began = self._boot()
        outcome = self._ask(form(self._application, keys.client_secret, refresh))
        found = read(outcome, self._application, [*keys.all, *([refresh] if refresh else [])])
        if isinstance(found, Fault):
            return found
        for token in (found.access, found.refresh):
            if token:
                self._hide(token)
        return found, began


def _unkept(error: OSError) -> Fault:
    where = f" ({error.filename})" if error.filename else ""
    reason = (
        f"the refresh token cannot be written to the state folder{where}: {error.strerror}; attachd sends nothing until "
        "it is: make room there, and check the folder's owner and mode"
    )
    return Fault(Scope.ACCOUNT, "token-unkept", reason, cure=Cure.PROBE)


#: The credentials of a client.
Identity = auth.Credentials | OAuth
