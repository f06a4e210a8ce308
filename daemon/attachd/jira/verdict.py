"""Every reply and every exception read into fates and a fault: the table of delivery.md 2, line by line.

Two answers to every reply: what became of each file, and perhaps what is wrong with the world. The fate is judged
first; a fault never takes back what was stored. The rows are tried in the order of the table: nothing connected; a
complete status line; a body that was not exhausted; the rest.

*Delivered or not* is the one distinction that everything rests on. Only "could not connect", a body that never reached
its closing boundary, and a complete 4xx by which Jira declines one file prove that nothing was stored. Everything else
may have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from attachd.jira import listing, names
from attachd.jira.exchange import Broken, Exchange, Reply, Stage
from attachd.jira.listing import Attachment
from attachd.jira.waits import retry_after
from attachd.model import Contested, Cure, Fate, Fault, InDoubt, Misstored, NotDelivered, Refused, Scope, Stored


@dataclass(frozen=True, slots=True)
class Sent:
    """One file of a request, as it was sent."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The fate of each file, in the order of the request's parts, and perhaps a fault."""

    fates: tuple[Fate, ...]
    fault: Fault | None = None


def judge(outcome: Exchange, files: Sequence[Sent], issue: str) -> Judgement:
    """Read what an upload of *files* to *issue* came to."""
    match outcome:
        case Broken(stage=Stage.CONNECTING):
            return _all(NotDelivered("Jira could not be reached"), files, unreachable(outcome))
        case Reply():
            return _reply(outcome, files, issue)
        case Broken(stage=Stage.SENDING, ours=None):
            reason = f"the connection broke while the file was being sent ({outcome.error})"
            return _all(NotDelivered(reason), files, network(outcome))
        case Broken(stage=Stage.SENDING):
            return _all(NotDelivered(f"{outcome.ours}"), files)
        case Broken():
            reason = f"the connection broke before Jira's answer was complete ({outcome.error})"
            return _all(InDoubt(reason), files)


def _reply(reply: Reply, files: Sequence[Sent], issue: str) -> Judgement:
    status = reply.status
    if 200 <= status < 300:
        return _success(reply, files, issue)
    if status == 429:
        fate: Fate = NotDelivered("Jira asked for a pause (429)")
        if len(files) > 1:
            fate = InDoubt("Jira asked for a pause (429)", brief=True, share=len(files))
        return _all(fate, files, throttled(reply, issue))
    if status == 401 or reply.header("x-authentication-denied-reason"):
        return _all(NotDelivered(f"Jira did not accept the account ({status})"), files, account(reply))
    if status == 408 or not 400 <= status < 500:
        return _server_error(reply, files)
    return _declined(reply, files)


def _success(reply: Reply, files: Sequence[Sent], issue: str) -> Judgement:
    """2xx: stored only if ids of the right sizes came back; a login page and an empty answer are 200 too."""
    fault = account(reply) if failed_login(reply) else None
    stored = listing.parse_attachments(reply.json) if reply.status == 200 and reply.exhausted else None
    if stored is None or len(stored) != len(files) or len({a.id for a in stored}) != len(files):
        page = "html" in reply.header("content-type") or reply.body.lstrip()[:1] == b"<"
        reason = "Jira answered 200 with " + ("a web page" if page else "nothing that names the attachment")
        if page and fault is None:
            fault = Fault(
                Scope.ACCOUNT, "login-page", f"{reason}; a login page or a wrong base path answers", cure=Cure.PROBE
            )
        return _all(InDoubt(reason, nonsense=True), files, fault)
    return Judgement(tuple(_pair(stored, files)), fault)


def _pair(stored: Sequence[Attachment], files: Sequence[Sent]) -> list[Fate]:
    """Say which attachment is whose: by name and size, then by size; equal sizes with changed names in part order."""
    if Counter(a.size for a in stored) != Counter(f.size for f in files):
        if len(files) == 1:
            reason = f"Jira stored {stored[0].size} bytes of {files[0].size}; a person must look at attachment {stored[0].id}"
            return [Misstored(stored[0].id, stored[0].name, reason)]
        return [InDoubt("Jira's answer names other sizes than were sent", brief=True)] * len(files)
    left = list(stored)
    fates: list[Fate | None] = [None] * len(files)
    for position, file in enumerate(files):
        same = [a for a in left if a.size == file.size and names.comparable(a.name) == names.comparable(file.name)]
        if same:
            fates[position] = Stored(same[0].id, same[0].name)
            left.remove(same[0])
    sizes = Counter(a.size for a in left)
    for position, file in enumerate(files):
        if fates[position] is None:
            match = next(a for a in left if a.size == file.size)
            left.remove(match)
            remark = (
                "pairing unknown: other files of this size were stored in the same request"
                if sizes[file.size] > 1
                else ""
            )
            fates[position] = Stored(match.id, match.name, remark)
    return [fate for fate in fates if fate is not None]


def _server_error(reply: Reply, files: Sequence[Sent]) -> Judgement:
    """408, 5xx, 3xx and every status not named: in doubt, unless the body never reached its end."""
    reason = f"Jira answered {reply.status}"
    if reply.status in range(300, 400):
        return _all(InDoubt(reason), files, redirected(reply))
    fault = None
    if reply.status >= 500:
        fault = Fault(Scope.ENDPOINT, "server-error", f"{reason}: it has trouble of its own", wait=retry_after(reply))
    if not reply.exhausted:
        return _all(NotDelivered(f"{reason} before the file was sent whole"), files, fault)
    return _all(InDoubt(reason), files, fault)


def _declined(reply: Reply, files: Sequence[Sent]) -> Judgement:
    """A complete 4xx: about this file only if it is Jira that speaks, and the request held one file."""
    many = len(files) > 1
    words = "; ".join(reply.words) or "no further words"
    if reply.status == 413 and not reply.is_jira:
        reason = "a proxy in front of Jira does not let a file of this size through (413 without Jira's words)"
        if many:
            return _all(InDoubt(reason, brief=True, share=max(1, len(files) // 2)), files)
        return _all(Refused(reason), files)
    if not reply.is_jira:
        return _all(NotDelivered(f"something else than Jira answered {reply.status}"), files, stranger(reply))
    if many:
        share = 1 if reply.status in (403, 404) else max(1, len(files) // 2)
        return _all(InDoubt(f"Jira declined the request ({reply.status}: {words})", brief=True, share=share), files)
    if reply.status in (403, 404):
        return _all(Contested(reply.status, words), files)
    if reply.status == 413:
        return _all(
            Refused(f"it is larger than Jira allows, or the issue holds as many attachments as it may (413: {words})"),
            files,
        )
    return _all(Refused(f"Jira refused it ({reply.status}: {words})"), files)


def _all(fate: Fate, files: Sequence[Sent], fault: Fault | None = None) -> Judgement:
    return Judgement((fate,) * len(files), fault)


# --- What is wrong with the world -------------------------------------------------------------------------------


def failed_login(reply: Reply) -> bool:
    """Whether Jira says that it did not take us for who we are: ``X-Seraph-LoginReason`` other than OK."""
    reason = reply.header("x-seraph-loginreason")
    return bool(reason) and reason.strip().upper() != "OK"


def unreachable(broken: Broken) -> Fault:
    """Nothing connected: the network, the name, the proxy or the certificate."""
    if broken.certificate:
        reason = f"the TLS certificate of the site was not accepted ({broken.error}); check jira.ca_file and the machine's clock"
        return Fault(Scope.SITE, "certificate", reason, cure=Cure.PROBE)
    return Fault(Scope.SITE, "unreachable", f"Jira cannot be reached ({broken.error})", cure=Cure.PROBE)


def network(broken: Broken) -> Fault:
    """The connection broke while sending."""
    return Fault(Scope.SITE, "network", f"the connection to Jira broke ({broken.error})", cure=Cure.PROBE)


def account(reply: Reply) -> Fault:
    """401, CAPTCHA, or a failed login: nothing more is sent; harmless probes find out when it is over."""
    denied, words = reply.header("x-authentication-denied-reason"), "; ".join(reply.words)
    if "CAPTCHA" in denied.upper():
        reason = "Jira wants a CAPTCHA from this account; log in once with a browser, then `attachd resume`"
        return Fault(Scope.ACCOUNT, "captcha", reason, cure=Cure.PROBE, wait=600)
    if "scope" in words.lower():
        return Fault(Scope.ACCOUNT, "scope", f"the token lacks a scope ({words})", cure=Cure.PROBE)
    reason = f"Jira does not accept the account or its token ({reply.status}{': ' + words if words else ''})"
    return Fault(Scope.ACCOUNT, "refused", reason, cure=Cure.PROBE)


def throttled(reply: Reply, issue: str) -> Fault:
    """429: how far it reaches is in ``RateLimit-Reason`` (Atlassian, "Rate limiting"); unknown reasons hold everything."""
    wait = max(retry_after(reply) or 0.0, 1.0)
    match reply.header("ratelimit-reason"):
        case "jira-per-issue-on-write":
            return Fault(Scope.ISSUE, "rate-limit", f"Jira's write limit for {issue}", issue, wait)
        case "jira-burst-based":
            return Fault(Scope.ENDPOINT, "rate-limit", "Jira's limit for adding attachments", "", wait)
        case reason:
            return Fault(Scope.SITE, "rate-limit", f"Jira's rate limit ({reason or 'no reason given'})", "", wait)


def redirected(reply: Reply) -> Fault:
    """3xx: a login page, http instead of https, a missing base path, a renamed site. Never followed."""
    where = reply.header("location") or "nowhere"
    return Fault(Scope.SITE, "redirect", f"the site redirects to {where}; check jira.url", cure=Cure.PROBE)


def stranger(reply: Reply) -> Fault:
    """A 4xx that is not in Jira's words: a proxy, a gateway or a wrong base path answers."""
    via = reply.header("server") or reply.header("via") or "unknown"
    text = " ".join(reply.body[:80].decode("utf-8", "replace").split()) if b"<" not in reply.body[:80] else "a web page"
    reason = f"not Jira but something in front of it answers {reply.status} (server: {via}; {text}); check jira.url and the proxy"
    return Fault(Scope.SITE, "proxy", reason, cure=Cure.PROBE)
