"""Getting to know the site before the first file is sent, and finding out whether it is well again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from attachd.delivery import batch_size, pause
from attachd.delivery import site as site_
from attachd.delivery.runtime import Runtime
from attachd.errors import Mistake
from attachd.jira import auth, site_info
from attachd.jira.client import Client
from attachd.jira.reply import Exchange, Reply
from attachd.journal import contested, database, pauses, queue
from attachd.journal.pauses import Pause
from attachd.logger import get_logger
from attachd.model import Cure, Fault, Scope

# Witnesses: issues that accepted a file of ours. One that is still visible shows that the account is what it was.

#: How long an issue that accepted a file counts as a witness.
WITNESS_SECONDS = 30 * 86400.0
#: How long it counts that one could not be seen; one wrong answer takes no witness away for good.
STRUCK_SECONDS = 86400.0
#: How many are asked.
WITNESSES = 3


def known(runtime: Runtime, issue: str = "") -> list[str]:
    """Those to be asked about *issue*: from other projects first, for a lost role speaks about its project alone."""
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        found = contested.witnesses(connection, runtime.site.url, now - WITNESS_SECONDS, issue, now - STRUCK_SECONDS)
    return chosen(found, issue)


def chosen(issues: Sequence[str], issue: str) -> list[str]:
    """A few of as many projects as there are, those of the own project last: one project may have been deleted. Pure."""
    turns: Counter[str] = Counter()
    by_turn = []
    for witness in issues:
        project = pauses.project(witness)
        by_turn.append((turns[project], witness))
        turns[project] += 1
    few = [witness for _, witness in sorted(by_turn, key=lambda each: each[0])[:WITNESSES]]
    return sorted(few, key=lambda witness: pauses.project(witness) == pauses.project(issue))


def ask(runtime: Runtime, client: Client, issue: str) -> Exchange:
    """Ask for the listing of an issue, which shows that it is there."""
    return runtime.site.hear(runtime.ask(lambda: client.listing(runtime.site.version or "2", issue)))


def visible(answer: Exchange) -> bool:
    """Return True if Jira showed the issue."""
    return isinstance(answer, Reply) and answer.status == 200 and isinstance(answer.json, dict)


def strike(runtime: Runtime, issues: Sequence[str]) -> None:
    """Take these for no witnesses for a day, or until they accept a file again: Jira no longer shows them."""
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        for issue in issues:
            contested.strike(connection, issue, now)


def alive(runtime: Runtime, client: Client) -> bool | None:
    """Return True if a witness is visible, or without witnesses the oldest waiting issue; None where none can be asked."""
    issues = known(runtime)
    if not issues:
        with runtime.journal.transaction() as connection:
            issues = queue.oldest_issue(connection)
    return any(visible(ask(runtime, client, issue)) for issue in issues) if issues else None


log = get_logger()

#: The kind of the pause while Jira shows none of the issues that accepted files.
NO_WITNESS = "no-witness"


def met(runtime: Runtime, client: Client) -> bool:
    """Return True if the site is known; get to know it first where it is not."""
    if not runtime.site.introduced:
        _meet(runtime, client)
    return runtime.site.introduced


def _meet(runtime: Runtime, client: Client) -> None:
    """Get to know the site. One worker asks, and the others use its answer."""
    with runtime.site.lock:
        if runtime.site.introduced or not pause.current(runtime).looks:
            return
        fault = introduce(runtime, client)
        if fault is not None:
            # At a site that was not met nothing can be done, even if only a part of it asked for the pause.
            wide = fault.scope if fault.scope in (Scope.SITE, Scope.ACCOUNT) else Scope.SITE
            pause.pause(runtime, replace(fault, scope=wide, subject=""))


def introduce(runtime: Runtime, client: Client) -> Fault | None:
    """Learn which API the site speaks, who we are there and what time it has; None when all is known.

    Each row that is sent holds our author id and the server's time, so nothing is sent before both are known.
    """
    site = runtime.site
    version = site.configured
    if not version or not site.clock_known:
        found = deployment(runtime, client, version)
        if isinstance(found, Fault) and not (version and site.clock_known):
            # Where the configuration says what it is, the clock is all that was wanted.
            return found
        if not version and found != site.version and deployment(runtime, client, "") != found:
            return Fault(
                Scope.SITE, "unsure", "two answers name two versions of the API. attachd asks again", cure=Cure.PROBE
            )
        version = version or str(found)
    author: str | None = None
    if not runtime.credentials.anonymous:
        account = _account(runtime, client, version)
        if isinstance(account, Fault) and account.kind != "scope":
            return account
        # A token without the scope for this question may well attach files; a missing author fits in every look.
        author = None if isinstance(account, Fault) else account
    # Only now: other workers go on meanwhile with what was known.
    site.version, site.author = version, site.account(author)
    _forget_old(runtime)
    site.introduced = True
    log.info("site.met", url=site.url, api=site.version, account=site.author or "anonymous")
    return None


def _account(runtime: Runtime, client: Client, version: str) -> str | Fault:
    """Ask twice who we are: each file that is sent is looked for under that account."""
    first = site_info.who(runtime.site.hear(runtime.ask(lambda: client.myself(version))))
    if isinstance(first, Fault):
        return first
    second = site_info.who(runtime.site.hear(runtime.ask(lambda: client.myself(version))))
    if isinstance(second, Fault) or first == second:
        return second
    reason = f"Jira calls the account {first}, and then {second}. attachd asks again"
    return Fault(Scope.ACCOUNT, "unsure", reason, cure=Cure.PROBE)


def _forget_old(runtime: Runtime) -> None:
    """What requests may hold was learned from what the site declined; after a day that is found out again."""
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        if not 0 <= now - float(database.get(connection, batch_size.LEARNED) or now) < site_.TRUSTED_SECONDS:
            batch_size.forget(connection)


def deployment(runtime: Runtime, client: Client, known: str) -> str | Fault:
    """Ask which API the site speaks, and remember its clock and where its pages are. *known* is the version if it is certain."""
    found = site_info.discover(client, known, lambda call: runtime.site.hear(runtime.ask(call)))
    _remember_pages(runtime, site_info.pages(found.answer))
    return found.api


def _remember_pages(runtime: Runtime, pages: str | None) -> None:
    """Also for a later start, at which files may be filed before the site answers."""
    if pages is not None and pages != runtime.site.pages:
        runtime.site.pages = pages
        with runtime.journal.transaction() as connection:
            database.put(connection, "site.pages", pages)


def probe(runtime: Runtime, client: Client, held: Pause) -> None:
    """Ask something harmless; if it is answered, uploads are let through again, else the pause grows."""
    fault = _ask(runtime, client, held)
    if fault is None:
        pause.open_for_a_try(runtime, held)
    else:
        pause.pause(runtime, fault)


def _ask(runtime: Runtime, client: Client, held: Pause) -> Fault | None:
    site = runtime.site
    try:
        changed = runtime.credentials.reload()
    except Mistake as mistake:
        return auth.unreadable(mistake)
    if changed:
        site.introduced = False
        site.forget_signature()
    if held.scope is not Scope.ACCOUNT:
        found = deployment(runtime, client, site.version)
        return _as(found, held) if isinstance(found, Fault) else None
    nameless = runtime.credentials.anonymous or (held.kind == "scope" and site.author is None)
    if nameless or held.kind == NO_WITNESS:
        # Nothing says who we are, or that is not in doubt: what we may see is.
        still = replace(_as_fault(held), wait=None)
        return still if alive(runtime, client) is False else None
    account = site_info.who(site.hear(runtime.ask(lambda: client.myself(site.version or "2"))))
    if isinstance(account, Fault):
        return _as(account, held)
    if site.account(account) != site.author:
        site.introduced = False  # Who we are is one answer's word: it is asked for again before anything is sent.
    return None


def _as_fault(held: Pause) -> Fault:
    """The same trouble again."""
    return Fault(held.scope, held.kind, held.reason, held.subject, cure=Cure.PROBE)


def _as(fault: Fault, held: Pause) -> Fault:
    """A probe that fails keeps its own pause up, whatever the reason is now."""
    return Fault(held.scope, fault.kind, fault.reason, held.subject, fault.wait, Cure.PROBE)


def limits(runtime: Runtime, client: Client, *, fresh: bool) -> site_info.Limits | None:
    """The site's limits; *fresh*: at most 60 s old and said twice, as a refusal wants it. None where Jira does not tell them.

    Of two answers that differ the one counts that allows more: what is too much Jira refuses itself.
    """
    site, boot = runtime.site, runtime.clock.boot()
    known = site.limits
    if known is None or boot - known.at > site_.TRUSTED_SECONDS:
        site.limits = known = _limits(runtime, client)
    if fresh and known is not None and (not known.twice or boot - known.at > site_.LIMITS_SECONDS):
        again = _limits(runtime, client)
        if boot - known.at > site_.LIMITS_SECONDS and again is not None:
            known, again = again, _limits(runtime, client)
        site.limits = known if again is None else site_info.wider(known, again)
    return site.limits


def _limits(runtime: Runtime, client: Client) -> site_info.Limits | None:
    outcome = runtime.site.hear(runtime.ask(lambda: client.attachment_meta(runtime.site.version)))
    known = site_info.limits(outcome, runtime.clock.boot())
    if known is None and isinstance(outcome, Reply):
        return site_info.Limits(True, None, runtime.clock.boot())
    return known
