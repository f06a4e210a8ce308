"""What is asked of a token endpoint, and what its answer means (RFC 6749). Nothing here sends anything.

Secrets go into the body of the request, never into its address, and never into the words that are told: some servers
repeat in an error what they were asked with.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from attachd.jira.exchange import Broken, Exchange, Reply, legible
from attachd.jira.waits import retry_after
from attachd.model import Cure, Fault, Scope

#: How long an access token counts as good where the endpoint does not say; a 401 tells if it was less.
USUAL_SECONDS = 3600.0
#: How long before its end an access token is replaced, so that no request begins with one that is just ending.
MARGIN_SECONDS = 120.0
#: What fits into a header as it is (RFC 6750, 2.1, and what servers really give).
_TOKEN = re.compile(r"[!-~]+")
_MASK = "********"


@dataclass(frozen=True, slots=True)
class Application:
    """As which application tokens are asked for, and where."""

    token_url: str
    client_id: str
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """What the configured sources hold. Without a refresh token the application acts for itself (client credentials)."""

    client_secret: str = field(repr=False)
    refresh_token: str | None = field(repr=False, default=None)

    @property
    def all(self) -> list[str]:
        """Every secret of them."""
        return [key for key in (self.client_secret, self.refresh_token) if key]


@dataclass(frozen=True, slots=True)
class Kept:
    """The refresh token that the endpoint gave last, and a digest of the configured one that it descends from."""

    token: str = field(repr=False)
    seed: str


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token, for how many seconds it is good, and the refresh token that is good from now on, if there is one."""

    access: str = field(repr=False)
    seconds: float
    refresh: str | None = field(repr=False, default=None)


def digest(seed: str) -> str:
    """What is remembered of a configured refresh token: enough to see that another one was put there, and no more."""
    return hashlib.sha256(b"attachd refresh token\0" + seed.encode()).hexdigest()


def current(seed: str, kept: Kept | None) -> str:
    """The refresh token to use: what the configured one has become; or itself, where somebody put another one there."""
    return kept.token if kept is not None and kept.seed == digest(seed) else seed


def form(application: Application, secret: str, refresh: str | None) -> dict[str, str]:
    """The fields of a token request (RFC 6749, 4.4.2 and 6)."""
    grant = {"grant_type": "client_credentials"}
    if refresh is not None:
        grant = {"grant_type": "refresh_token", "refresh_token": refresh}
    scope = {"scope": application.scope} if application.scope else {}
    return {**grant, "client_id": application.client_id, "client_secret": secret, **scope}


def good_seconds(granted: Granted) -> float:
    """How long an access token is used: less than it is good, and never less than half of that."""
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
        remedy = "check jira.ca_file and the machine's clock" if outcome.certificate else "it is tried again"
        return _fault("token-unreachable", f"the token endpoint {where} cannot be reached ({outcome.error}); {remedy}")
    answer = outcome.json if isinstance(outcome.json, dict) else {}
    if outcome.status == 200:
        granted = _granted(answer)
        return granted or _fault("token-endpoint", f"{where} answers 200 without an access token; {_CHECK_URL}")
    if outcome.status == 429 or outcome.status >= 500:
        reason = f"the token endpoint {where} answers {outcome.status}; it is tried again"
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


def _seconds(told: Any) -> float:
    """Some servers write the number as a text."""
    try:
        seconds = float(told)
    except (TypeError, ValueError, OverflowError):
        return USUAL_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else USUAL_SECONDS


#: What to do about each error of RFC 6749, 5.2, and about ``access_denied``, which is Atlassian's for a wrong client.
_REMEDIES = {
    "invalid_grant": (
        "the refresh token is not good any more; authorise the application anew, and put the new refresh token "
        "where jira.auth.token says: it is taken up without a restart"
    ),
    "invalid_client": "the client is not accepted; check jira.auth.client_id, and put the right secret where "
    "jira.auth.client_secret says: it is taken up without a restart",
    "unauthorized_client": "the application may not get tokens in this way, or the refresh token is another "
    "application's; check jira.auth.client_id, and put new secrets where client_secret and token say",
    "invalid_scope": "the scope is not granted; check jira.auth.scope and what the application may do",
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
    """No access token is the account's trouble and no file's: nothing moves, and each probe asks again."""
    return Fault(Scope.ACCOUNT, kind, reason, wait=wait, cure=Cure.PROBE)
