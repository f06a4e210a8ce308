"""Every reply and every exception read into fates and a fault: the table of docs/design/delivery.md, line by line.

Two answers to every reply: what became of each file, and perhaps what is wrong with the world. The fate is judged
first; a fault never takes back what was stored. The rows are tried in the order of the table: nothing connected; a
complete status line; a body that was not exhausted; the rest.

*Delivered or not* is the one distinction that everything rests on. Only "could not connect", a body that never reached
its closing boundary, and a complete 4xx by which Jira declines one file prove that nothing was stored. Everything else
may have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attachd.jira import attachments, filenames
from attachd.jira.attachments import Attachment
from attachd.jira.rate_limits import retry_after
from attachd.jira.reply import Broken, Exchange, Reply, Stage, legible
from attachd.model import Contested, Cure, Fate, Fault, InDoubt, Misstored, NotDelivered, Refused, Scope, Stored

#: The classic scopes that our requests need (Atlassian, "Jira scopes for OAuth 2.0 (3LO) and Forge apps").
SCOPES = "read:jira-work, write:jira-work and read:jira-user"


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


def judge(outcome: Exchange, files: Sequence[Sent], issue: str, *, largest: int | None = None) -> Judgement:
    """Read what an upload of *files* to *issue* came to. *largest*: how many bytes a file may have, where that is known."""
    match outcome:
        case Broken(stage=Stage.CONNECTING):
            reason = "there is no access token" if outcome.fault else "Jira could not be reached"
            return _all(NotDelivered(reason), files, unreachable(outcome))
        case Reply():
            return _reply(outcome, files, issue, largest)
        case Broken(stage=Stage.SENDING, ours=None):
            reason = f"the connection broke during the upload ({outcome.error})"
            return _all(NotDelivered(reason), files, network(outcome.error))
        case Broken(stage=Stage.SENDING):
            return _all(NotDelivered(f"{outcome.ours}"), files)
        case Broken():
            reason = f"the connection broke before Jira's answer was complete ({outcome.error})"
            return _all(InDoubt(reason), files, unreachable(outcome) if outcome.certificate else None)


def _reply(reply: Reply, files: Sequence[Sent], issue: str, largest: int | None) -> Judgement:
    status = reply.status
    if 200 <= status < 300:
        return _success(reply, files)
    if status == 429:
        fate: Fate = NotDelivered("Jira asked for a pause (429)")
        if len(files) > 1:
            fate = InDoubt("Jira asked for a pause (429)", brief=True, share=len(files))
        return _all(fate, files, throttled(reply, issue))
    if status == 408 or not 400 <= status < 500:
        return _unknown(reply, files)
    if status == 401 or denied_login(reply):
        return _all(NotDelivered(f"Jira rejected the account or its token ({status})"), files, account(reply))
    declined = _declined(reply, files, largest)
    return _of_nobody(declined, reply) if failed_login(reply) else declined


def _of_nobody(declined: Judgement, reply: Reply) -> Judgement:
    """The login failed: what Jira declines of nobody in particular says nothing of a file. What may be stored stays in doubt."""
    back = NotDelivered(f"Jira rejected the account or its token ({reply.status})")
    return Judgement(tuple(fate if isinstance(fate, InDoubt) else back for fate in declined.fates), account(reply))


def _success(reply: Reply, files: Sequence[Sent]) -> Judgement:
    """2xx: stored only if ids of the right sizes came back; a login page and an empty answer are 200 too."""
    fault = account(reply) if failed_login(reply) or denied_login(reply) else None
    sent = reply.exhausted and not reply.abandoned
    stored = attachments.parse_attachments(reply.json) if reply.status == 200 and sent else None
    if stored is not None and len(stored) == len(files) == len({a.id for a in stored}):
        return Judgement(tuple(_pair(stored, files)), fault)
    reason = _unproven(reply)
    if reply.is_page and fault is None:
        text = f"{reason}, perhaps a login page. Check jira.url and the account"
        fault = Fault(Scope.ACCOUNT, "login-page", text, cure=Cure.PROBE)
    return _all(InDoubt(reason, nonsense=reply.status == 200 and not reply.is_cut), files, fault)


def _unproven(reply: Reply) -> str:
    """Say why a 2xx does not prove that anything was stored."""
    if reply.abandoned or not reply.exhausted:
        return f"Jira answered {reply.status} before the upload was complete"
    if reply.is_page:
        return f"Jira answered {reply.status} with a web page"
    if reply.is_cut:
        return f"Jira's answer ({reply.status}) broke off"
    if reply.status != 200:
        return f"Jira answered {reply.status}, and only 200 proves an attachment"
    return "Jira answered 200 without the attachment"


def _pair(stored: Sequence[Attachment], files: Sequence[Sent]) -> list[Fate]:
    """Say which attachment is whose: by name and size, then by size; equal sizes with changed names in part order.

    Where the sizes are not those that were sent, an attachment of a file's name is that file's, whatever its size, and
    what is left over is somebody's of the wrong size.
    """
    if all(a.name == f.name and a.size == f.size for a, f in zip(stored, files, strict=True)):
        # The usual answer, in the order of the request and under the very names.
        return [Stored(a.id, a.name) for a in stored]
    left, fates = list(stored), dict[int, Fate]()
    _credit(left, files, fates, lambda a, f: _same_name(a, f) and a.size == f.size)
    if Counter(a.size for a in stored) != Counter(f.size for f in files):
        _credit(left, files, fates, _same_name)
    _credit(left, files, fates, lambda a, f: a.size == f.size)
    _credit(left, files, fates, lambda _a, _f: True)
    return [fates[position] for position in range(len(files))]


def _credit(
    left: list[Attachment], files: Sequence[Sent], fates: dict[int, Fate], fits: Callable[[Attachment, Sent], bool]
) -> None:
    """Give each file that has no fate yet the first attachment that fits, and take that away from *left*."""
    sizes = Counter(a.size for a in left)
    for position, file in enumerate(files):
        match = next((a for a in left if fits(a, file)), None) if position not in fates else None
        if match is not None:
            left.remove(match)
            unknown = sizes[file.size] > 1 and not _same_name(match, file)
            fates[position] = _credited(match, file, pairing_unknown=unknown)


def _credited(match: Attachment, file: Sent, *, pairing_unknown: bool) -> Stored | Misstored:
    if match.size != file.size:
        reason = (
            f"Jira stored {match.size:,} bytes instead of {file.size:,}. A person must look at attachment {match.id}"
        )
        return Misstored(match.id, match.name, reason)
    remark = (
        "pairing unknown: the attachment id may belong to another file of this size in the same request"
        if pairing_unknown
        else ""
    )
    return Stored(match.id, match.name, remark)


def _same_name(attachment: Attachment, file: Sent) -> bool:
    return filenames.comparable(attachment.name) == filenames.comparable(file.name)


def _unknown(reply: Reply, files: Sequence[Sent]) -> Judgement:
    """408, 5xx, 3xx and every status not named: in doubt, unless the body never reached its end."""
    reason, fault = f"Jira answered {reply.status}", None
    if denied_login(reply):
        fault = account(reply)
    elif 300 <= reply.status < 400:
        fault = redirected(reply)
    elif reply.status >= 500:
        # An invalid status is one of the server's errors too (RFC 9110, 15).
        fault = Fault(Scope.ENDPOINT, "server-error", f"{reason}: Jira has an internal error", wait=retry_after(reply))
    if not reply.exhausted:
        return _all(NotDelivered(f"{reason} before the upload was complete"), files, fault)
    return _all(InDoubt(reason), files, fault)


def _declined(reply: Reply, files: Sequence[Sent], largest: int | None) -> Judgement:
    """A 4xx: about this file only if it is Jira that speaks, and the request held one file."""
    if reply.is_cut:
        return _cut(reply, files)
    if reply.status == 413 and not reply.is_jira:
        return _too_large_for_proxy(reply, files)
    if not reply.is_jira:
        return _all(
            NotDelivered(f"not Jira but something in front of it answered {reply.status}"), files, stranger(reply)
        )
    words = "; ".join(reply.words) or "no explanation"
    if len(files) > 1:
        share = 1 if reply.status in (403, 404) else len(files) // 2
        return _all(InDoubt(f"Jira refused the request ({reply.status}: {words})", brief=True, share=share), files)
    if reply.status in (403, 404):
        return _all(Contested(reply.status, words), files)
    if reply.status == 413:
        return _all(Refused(f"{_too_much(files[0].size, largest)} (413: {words})"), files)
    return _all(Refused(f"Jira refused the file ({reply.status}: {words})"), files)


def _too_much(size: int, largest: int | None) -> str:
    """Say which of the causes of a 413 it was: Cloud answers so to a file too large and to an issue that is full."""
    if largest is None:
        return "the file is larger than Jira allows, or the issue is full"
    if size > largest:
        return f"the file has {size:,} bytes, and this Jira allows {largest:,}"
    return (
        "the issue most likely has as many attachments as Jira allows. Delete some there, then move the file back. "
        f"The size is not the cause: Jira allows {largest:,} bytes"
    )


def _cut(reply: Reply, files: Sequence[Sent]) -> Judgement:
    """What is missing of a 4xx would have told whether Jira declined the request or a part of it."""
    reason = f"Jira's answer ({reply.status}) broke off"
    if reply.exhausted:
        return _all(InDoubt(reason), files)
    return _all(NotDelivered(f"{reason} before the upload was complete"), files, network(reason))


def _too_large_for_proxy(reply: Reply, files: Sequence[Sent]) -> Judgement:
    reason = f"a proxy in front of Jira refused the file as too large (413; server: {_server(reply)})"
    if len(files) > 1:
        return _all(InDoubt(reason, brief=True, share=len(files) // 2), files)
    return _all(Refused(reason), files)


def _all(fate: Fate, files: Sequence[Sent], fault: Fault | None = None) -> Judgement:
    return Judgement((fate,) * len(files), fault)


# --- What is wrong with the world -------------------------------------------------------------------------------


def failed_login(reply: Reply) -> bool:
    """Return True if Jira did not accept the credentials: ``X-Seraph-LoginReason`` other than OK."""
    reasons = {reason.strip().upper() for reason in reply.header("x-seraph-loginreason").split(",")}
    return not reasons <= {"OK", ""}


def denied_login(reply: Reply) -> bool:
    """Return True if Jira did not even check the credentials, mostly because it wants a CAPTCHA."""
    return bool(reply.header("x-authentication-denied-reason"))


def unreachable(broken: Broken) -> Fault:
    """Nothing connected: the network, the name, the proxy or the certificate; or there was nothing to sign in with."""
    if broken.fault is not None:
        return broken.fault
    if not broken.certificate:
        return Fault(Scope.SITE, "unreachable", f"Jira cannot be reached ({broken.error})", cure=Cure.PROBE)
    whose, remedy = "the TLS certificate of the site", "Check jira.ca_file and the machine's clock"
    if "alert" in broken.error.lower():
        whose, remedy = "attachd's TLS certificate", "Check jira.client_cert_file"
    return Fault(Scope.SITE, "certificate", f"{whose} was rejected ({broken.error}). {remedy}", cure=Cure.PROBE)


def network(error: str) -> Fault:
    """The connection broke while sending."""
    return Fault(Scope.SITE, "network", f"the connection to Jira broke ({error})", cure=Cure.PROBE)


def account(reply: Reply) -> Fault:
    """401, CAPTCHA, or a failed login: nothing more is sent; harmless probes find out when it is over."""
    denied, words = reply.header("x-authentication-denied-reason"), "; ".join(reply.words)
    if "CAPTCHA" in denied.upper():
        reason = "Jira asks this account for a CAPTCHA. Log in once with a browser, then run `attachd resume`"
        return Fault(Scope.ACCOUNT, "captcha", reason, cure=Cure.PROBE, wait=600)
    if "scope" in words.lower():
        reason = f"the token has too few scopes ({words}). Create one with {SCOPES}"
        return Fault(Scope.ACCOUNT, "scope", reason, cure=Cure.PROBE)
    reason = f"Jira rejects the account or its token ({reply.status}{': ' + words if words else ''})"
    return Fault(Scope.ACCOUNT, "refused", reason, cure=Cure.PROBE)


def throttled(reply: Reply, issue: str) -> Fault:
    """429: how far it reaches is in ``RateLimit-Reason`` (Atlassian, "Rate limiting"); unknown reasons hold everything.

    Where Jira says no time the wait grows; 0 is a second, since Data Center says it too.
    """
    wanted = retry_after(reply)
    wait = None if wanted is None else max(wanted, 1.0)
    match reply.header("ratelimit-reason"):
        case "jira-per-issue-on-write":
            return Fault(Scope.ISSUE, "rate-limit", f"Jira's write limit for {issue}", issue, wait)
        case "jira-burst-based":
            return Fault(Scope.ENDPOINT, "rate-limit", "Jira's limit for adding attachments", "", wait)
        case reason:
            return Fault(
                Scope.SITE, "rate-limit", f"Jira's rate limit ({legible(reason) or 'no reason given'})", "", wait
            )


def redirected(reply: Reply) -> Fault:
    """3xx: a login page, http instead of https, a missing base path, a renamed site. Never followed."""
    where = legible(reply.header("location"), 200) or "nowhere"
    return Fault(Scope.SITE, "redirect", f"the site redirects to {where}. Check jira.url", cure=Cure.PROBE)


def stranger(reply: Reply) -> Fault:
    """A 4xx that is not in Jira's words: a proxy, a gateway or a wrong base path answers."""
    if _XSRF in reply.body:
        return _unprotected(reply)
    text = "a web page" if reply.is_page else legible(reply.body[:80].decode("utf-8", "replace"))
    reason = f"not Jira but something in front of it answers {reply.status} (server: {_server(reply)}; {text})"
    return Fault(Scope.SITE, "proxy", f"{reason}. Check jira.url and the proxy", cure=Cure.PROBE)


#: What Jira says, as plain text or within a page, where it cannot tell a program from a page of somebody else's.
_XSRF = b"XSRF check failed"


def _unprotected(reply: Reply) -> Fault:
    """A POST came without ``X-Atlassian-Token``, or looking like a browser's from elsewhere: GET works all the same.

    See Atlassian's knowledge base, "XSRF check failed".
    """
    reason = (
        f"Jira answers {reply.status} “XSRF check failed” (server: {_server(reply)}). A proxy on the way removes the header "
        "X-Atlassian-Token, or sets Origin, Referer or User-Agent like a browser. Have it pass them on unchanged, and compare "
        "jira.url with Jira's own base URL"
    )
    return Fault(Scope.SITE, "proxy", reason, cure=Cure.PROBE)


def _server(reply: Reply) -> str:
    return legible(reply.header("server") or reply.header("via"), 80) or "unknown"
