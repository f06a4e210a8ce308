"""Checks of the addresses of Jira, proxy, page and hooks. Each yields what is wrong."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from attachd.errors import Problem

#: Path segments of Jira's pages: with them the address was copied from a browser.
_PAGES = frozenset({"browse", "rest", "secure", "issues", "login.jsp"})


def url(text: str) -> Iterator[Problem]:
    """Check the address of Jira: a host, perhaps a port and a base path. Never repeats the address."""
    if wrong := _wrong_address(text):
        yield Problem("", wrong, "Write it like “https://jira.example.com”. User and token belong in [jira.auth].")
    elif pages := _PAGES & set(urllib.parse.urlsplit(text).path.lower().split("/")):
        yield Problem("", f"is the address of a page (“/{min(pages)}”).", "Remove that part and everything after it.")


def proxy(text: str | None) -> Iterator[Problem]:
    """Check the address of an HTTP proxy. Never repeats the address."""
    if text is None:
        return
    remedy = "Write it like “http://proxy.example.com:3128”. attachd cannot sign in at a proxy."
    if wrong := _wrong_address(text):
        yield Problem("", wrong, remedy)
    elif urllib.parse.urlsplit(text).path not in ("", "/"):
        yield Problem("", "has a path.", remedy)


#: In characters, of the 107 that the address of a unix socket has (unix(7)).
_LONGEST_SOCKET = 100


def listen(text: str | None) -> Iterator[Problem]:
    """Check that it is a unix socket or a loopback port, because the page is not encrypted."""
    if text is None:
        return
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable() or len(os.fsencode(path)) > _LONGEST_SOCKET:
            what = f"needs an absolute path of at most {_LONGEST_SOCKET} bytes after “unix:”."
            yield Problem("", what, "Write it like “unix:/run/attachd/web.sock”.")
        return
    remedy = "Write it like “127.0.0.1:8437”. To reach it from elsewhere, use a proxy with TLS, or ssh -L."
    host = _host_with_port(text)
    if not host:
        yield Problem("", "is neither “unix:PATH” nor “ADDRESS:PORT”.", remedy)
    elif not is_loopback(host):
        yield Problem("", "is not a loopback address, so the network could read the page's token.", remedy)


def hosts(names: Sequence[str]) -> Iterator[Problem]:
    """Check that each is a host name without scheme and port."""
    for name in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name, re.ASCII):
            yield Problem(
                "", f"lists {name!r}, which is not a host name.", "Write it like “drop.example.com”, in lower case."
            )


def _host_with_port(text: str) -> str:
    """Return the host of “HOST:PORT”, or "" if it is something else."""
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        return (parts.hostname or "") if parts.port and parts.netloc == text and "@" not in text else ""
    except ValueError:
        return ""


def _wrong_address(text: str) -> str | None:
    if not text.isprintable() or set(text) & set(" \\"):
        return "contains a space, a backslash or a control character."
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not an address: its host or its port is malformed."
    if parts.scheme not in ("https", "http"):
        return "does not begin with “https://”."
    if "@" in parts.netloc:
        return "contains a user name or a password."
    if not host or port == 0:
        return "has no host." if not host else "is not an address: its port is 0."
    if not _is_host(host, literal="[" in parts.netloc):
        return "has an impossible host name. Look for a typo between “//” and the next “/”."
    if "?" in text or "#" in text:
        return "has a query (“?”) or a fragment (“#”)."
    return None


#: The longest host name, in characters; each of its parts has at most 63 (RFC 1035, 2.3.4).
_LONGEST_HOST = 253
#: With “_” too, which host names in intranets contain.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def _is_host(host: str, *, literal: bool) -> bool:
    """Return True for an IPv4 address, an IPv6 address (*literal*, in brackets), or a possible name.

    A name that passes here must not fail later when httpx or the socket encodes it.
    """
    try:
        if literal:
            return "%" not in host and bool(ipaddress.IPv6Address(host))
        if re.fullmatch(r"[0-9.]+", host, re.ASCII):
            return bool(ipaddress.IPv4Address(host))
        name = host if host.isascii() else _encoded(host)
        labels = name.removesuffix(".").split(".")
        for label in labels:
            if label.startswith("xn--"):
                _encoded(label)
    except ValueError:
        return False
    return len(name) <= _LONGEST_HOST and all(_LABEL.fullmatch(label) for label in labels)


def _encoded(host: str) -> str:
    """Return an international name as DNS spells it. Raises ``ValueError`` if it is not one."""
    # Few configurations have such a name, so only they load httpx here.
    import httpx

    try:
        url = httpx.URL(f"https://{host}")
        # Only this decodes a name that is encoded already, and finds out that it cannot be (UnicodeError).
        return url.raw_host.decode() if url.host else ""
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def tidy(text: str) -> str:
    """Return the address of a site with scheme and host in lower case, and without a slash at its end."""
    parts = urllib.parse.urlsplit(text)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def transport(address: str, allow_http: bool, cert: Path | None, key: Path | None) -> Iterator[Problem]:
    """Refuse http, which sends the token in the clear, unless it is allowed; refuse a client's key without a certificate."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        yield Problem(
            "url",
            "is http, so the network could read the token and every file.",
            "Write https. If you accept the risk, set jira.allow_http = true.",
        )
    if key and not cert:
        yield Problem("client_key_file", "needs client_cert_file.", "Name the certificate too.")


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine, whatever DNS says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hook_url(text: str | None) -> Iterator[Problem]:
    """Check the address of a webhook: https, except on this machine, because events name files. Never repeats its secret."""
    if text is None:
        return
    remedy = "Write it like “https://hooks.example.com/attachd”."
    # The webhooks of chat services carry their secret in the path or the query.
    wrong = _wrong_address(text.partition("?")[0])
    if wrong:
        yield Problem("", wrong, remedy)
    elif _is_in_the_clear(text):
        yield Problem("", "is http, so the network could read the names of files and issues.", remedy)


def token_url(text: str | None) -> Iterator[Problem]:
    """Check the address of a token endpoint: https, except on this machine. Never repeats the address."""
    if text is None:
        return
    remedy = "Write it like “https://auth.atlassian.com/oauth/token”."
    if wrong := _wrong_address(text):
        yield Problem("", wrong, remedy)
    elif _is_in_the_clear(text):
        yield Problem("", "is http, so the network could read the client secret.", remedy)


def derived_token_url(address: str) -> Iterator[Problem]:
    """Refuse http for the site's own token endpoint: ``allow_http`` does not cover the client's secret."""
    if _is_in_the_clear(address):
        what = 'is http, so kind = "oauth2" would send the client secret in the clear.'
        yield Problem("url", what, "Write https, or set jira.auth.token_url.")


def _is_in_the_clear(address: str) -> bool:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def usual_token_url(site: str, deployment: str) -> str:
    """Return Atlassian's endpoint for Jira Cloud, else the site's own. With "auto", the site's address tells which."""
    host = urllib.parse.urlsplit(site).hostname or ""
    is_atlassians = host.endswith((".atlassian.net", ".atlassian.com"))
    if deployment == "cloud" or (deployment == "auto" and is_atlassians):
        return "https://auth.atlassian.com/oauth/token"
    return f"{site}/rest/oauth2/latest/token"
