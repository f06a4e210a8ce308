"""Which API a site speaks, who we are there, and its limits; read from Jira's answers. Only ``discover`` asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attachd.jira import attachments as jira_attachments
from attachd.jira import client, connection, rate_limits, verdict
from attachd.jira.reply import Broken, Exchange, Reply
from attachd.model import Cure, Fault, Scope

#: The version of the API that a configured ``jira.deployment`` means; none for ``auto``.
CONFIGURED = {"cloud": "3", "datacenter": "2"}
#: Asks Jira one question, as ``connection.ask`` does.
Ask = Callable[[Callable[[], Exchange]], Exchange]


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which API a site speaks ("3" on Cloud, else "2"), or why attachd cannot know; *answer* is the reply that says so."""

    api: str | Fault
    answer: Exchange


def discover(asker: client.Client, known: str = "", ask: Ask = connection.ask) -> Discovery:
    """Ask the site which API it speaks. *known* is the version if the configuration names it.

    Both kinds of Jira answer at version 2. Where a proxy or gateway hides that path, version 3 is asked too. A site that
    does not answer, that fails (5xx) or that asks attachd to wait (429) is not asked a second question.
    """
    answer = ask(lambda: asker.server_info(known or "2"))
    api = deployment(answer)
    hidden = isinstance(api, Fault) and isinstance(answer, Reply) and answer.status < 500 and answer.status != 429
    if hidden and not known:
        answer = ask(lambda: asker.server_info("3"))
        api = deployment(answer)
    return Discovery(api, answer)


@dataclass(frozen=True, slots=True)
class Limits:
    """``GET attachment/meta``: whether files may be attached at all, and the largest size (None: unknown).

    ``twice``: this combines two answers.
    """

    enabled: bool
    largest: int | None
    at: float
    twice: bool = False


def deployment(outcome: Exchange) -> str | Fault:
    """Read ``serverInfo``: the version of the API ("3" on Cloud, else "2"), or why it cannot be known."""
    if isinstance(outcome, Broken):
        return verdict.unreachable(outcome)
    answer = outcome.json
    if outcome.status == 200 and isinstance(answer, dict) and {"deploymentType", "version", "baseUrl"} & answer.keys():
        return "3" if answer.get("deploymentType") == "Cloud" else "2"
    return not_jira(outcome)


def pages(outcome: Exchange) -> str | None:
    """Read from ``serverInfo`` the address of the site for people, which may differ from that of its API."""
    answer = outcome.json if isinstance(outcome, Reply) and outcome.status == 200 else None
    base = answer.get("baseUrl") if isinstance(answer, dict) else None
    if not isinstance(base, str) or not base.isprintable() or " " in base:
        return None
    return base.rstrip("/") if base.startswith(("https://", "http://")) else None


def who(outcome: Exchange) -> str | Fault:
    """Read ``myself``: the id of attachd's account, or what is wrong."""
    if isinstance(outcome, Broken):
        return verdict.unreachable(outcome)
    if outcome.status == 200 and not verdict.failed_login(outcome):
        account = jira_attachments.account_id(outcome.json)
        if account:
            return account
    return not_jira(outcome) if outcome.status != 200 else _account(outcome)


def _account(reply: Reply) -> Fault:
    if verdict.failed_login(reply):
        return verdict.account(reply)
    reason = "the site answers with a web page where Jira's answer was expected; a login page or a wrong base path"
    return Fault(Scope.ACCOUNT, "login-page", reason, cure=Cure.PROBE)


def not_jira(reply: Reply) -> Fault:
    """Return the fault that an unexpected answer to a harmless question shows."""
    if reply.status == 429:
        return verdict.throttled(reply, "")
    refused = reply.status == 401 or (reply.status == 403 and reply.is_jira)
    if refused or reply.header("x-authentication-denied-reason"):
        return verdict.account(reply)
    if 300 <= reply.status < 400:
        return verdict.redirected(reply)
    if reply.status >= 500:
        reason = f"Jira answered {reply.status}: it has trouble of its own"
        return Fault(Scope.SITE, "server-error", reason, cure=Cure.PROBE, wait=rate_limits.retry_after(reply))
    if reply.status == 200:
        return _account(reply)
    return verdict.stranger(reply)


def wider(one: Limits, other: Limits) -> Limits:
    """Return the wider limits of two answers. Pure."""
    largest = None if one.largest is None or other.largest is None else max(one.largest, other.largest)
    return Limits(one.enabled or other.enabled, largest, max(one.at, other.at), twice=True)


def limits(outcome: Exchange, boot: float) -> Limits | None:
    """Read ``attachment/meta``; None if it says nothing, as for an account that may not read it."""
    answer: Any = outcome.json if isinstance(outcome, Reply) and outcome.status == 200 else None
    if not isinstance(answer, dict) or not isinstance(answer.get("enabled"), bool):
        return None
    largest = answer.get("uploadLimit")
    return Limits(answer["enabled"], largest if isinstance(largest, int) and largest > 0 else None, boot)
