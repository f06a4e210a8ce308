"""From what a person knows (an address, an e-mail address, a token) to what the configuration says: which Jira, where, as whom.

Nothing is written here. Each question to Jira is one of those that ``check`` asks too.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attachd import config
from attachd.clock import Clock
from attachd.config import addresses
from attachd.jira import auth, client, connection, oauth, site_info
from attachd.model import Fault, Scope
from attachd.service import start

_NO_GATEWAY = "the site does not tell its address at Atlassian's gateway (/_edge/tenant_info); OAuth is good only there"
_PAGE = re.compile(r"/(browse|secure|issues|projects|jira|login\.jsp|rest)(/.*)?\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to reach a site and sign in: the keys of ``[jira]`` that a first configuration needs."""

    url: str
    kind: str = ""
    user: str = ""
    ca_file: Path | None = None
    proxy: str | None = None
    client_id: str = ""
    scope: str | None = None
    token_url: str | None = None


@dataclass(frozen=True, slots=True)
class Secrets:
    """What signs in: a token and, for an application of OAuth, its secret; its token is the first refresh token."""

    token: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A site that answers, signed in: ``wanted`` with the address at which the token is good.

    ``account`` is "" where that was not tried.
    """

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
        return addresses.tidy(f"https://{parts.netloc}")
    return addresses.tidy(urllib.parse.urlunsplit((parts.scheme, parts.netloc, _PAGE.sub("", parts.path), "", "")))


def kind_of_site(wanted: Wanted) -> bool | Fault:
    """Return True for Jira Cloud, False for Data Center, or why neither can be known."""
    with closing(_asker(wanted, connection.NOBODY)) as asker:
        api = site_info.discover(asker).api
    return api if isinstance(api, Fault) else api == "3"


def sign_in(wanted: Wanted, secrets: Secrets, *, cloud: bool) -> Known | Fault:
    """Sign in at the site or, with a token that has scopes, at Atlassian's gateway; why not, where neither takes it.

    A refresh token is not used: the next one would have no place yet that it is kept in.
    """
    if wanted.kind == "oauth2" and secrets.token:
        needed = auth.may_be_needed(wanted.url, wanted.kind)
        where = _at_gateway(wanted) if needed else wanted
        return Known(where, cloud, "") if where else Fault(Scope.SITE, "unreachable", _NO_GATEWAY)
    found = _who(wanted, secrets, cloud=cloud)
    if isinstance(found, Known) or found.kind != "refused":
        return found
    there = _at_gateway(wanted)
    elsewhere = _who(there, secrets, cloud=True) if there else found
    return elsewhere if isinstance(elsewhere, Known) else found


def _at_gateway(wanted: Wanted) -> Wanted | None:
    """The same account at Atlassian's gateway; None where that is not needed, or not known."""
    if not auth.may_be_needed(wanted.url, wanted.kind):
        return None
    with closing(_asker(wanted, connection.NOBODY)) as stranger:
        where = auth.address(connection.ask(stranger.tenant_info))
    return replace(wanted, url=where) if where else None


def _who(wanted: Wanted, secrets: Secrets, *, cloud: bool) -> Known | Fault:
    with closing(_asker(wanted, _identity(wanted, secrets, cloud=cloud))) as asker:
        account = site_info.who(connection.ask(lambda: asker.myself("3" if cloud else "2")))
    return account if isinstance(account, Fault) else Known(wanted, cloud, account)


def _identity(wanted: Wanted, secrets: Secrets, *, cloud: bool) -> oauth.Identity:
    """The credentials as the service will make them of the configuration, with secrets that lie nowhere yet."""
    names = ("kind", "user", "client_id", "scope", "token_url")
    table: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    named = {"token": secrets.token, "client_secret": secrets.client_secret}
    table |= {name: {"env": name} for name, secret in named.items() if secret}
    settings = _settings(wanted, {name: value for name, value in table.items() if value}, cloud=cloud, environ=named)
    nowhere = settings.folders.inbox
    return start.make_credentials(settings, named, nowhere, Clock())


def _settings(wanted: Wanted, account: Mapping[str, Any], *, cloud: bool, environ: Mapping[str, str]) -> config.Config:
    """Raises ``errors.Mistake`` where the address, the proxy, the certificates or the account are none."""
    way = {"ca_file": str(wanted.ca_file) if wanted.ca_file else None, "proxy": wanted.proxy}
    jira = {"url": wanted.url, "auth": account, "deployment": "cloud" if cloud else "datacenter"}
    jira |= {name: value for name, value in way.items() if value}
    folders = {"inbox": "/nonexistent/inbox"}
    return config.parse({"folders": folders, "jira": jira}, base=Path("/"), environ=environ, check_token=False)


def _asker(wanted: Wanted, credentials: oauth.Identity) -> client.Client:
    """A connection for questions. Raises ``errors.Mistake``."""
    settings = _settings(wanted, {"kind": "anonymous"}, cloud=False, environ={})
    return connection.asking_client(settings, wanted.url, credentials)


@dataclass(frozen=True, slots=True)
class Signed:
    """A site that knows us, with the secrets that it knows us by."""

    known: Known
    secrets: Secrets
