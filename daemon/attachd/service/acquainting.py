"""From what a person knows (an address, an e-mail address, a token) to what the configuration says: which Jira, where, as whom.

Nothing is written here. Each question to Jira is one of those that ``check`` asks too.
"""

from __future__ import annotations

import re
import threading
import urllib.parse
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attachd import config
from attachd.config import checks
from attachd.delivery import policy
from attachd.delivery import site as site_
from attachd.jira import auth, client, gateway
from attachd.jira.exchange import Exchange
from attachd.model import Fault
from attachd.service import starting

_PAGE = re.compile(r"/(browse|secure|issues|projects|jira|login\.jsp|rest)(/.*)?\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to reach a site and sign in: the keys of ``[jira]`` that a first configuration needs."""

    url: str
    kind: str = ""
    user: str = ""
    ca_file: Path | None = None
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A site that answers, signed in: ``wanted`` with the address at which the token is good."""

    wanted: Wanted
    cloud: bool
    account: str


def address(text: str) -> str:
    """The address of a site from what people copy: a name, an address without https, that of a page. Pure.

    What is no address stays as it is: the configuration's own check says what is wrong with it.
    """
    text = text.strip()
    if re.fullmatch(r"[A-Za-z0-9-]+", text) and text != "localhost":
        text = f"{text}.atlassian.net"
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:
        return text
    if (parts.hostname or "").endswith(".atlassian.net"):
        # Cloud has no base path: whatever follows is a page.
        return checks.tidy(f"https://{parts.netloc}")
    return checks.tidy(urllib.parse.urlunsplit((parts.scheme, parts.netloc, _PAGE.sub("", parts.path), "", "")))


def kind_of_site(wanted: Wanted) -> bool | Fault:
    """Whether it is Jira Cloud, or why that cannot be known."""
    with closing(_asker(wanted, starting.NOBODY)) as asker:
        found: str | Fault = ""
        for version in ("2", "3"):
            found = site_.deployment(_once(asker, version))
            if isinstance(found, str):
                return found == "3"
    assert isinstance(found, Fault)
    return found


def _once(asker: client.Client, version: str) -> Exchange:
    return policy.asked(lambda: asker.server_info(version), threading.Event())


def sign_in(wanted: Wanted, token: str, *, cloud: bool) -> Known | Fault:
    """Sign in at the site or, with a token that has scopes, at Atlassian's gateway; why not, where neither takes it."""
    found = _who(wanted, token, cloud=cloud)
    if isinstance(found, Known) or found.kind != "refused" or not gateway.may_be_needed(wanted.url, wanted.kind):
        return found
    with closing(_asker(wanted, starting.NOBODY)) as stranger:
        where = gateway.address(policy.asked(stranger.tenant_info, threading.Event()))
    elsewhere = _who(replace(wanted, url=where), token, cloud=True) if where else found
    return elsewhere if isinstance(elsewhere, Known) else found


def _who(wanted: Wanted, token: str, *, cloud: bool) -> Known | Fault:
    signed = auth.Credentials(wanted.kind, wanted.user, lambda: token)
    with closing(_asker(wanted, signed)) as asker:
        account = site_.who(policy.asked(lambda: asker.myself("3" if cloud else "2"), threading.Event()))
    return account if isinstance(account, Fault) else Known(wanted, cloud, account)


def _asker(wanted: Wanted, credentials: Any) -> client.Client:
    """A connection for questions. Raises ``model.Mistake`` where the address, the proxy or the certificates are none."""
    way = {"ca_file": str(wanted.ca_file) if wanted.ca_file else None, "proxy": wanted.proxy}
    jira = {"url": wanted.url, "auth": {"kind": "anonymous"}} | {name: value for name, value in way.items() if value}
    settings = config.parse(
        {"folders": {"inbox": "/nonexistent/inbox"}, "jira": jira}, base=Path("/"), environ={}, check_token=False
    )
    return starting.asking_client(settings, wanted.url, credentials)
