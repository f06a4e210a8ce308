"""Addresses that the configuration names: of Jira, of a proxy, of the page, of hooks. Each check yields what is wrong."""

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
    """It must be the address of a Jira: a host, perhaps a port and a base path, nothing else. Never echoes it."""
    if wrong := _wrong_address(text):
        yield Problem("", wrong, "Write it as in “https://jira.example.com”; who signs in stands in [jira.auth].")
    elif pages := _PAGES & set(urllib.parse.urlsplit(text).path.lower().split("/")):
        yield Problem("", f"is the address of a page (“/{min(pages)}”).", "Leave out that part and what follows it.")


def proxy(text: str | None) -> Iterator[Problem]:
    """It must be the address of a proxy that is spoken to in HTTP. Never echoes it."""
    if text is None:
        return
    remedy = "Write it as in “http://proxy.example.com:3128”; signing in at a proxy is not supported."
    if wrong := _wrong_address(text):
        yield Problem("", wrong, remedy)
    elif urllib.parse.urlsplit(text).path not in ("", "/"):
        yield Problem("", "has a path.", remedy)


#: In characters, of the 107 that the address of a unix socket has (unix(7)).
_LONGEST_SOCKET = 100


def listen(text: str | None) -> Iterator[Problem]:
    """It must be a unix socket, or a port of this machine: what is said there is not encrypted."""
    if text is None:
        return
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable() or len(os.fsencode(path)) > _LONGEST_SOCKET:
            what = f"names no socket: a path of at most {_LONGEST_SOCKET} bytes has to follow “unix:”."
            yield Problem("", what, "Write it as in “unix:/run/attachd/web.sock”.")
        return
    remedy = (
        "Write it as in “127.0.0.1:8437”; for others, put a proxy with TLS in front, or forward the port with ssh -L."
    )
    host = _host_with_port(text)
    if not host:
        yield Problem("", "is neither “unix:PATH” nor “ADDRESS:PORT”.", remedy)
    elif not is_loopback(host):
        yield Problem(
            "", "is no address of this machine alone: everybody on the way could read the page's token.", remedy
        )


def hosts(names: Sequence[str]) -> Iterator[Problem]:
    """Each must be a host's name as it stands in an address, without scheme and port."""
    for name in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name, re.ASCII):
            yield Problem("", f"{name!r} is no host's name.", "Write it as in “drop.example.com”, in small letters.")


def _host_with_port(text: str) -> str:
    """The host of “HOST:PORT”; "" where it is something else."""
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
        return "is no address: its host or its port cannot be read."
    if parts.scheme not in ("https", "http"):
        return "does not begin with “https://”."
    if "@" in parts.netloc:
        return "contains a user's name or a password."
    if not host or port == 0:
        return "names no host." if not host else "is no address: its port is 0."
    if not _is_host(host, literal="[" in parts.netloc):
        return "names no possible host: look for a misspelling between “//” and the next “/”."
    if "?" in text or "#" in text:
        return "has a query (“?”) or a fragment (“#”)."
    return None


#: In characters: a host's name, of which each part has 63 at the most (RFC 1035, 2.3.4).
_LONGEST_HOST = 253
#: Also with “_”, which names of intranets have.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def _is_host(host: str, *, literal: bool) -> bool:
    """Whether a connection could be tried: an address of IPv4 or (a *literal*, in brackets) of IPv6, or a name.

    What is accepted here and encoded later, by httpx and by the socket, must not fail there: no reply would say so.
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
    """An international name as it is asked for. Raises ``ValueError`` where it is none."""
    # Loaded by those few alone who have such a name.
    import httpx

    try:
        url = httpx.URL(f"https://{host}")
        # Only this decodes a name that is encoded already, and finds out that it cannot be (UnicodeError).
        return url.raw_host.decode() if url.host else ""
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def tidy(text: str) -> str:
    """Bring the address of a site into its one form: scheme and host in lower case, no slash at the end."""
    parts = urllib.parse.urlsplit(text)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def transport(address: str, allow_http: bool, cert: Path | None, key: Path | None) -> Iterator[Problem]:
    """A token travels in the clear over http, so it has to be asked for; a client's key is of no use alone."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        yield Problem(
            "url",
            "is http: the token and every file could be read on the way.",
            "Write https; or, if you accept that, set jira.allow_http = true.",
        )
    if key and not cert:
        yield Problem("client_key_file", "is given without client_cert_file.", "Name the certificate too.")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine itself, whatever any name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hook_url(text: str | None) -> Iterator[Problem]:
    """What is told names files and issues: https, but for this machine itself. Never echoes it: it may hold a secret."""
    if text is None:
        return
    remedy = "Write it as in “https://hooks.example.com/attachd”."
    # Webhooks of chats have their secret in the path or in a query.
    wrong = _wrong_address(text.partition("?")[0])
    if wrong:
        yield Problem("", wrong, remedy)
    elif _is_in_the_clear(text):
        yield Problem("", "is http: names of files and issues could be read on the way.", remedy)


def token_url(text: str | None) -> Iterator[Problem]:
    """The client's secret goes there: https, but for this machine itself. Never echoes it."""
    if text is None:
        return
    remedy = "Write it as in “https://auth.atlassian.com/oauth/token”."
    if wrong := _wrong_address(text):
        yield Problem("", wrong, remedy)
    elif _is_in_the_clear(text):
        yield Problem("", "is http: the client's secret could be read on the way.", remedy)


def derived_token_url(address: str) -> Iterator[Problem]:
    """Where the site's own token endpoint is used, ``allow_http`` is not meant for the client's secret."""
    if _is_in_the_clear(address):
        what = 'is http, and kind = "oauth2" would send the client\'s secret there.'
        yield Problem("url", what, "Write https, or name another endpoint in jira.auth.token_url.")


def _is_in_the_clear(address: str) -> bool:
    parts = urllib.parse.urlsplit(address)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def usual_token_url(site: str, deployment: str) -> str:
    """Atlassian's for Jira Cloud, which is known by its address where *deployment* is "auto"; else the site's own."""
    host = urllib.parse.urlsplit(site).hostname or ""
    is_atlassians = host.endswith((".atlassian.net", ".atlassian.com"))
    if deployment == "cloud" or (deployment == "auto" and is_atlassians):
        return "https://auth.atlassian.com/oauth/token"
    return f"{site}/rest/oauth2/latest/token"
