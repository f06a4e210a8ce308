"""Getting to know the site before the first file is sent, and finding out whether it is well again."""

from __future__ import annotations

from dataclasses import replace

import structlog

from attachd.delivery import pausing, witnesses
from attachd.delivery import site as site_
from attachd.delivery.desk import Desk
from attachd.jira import auth
from attachd.jira.client import Client
from attachd.jira.exchange import Reply
from attachd.journal import database
from attachd.journal.pauses import Pause
from attachd.model import Cure, Fault, Mistake, Scope

log = structlog.get_logger()

#: The kind of the pause while no issue that accepted files can be seen any more.
NO_WITNESS = "no-witness"


def introduce(desk: Desk, client: Client) -> Fault | None:
    """Learn which API the site speaks, who we are there and what time it has; None when all is known.

    Each row that is sent holds our author id and the server's time, so nothing is sent before both are known.
    """
    site = desk.site
    if not site.version or not site.clock_known:
        found = deployment(desk, client)
        if isinstance(found, Fault) and not (site.version and site.clock_known):
            # Where the configuration says what it is, the clock is all that was wanted.
            return found
        site.version = site.version or str(found)
    if not desk.credentials.anonymous:
        account = site_.who(site.hear(desk.asked(lambda: client.myself(site.version))))
        if isinstance(account, Fault) and account.kind != "scope":
            return account
        # A token without the scope for this question may well attach files; a missing author fits in every look.
        site.author = None if isinstance(account, Fault) else account
    site.introduced = True
    log.info("site.met", url=site.url, api=site.version, account=site.author or "anonymous")
    return None


def deployment(desk: Desk, client: Client) -> str | Fault:
    """Ask what the site is. Both kinds have version 2 of the API; where something hides that, 3 is asked too."""
    site = desk.site
    found: str | Fault = ""
    for version in [site.version] if site.version else ["2", "3"]:
        answer = site.hear(desk.asked(lambda: client.server_info(version)))  # noqa: B023
        found = site_.deployment(answer)
        _remember_pages(desk, site_.pages(answer))
        if isinstance(found, str) or not isinstance(answer, Reply) or answer.status >= 500 or answer.status == 429:
            break
    return found


def _remember_pages(desk: Desk, pages: str | None) -> None:
    """Also for a later start, at which files may be filed before the site answers."""
    if pages is not None and pages != desk.site.pages:
        desk.site.pages = pages
        with desk.journal.transaction() as connection:
            database.put(connection, "site.pages", pages)


def probe(desk: Desk, client: Client, held: Pause) -> None:
    """Ask something harmless; if it is answered, uploads are let through again, else the pause grows."""
    fault = _ask(desk, client, held)
    if fault is None:
        pausing.open_for_a_try(desk, held)
    else:
        pausing.pause(desk, fault)


def _ask(desk: Desk, client: Client, held: Pause) -> Fault | None:
    site = desk.site
    try:
        with desk.turns.left():
            changed = desk.credentials.reload()
    except Mistake as mistake:
        return auth.unreadable(mistake)
    if changed:
        site.introduced = False
    if held.scope is not Scope.ACCOUNT:
        found = deployment(desk, client)
        return _as(found, held) if isinstance(found, Fault) else None
    nameless = desk.credentials.anonymous or (held.kind == "scope" and site.author is None)
    if nameless or held.kind == NO_WITNESS:
        # Nothing says who we are, or that is not in doubt: what we may see is.
        still = replace(_as_fault(held), wait=None)
        return still if witnesses.alive(desk, client) is False else None
    account = site_.who(site.hear(desk.asked(lambda: client.myself(site.version or "2"))))
    if isinstance(account, Fault):
        return _as(account, held)
    site.author = account
    return None


def _as_fault(held: Pause) -> Fault:
    """The same trouble again."""
    return Fault(held.scope, held.kind, held.reason, held.subject, cure=Cure.PROBE)


def _as(fault: Fault, held: Pause) -> Fault:
    """A probe that fails keeps its own pause up, whatever the reason is now."""
    return Fault(held.scope, fault.kind, fault.reason, held.subject, fault.wait, Cure.PROBE)


def limits(desk: Desk, client: Client, *, fresh: bool) -> site_.Limits | None:
    """The site's limits; *fresh*: at most 60 s old, as a refusal wants it. None where Jira does not tell them."""
    site = desk.site
    age = desk.clock.boot() - site.limits.at if site.limits else None
    if age is None or (fresh and age > site_.LIMITS_SECONDS):
        outcome = site.hear(desk.asked(lambda: client.attachment_meta(site.version)))
        known = site_.limits(outcome, desk.clock.boot())
        if known is None and isinstance(outcome, Reply):
            known = site_.Limits(True, None, desk.clock.boot())
        site.limits = known
    return site.limits
