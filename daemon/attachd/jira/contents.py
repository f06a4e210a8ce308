"""What is known of an attachment's content, if Jira shows it."""

from __future__ import annotations

from dataclasses import dataclass

from attachd.jira import verdict
from attachd.jira.reply import Reply


@dataclass(frozen=True, slots=True)
class Digest:
    """The content was read completely; *sha256* is its checksum."""

    sha256: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The credentials do not open the content, and asking again will not help soon.

    ``everywhere``: that is so for every attachment of the site, as where only browsers that logged in are served.
    """

    reason: str
    everywhere: bool


@dataclass(frozen=True, slots=True)
class NotYet:
    """An outage or a limit, so it is worth asking again."""

    reason: str


Content = Digest | Unreadable | NotYet

#: Temporary statuses: a timeout, a rate limit. Those of 500 and above are temporary too.
_PASSING = (408, 425, 429)


def withheld(reply: Reply, *, cloud: bool) -> Content:
    """Judge an answer without the bytes. Pure.

    Cloud hands out contents to everybody who may see them, so nothing there is for good. Data Center may redirect a client
    without a browser's session to its login page.
    """
    said = f"Jira answered {reply.status}"
    if cloud or reply.status >= 500 or reply.status in _PASSING:
        return NotYet(said)
    if verdict.failed_login(reply) or verdict.denied_login(reply):
        return Unreadable(f"{said} and did not accept the account", everywhere=True)
    if 300 <= reply.status < 400:
        return Unreadable(f"{said}, a redirect to a login", everywhere=True)
    # A 404 may concern only this attachment, which may have been deleted since.
    return Unreadable(said, everywhere=reply.status != 404)


def of_another_size(reply: Reply, *, cloud: bool) -> Content:
    """Judge a good answer that is not as long as the attachment: a login page on Data Center, else a cut answer. Pure."""
    if not cloud and "html" in reply.header("content-type").lower():
        return Unreadable("Jira answered with a web page", everywhere=True)
    return NotYet("the answer was not as long as the attachment")
