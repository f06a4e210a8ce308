"""From what a person knows (an address, an e-mail address, a token) to ``[jira]``: which Jira, where, with which account.

Writes nothing. ``check`` asks Jira the same questions.
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

_NO_GATEWAY = "OAuth needs Atlassian's gateway, but the site does not report its address there (/_edge/tenant_info)"
_PAGE = re.compile(r"/(browse|secure|issues|projects|jira|login\.jsp|rest)(/.*)?\Z")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to reach a site and sign in: the keys of ``[jira]`` for a first configuration."""

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
    """The token and, for an OAuth application, the client secret. Its token is the first refresh token."""

    token: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A site that accepts the account. ``wanted`` has the address at which the token is valid.

    ``account`` is "" if attachd did not sign in.
    """

    wanted: Wanted
    cloud: bool
    account: str


def address(text: str) -> str:
    """Return the address of a site from what people copy: a name, an address without https, or a page. Pure.

    Other text stays as it is; the configuration's own check says what is wrong with it.
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
        # Cloud has no base path, so a path is a page.
        return addresses.tidy(f"https://{parts.netloc}")
    return addresses.tidy(urllib.parse.urlunsplit((parts.scheme, parts.netloc, _PAGE.sub("", parts.path), "", "")))


def kind_of_site(wanted: Wanted) -> bool | Fault:
    """Return True for Jira Cloud, False for Data Center, or why neither can be known."""
    with closing(_asker(wanted, connection.NOBODY)) as asker:
        api = site_info.discover(asker).api
    return api if isinstance(api, Fault) else api == "3"


def sign_in(wanted: Wanted, secrets: Secrets, *, cloud: bool) -> Known | Fault:
    """Sign in at the site or, with a scoped token, at Atlassian's gateway. Return the fault if neither accepts it.

    Does not use a refresh token, because there is no place yet to keep the next one.
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
    """Return the same account at Atlassian's gateway; None if that is unnecessary or unknown."""
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
    """Return the credentials that the service will have, with secrets that are not in a file yet."""
    names = ("kind", "user", "client_id", "scope", "token_url")
    table: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    named = {"token": secrets.token, "client_secret": secrets.client_secret}
    table |= {name: {"env": name} for name, secret in named.items() if secret}
    settings = _settings(wanted, {name: value for name, value in table.items() if value}, cloud=cloud, environ=named)
    nowhere = settings.folders.inbox
    return start.make_credentials(settings, named, nowhere, Clock())


def _settings(wanted: Wanted, account: Mapping[str, Any], *, cloud: bool, environ: Mapping[str, str]) -> config.Config:
    """Return a configuration to connect with. Raises ``errors.Mistake`` for an invalid address, proxy, certificate or account."""
    way = {"ca_file": str(wanted.ca_file) if wanted.ca_file else None, "proxy": wanted.proxy}
    jira = {"url": wanted.url, "auth": account, "deployment": "cloud" if cloud else "datacenter"}
    jira |= {name: value for name, value in way.items() if value}
    folders = {"inbox": "/nonexistent/inbox"}
    return config.parse({"folders": folders, "jira": jira}, base=Path("/"), environ=environ, check_token=False)


def _asker(wanted: Wanted, credentials: oauth.Identity) -> client.Client:
    """Return a connection for questions. Raises ``errors.Mistake``."""
    settings = _settings(wanted, {"kind": "anonymous"}, cloud=False, environ={})
    return connection.asking_client(settings, wanted.url, credentials)


@dataclass(frozen=True, slots=True)
class Signed:
    """A site that accepts the account, with the secrets of the account."""

    known: Known
    secrets: Secrets
