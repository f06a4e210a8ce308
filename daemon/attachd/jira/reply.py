"""The outcome of a request before it is judged: a reply, or the stage at which it broke."""

from __future__ import annotations

import datetime
import email.utils
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

from attachd.model import Fault

#: How many messages of a server are kept, and how many characters of each.
MESSAGES = 10
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete status line. ``body`` may be cut (``whole`` is False then). Header names are in lower case.

    Two words on the request's body: it was ``exhausted`` if its closing boundary may have left, and ``abandoned`` if the
    answer came before all of it had left. Both are true where nobody knows how far into its end a write came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    exhausted: bool
    abandoned: bool = False

    def header(self, name: str) -> str:
        """Return a header, or ""."""
        return self.headers.get(name.lower(), "")

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is not JSON (an HTML page, or a cut or empty body)."""
        if not self.whole or len(self.body) == 0:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def words(self) -> tuple[str, ...]:
        """What Jira says in its own error shapes, each message once; empty if the answer is not Jira's JSON.

        The shapes that occur are in Jira's REST documentation ("Status codes") and in what gateways answer.
        """
        body = self.json
        if not isinstance(body, dict):
            return ()
        errors = body.get("errors")
        named = errors.values() if isinstance(errors, dict) else errors if isinstance(errors, list) else []
        listed = body.get("errorMessages")
        found = [body.get("errorMessage"), body.get("message"), *(listed if isinstance(listed, list) else []), *named]
        return tuple(
            islice(dict.fromkeys(words for message in found if message and (words := legible(message))), MESSAGES)
        )

    @property
    def is_jira(self) -> bool:
        """True if the body is Jira's own error JSON, so that Jira answered and not a proxy."""
        body = self.json
        return isinstance(body, dict) and bool(body.keys() & {"errorMessages", "errors", "errorMessage"})

    @property
    def is_page(self) -> bool:
        """True for a web page, complete or not: a login, or a proxy's error."""
        return "html" in self.header("content-type").lower() or self.body.lstrip()[:1] == b"<"

    @property
    def is_cut(self) -> bool:
        """True if the end of the body is missing, so that nobody can tell whether Jira answered."""
        return not self.whole and not self.is_page

    @property
    def date(self) -> float | None:
        """The server's clock when it answered (seconds since the epoch), from the ``Date`` header (RFC 9110, 6.6.1)."""
        return parse_date(self.header("date"))


class Stage(Enum):
    """How far a request came before it broke."""

    CONNECTING = "connecting"  #: nothing was sent
    SENDING = "sending"  #: the body never reached its closing boundary
    REPLY = "reply"  #: the whole body may have arrived


@dataclass(frozen=True, slots=True)
class Broken:
    """No status line arrived. ``ours`` is set if the cause is on this machine: the file changed or cannot be read.

    ``timed_out`` tells that nothing spoke against the connection but the time that it took.
    ``fault`` is set where nothing was sent because there is no access token to send it with.
    """

    stage: Stage
    error: str
    certificate: bool = False
    ours: Exception | None = None
    timed_out: bool = False
    fault: Fault | None = None


Exchange = Reply | Broken


def parse_date(text: str) -> float | None:
    """Read an HTTP date; None if it is missing or invalid. Without a zone it is GMT too (RFC 9110, 5.6.7)."""
    try:
        moment = email.utils.parsedate_to_datetime(text) if text else None
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return moment.timestamp() if moment else None
    except (ValueError, OverflowError):
        return None


def legible(said: object, most: int = MESSAGE_CHARACTERS) -> str:
    """Bring what a server said into one line of at most *most* printable characters, which the journal can hold."""
    try:
        text = str(said)
    except RecursionError:
        return "..."
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line if len(line) <= most else line[:most] + "..."
