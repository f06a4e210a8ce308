"""What `check` tests of Jira: proxy, certificate, login, the account's permissions, limits, and the issues of the folders."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attachd import text
from attachd.clock import Clock
from attachd.config import Config, addresses
from attachd.intake import router as intake_router
from attachd.jira import auth, client, connection, oauth, site_info
from attachd.jira.connection import ask
from attachd.jira.reply import Exchange, Reply
from attachd.journal import database
from attachd.model import Fault, Scope, printable
from attachd.service import start
from attachd.setup.finding import Finding

#: How many folders, and how many projects, ``check`` asks Jira about.
_MOST = 50
#: ``check`` warns of a certificate that expires sooner, in seconds.
_SOON_SECONDS = 14 * 86400
#: The permissions that attaching needs, and what the account may not do without them.
_NEEDED = {"BROWSE_PROJECTS": "see", "CREATE_ATTACHMENTS": "attach files to"}
#: Jira Service Management answers as for a customer of its portal ("Get my permissions", Jira's REST documentation).
_GIVE = (
    "give the account “Browse projects” and “Create attachments” there"
    " (in projects of Jira Service Management this answer can be wrong)"
)
ASK = "correct folders.projects; a token with granular scopes needs read:permission:jira for this test, not for uploads"


# --- The connection -----------------------------------------------------------------------------------------------


def proxy(config: Config, environ: Mapping[str, str], *, reached: bool) -> Finding:
    """Return the proxy in use, and warn of a proxy variable that attachd ignores if Jira did not answer."""
    if config.jira.proxy:
        return Finding("jira.proxy", "ok", config.jira.proxy)
    named = next((name for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)), "")
    if not named:
        return Finding("jira.proxy", "ok", "none")
    detail = f"none (${named} is ignored)"
    if reached:
        return Finding("jira.proxy", "ok", detail)
    return Finding("jira.proxy", "warning", detail, "set jira.proxy if Jira is only reachable through that proxy")


def certificate(config: Config, shown: Mapping[str, Any] | None, now: float) -> Finding:
    """Show who issued Jira's certificate (*shown*, from ``ssl.SSLSocket.getpeercert``), which reveals an inspecting proxy."""
    parts = urlsplit(config.jira.url)
    if parts.scheme == "http":
        if addresses.is_loopback(parts.hostname or ""):
            return Finding("tls", "ok", "none, because Jira is on this machine")
        return Finding("tls", "warning", "none, so the network can read the token", "use https")
    if not shown:
        return Finding("tls", "warning", "cannot read the certificate", "run check again")
    ends = ssl.cert_time_to_seconds(shown["notAfter"])
    day = time.strftime("%Y-%m-%d", time.localtime(ends))
    names = [_name(shown, part) or "an unnamed party" for part in ("subject", "issuer")]
    detail = f"certificate of {names[0]}, issued by {names[1]}, until {day}"
    if ends - now > _SOON_SECONDS:
        return Finding("tls", "ok", detail)
    return Finding("tls", "warning", detail, "ask the administrator of Jira, or of the proxy before it, to renew it")


def _name(shown: Mapping[str, Any], part: str) -> str:
    """Return ``commonName (organizationName)`` of *part* of a certificate, or whichever of the two exists."""
    fields = {name: value for pairs in shown.get(part, ()) for name, value in pairs}
    common, organisation = fields.get("commonName", ""), fields.get("organizationName", "")
    name = f"{common} ({organisation})" if common and organisation else common or organisation
    return printable(name.encode("utf-8", "surrogatepass"))


# --- What the account may do --------------------------------------------------------------------------------------


def rights(config: Config, asker: client.Client, api: str) -> Iterator[Finding]:
    """Check that the account may see issues and attach files in the configured projects, or in any project."""
    for project in config.folders.projects[:_MOST] or ("",):
        yield _rights(project, asker, api)


def _rights(project: str, asker: client.Client, version: str) -> Finding:
    answer = ask(lambda: asker.permissions(version, project=project))
    what, where = (f"permissions {project}", project) if project else ("permissions", "any project")
    lacking = _lacking(answer)
    if lacking is None:
        detail = f"Jira does not say what the account may do in {where}: {_said(answer)}"
        return Finding(what, "warning", detail, ASK)
    if lacking:
        return Finding(what, "warning", f"Jira says that the account may not {lacking} issues of {where}", _GIVE)
    return Finding(what, "ok", f"the account may attach files to issues of {project or 'at least one project'}")


def _lacking(answer: Exchange) -> str | None:
    """Return what the account may not do; None if ``mypermissions`` does not say."""
    told = answer.json if isinstance(answer, Reply) and answer.status == 200 else None
    found = told.get("permissions") if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return None
    has = {key: found[key].get("havePermission") for key in _NEEDED if isinstance(found.get(key), dict)}
    if len(has) < len(_NEEDED):
        return None
    return " or ".join(word for key, word in _NEEDED.items() if has[key] is not True)


# --- What the folders mean ----------------------------------------------------------------------------------------


def issues(config: Config, asker: client.Client, api: str, *, told: bool) -> Iterator[Finding]:
    """Look up the issue of each folder in the inbox, so that a wrong folder shows before its files fail.

    *told*: Jira says what the account may do, so ask about the permissions for each issue too.
    """
    router = intake_router.of(config)
    try:
        folders = [path for path in config.folders.inbox.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return  # Another finding says that the inbox is missing or cannot be listed.
    for name in sorted(path.name for path in folders if not path.name.startswith("."))[:_MOST]:
        shown = f"inbox/{printable(os.fsencode(name))}"
        routed = router.route(os.fsencode(name))
        if isinstance(routed, intake_router.Unrouted):
            yield Finding(shown, "warning", routed.reason)
        else:
            yield _issue(shown, routed.key, asker, api, told=told)


def _issue(shown: str, key: str, asker: client.Client, version: str, *, told: bool) -> Finding:
    answer = ask(lambda: asker.issue(version, key))
    if not isinstance(answer, Reply) or answer.status != 200:
        remedy = "correct the folder's name, or give the account access"
        return Finding(shown, "warning", f"{key}: {_said(answer)}", remedy)
    detail = _described(key, answer.json)
    # A closed or secured issue may allow less than its project.
    lacking = _lacking(ask(lambda: asker.permissions(version, issue=key))) if told else None
    if lacking:
        return Finding(shown, "warning", f"{detail}; Jira says that the account may not {lacking} it", _GIVE)
    return Finding(shown, "ok", detail)


def _described(key: str, issue: Any) -> str:
    """Return an issue's key, its new key if it was moved, and its summary."""
    told = issue if isinstance(issue, dict) else {}
    now, fields = told.get("key"), told.get("fields")
    summary = fields.get("summary") if isinstance(fields, dict) else None
    named = f"{key} is now {_line(now)}" if isinstance(now, str) and now not in ("", key) else f"{key} exists"
    return f"{named}: “{_line(summary)}”" if isinstance(summary, str) and summary.strip() else named


def _line(text: str) -> str:
    return printable(text.strip().encode("utf-8", "surrogatepass"))


def _said(answer: Exchange) -> str:
    return "; ".join(answer.words) or f"it answers {answer.status}" if isinstance(answer, Reply) else answer.error


# --- Jira -------------------------------------------------------------------------------------------------------


def jira(config: Config, state: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    clock = Clock()
    who: oauth.Identity = start.make_credentials(config, environ, state, clock)
    if _would_use_up(config, state):
        who = connection.NOBODY
        detail = f"the refresh token was not tested, because each use replaces it and {state} has no journal yet"
        remedy = "start the service (`attachd run` or `attachd once`), then run check again"
        yield Finding("jira.auth", "warning", detail, remedy)
    with closing(connection.asking_client(config, config.jira.url, who)) as asker:
        found = list(_ask(config, asker, clock, signed=who is not connection.NOBODY))
    yield proxy(config, environ, reached=any(each.what == "jira.url" and each.result == "ok" for each in found))
    yield from found


def _would_use_up(config: Config, state: Path) -> bool:
    """Return True if signing in would use up the refresh token where the service may never find the next one.

    The next one goes into the state folder, which is certainly the service's once it has a journal.
    """
    rotates = config.jira.auth.kind == "oauth2" and config.jira.auth.token is not None
    return rotates and not (state / database.FILE_NAME).exists()


def _ask(config: Config, asker: client.Client, clock: Clock, *, signed: bool) -> Iterator[Finding]:
    configured = site_info.CONFIGURED.get(config.jira.deployment, "")
    found = site_info.discover(asker, configured)
    if isinstance(found.api, Fault):
        # Atlassian's gateway answers no request without credentials.
        if signed or found.api.scope is not Scope.ACCOUNT:
            yield _unmet(config, found.api)
        return
    yield Finding("jira.url", "ok", f"{config.jira.url} is Jira {'Cloud' if found.api == '3' else 'Data Center'}")
    yield certificate(config, asker.certificate(), clock.wall())
    if isinstance(found.answer, Reply) and found.answer.date is not None:
        yield _skew(found.answer.date - clock.wall())
    yield from _with_api(config, asker, configured or found.api, clock, signed=signed)


def _with_api(config: Config, asker: client.Client, api: str, clock: Clock, *, signed: bool) -> Iterator[Finding]:
    """Test what needs the version of the API: account, limits, permissions and issues."""
    account = list(_account(config, asker, api)) if signed else []
    yield from account
    yield _limits(site_info.limits(ask(lambda: asker.attachment_meta(api)), clock.boot()))
    if not signed or any(finding.result == "failed" for finding in account):
        return
    permitted = list(rights(config, asker, api)) if config.jira.auth.kind != "anonymous" else []
    yield from permitted
    yield from issues(config, asker, api, told=any(each.remedy != ASK for each in permitted))


def _unmet(config: Config, fault: Fault) -> Finding:
    if fault.scope is Scope.ACCOUNT:
        return Finding("jira.auth", "failed", fault.reason, _token_remedy(config, fault))
    return Finding("jira.url", "failed", fault.reason, "check jira.url, the proxy and the network")


def _skew(seconds: float) -> Finding:
    seconds = abs(seconds)
    if seconds < 60:
        return Finding("clock", "ok", f"differs from Jira's by {seconds:.0f} s")
    return Finding("clock", "warning", f"differs from Jira's by {seconds:.0f} s", "set the clock of this machine (NTP)")


def _account(config: Config, asker: client.Client, api: str) -> Iterator[Finding]:
    if config.jira.auth.kind == "anonymous":
        return
    answer = ask(lambda: asker.myself(api))
    who = site_info.who(answer)
    if isinstance(who, Fault):
        yield Finding("jira.auth", "failed", who.reason, _token_remedy(config, who))
    else:
        name = answer.json.get("displayName") if isinstance(answer, Reply) else None
        called = f" ({printable(name.encode('utf-8', 'surrogatepass'))})" if isinstance(name, str) and name else ""
        yield Finding("jira.auth", "ok", f"Jira knows attachd as {who}{called}")


def _token_remedy(config: Config, fault: Fault) -> str:
    kind = config.jira.auth.kind
    if fault.kind == "refused" and auth.may_be_needed(config.jira.url, kind):
        with closing(connection.asking_client(config, config.jira.url, connection.NOBODY)) as stranger:
            where = auth.address(ask(stranger.tenant_info)) or f"{auth.ADDRESS}CLOUD-ID"
        return f"{auth.hint(kind, where)}; otherwise create a new token"
    return "" if fault.kind.startswith("token") else "check jira.auth: kind, user and token"


def _limits(known: site_info.Limits | None) -> Finding:
    if known is None:
        return Finding("limits", "warning", "Jira does not report its limits", "")
    if not known.enabled:
        return Finding(
            "limits", "failed", "attachments are disabled in this Jira", "ask its administrator to enable them"
        )
    return Finding(
        "limits", "ok", f"files up to {text.size(known.largest)}" if known.largest else "Jira reports no size limit"
    )
