"""Compares what the journal says was attached with what Jira holds now, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from attachd.config import Config
from attachd.errors import Mistake, Problem
from attachd.jira import attachments, client, connection, rate_limits, site_info
from attachd.jira.attachments import Attachment
from attachd.jira.contents import Digest
from attachd.jira.oauth import Identity
from attachd.jira.reply import Broken, Exchange, Reply
from attachd.journal import lookup
from attachd.journal.database import Journal
from attachd.journal.rows import Row
from attachd.model import Fault

#: How often attachd asks again after "too many requests", and the longest and the usual wait before that, in seconds.
_TRIES, _LONGEST_WAIT, _USUAL_WAIT = 10, 300.0, 5.0
#: How long the content of one attachment may take to arrive, in seconds, and in seconds for each byte.
_CONTENT_SECONDS, _SECONDS_PER_BYTE = 60.0, 1 / 262_144


class Result(StrEnum):
    """How one file stands in Jira."""

    SAME = "same"
    DELETED = "deleted"
    RENAMED = "renamed"
    DIFFERS = "differs"
    UNKNOWN = "unknown"  #: Jira could not be asked, or does not show the issue


@dataclass(frozen=True, slots=True)
class Compared:
    """One file of the journal, and how its attachment stands; *detail* says it in words where it is not the same."""

    row: Row
    result: Result
    detail: str = ""


class Verifier:
    """Asks Jira, one issue after the other. *wait* is given seconds, and told by Jira how many."""

    def __init__(self, asker: client.Client, version: str, wait: Callable[[float], object], *, content: bool) -> None:
        """*version* is that of the API; *content*: what is there is read too, and its SHA-256 compared (Jira Cloud)."""
        self._asker, self._version, self._wait, self._content = asker, version, wait, content

    def issue(self, issue: str, rows: Sequence[Row]) -> Iterator[Compared]:
        """Compare all files of one issue with one listing of it."""
        answer = self._ask(lambda: self._asker.listing(self._version, issue))
        if isinstance(answer, Broken):
            yield from (Compared(row, Result.UNKNOWN, f"Jira did not answer: {answer.error}") for row in rows)
            return
        found = attachments.parse_listing(answer.json) if answer.status == 200 else None
        if found is None and answer.status != 200:
            said = "; ".join(answer.words) or f"it answered {answer.status}"
            yield from (Compared(row, Result.UNKNOWN, f"Jira does not show {issue}: {said}") for row in rows)
            return
        there = {each.id: each for each in found.attachments} if found else {}
        for row in rows:
            yield self._compared(row, there.get(row.attachment or ""))

    def _compared(self, row: Row, there: Attachment | None) -> Compared:
        if there is None:
            # A listing may leave the field out, or parts of it: the attachment itself is asked for.
            answer = self._ask(lambda: self._asker.attachment(self._version, row.attachment or ""))
            if isinstance(answer, Broken):
                return Compared(row, Result.UNKNOWN, f"Jira did not answer: {answer.error}")
            if answer.status == 404 and answer.is_jira:
                return Compared(row, Result.DELETED, f"attachment {row.attachment} is no longer there")
            # Data Center leaves the id out of this answer; the address that was asked names it.
            told = answer.json if answer.status == 200 else None
            there = attachments.parse_attachment({"id": row.attachment, **told}) if isinstance(told, dict) else None
            if there is None:
                said = "; ".join(answer.words) or f"it answered {answer.status}"
                return Compared(row, Result.UNKNOWN, f"Jira does not show attachment {row.attachment}: {said}")
        compared = compare(row, there)
        if not self._content or compared.result not in (Result.SAME, Result.RENAMED):
            return compared
        read = self._read(row, there)
        return compared if read.result is Result.SAME else read

    def _read(self, row: Row, there: Attachment) -> Compared:
        if row.sha256 is None:
            return Compared(row, Result.UNKNOWN, "its checksum is unknown")
        patience = _CONTENT_SECONDS + row.size * _SECONDS_PER_BYTE
        found = self._asker.content(self._version, there, patience)
        if not isinstance(found, Digest):
            said = f"the content of attachment {row.attachment} cannot be read ({found.reason})"
            return Compared(row, Result.UNKNOWN, said)
        if found.sha256 == row.sha256:
            return Compared(row, Result.SAME)
        return Compared(row, Result.DIFFERS, f"the content of attachment {row.attachment} differs from the file")

    def _ask(self, call: Callable[[], Exchange]) -> Exchange:
        answer = connection.ask(call)
        for _ in range(_TRIES):
            if not isinstance(answer, Reply) or answer.status not in (429, 503):
                break
            wait = rate_limits.retry_after(answer)
            self._wait(min(_USUAL_WAIT if wait is None else wait, _LONGEST_WAIT))
            answer = connection.ask(call)
        return answer


def compare(row: Row, there: Attachment) -> Compared:
    """Hold what Jira says of an attachment against what was sent. Pure."""
    if there.size != row.size:
        detail = f"attachment {row.attachment} has {there.size:,} bytes in Jira instead of {row.size:,}"
        return Compared(row, Result.DIFFERS, detail)
    if there.name != (row.stored_as or row.name):
        detail = (
            f"attachment {row.attachment} is now called '{there.name}' in Jira, and was '{row.stored_as or row.name}'"
        )
        return Compared(row, Result.RENAMED, detail)
    return Compared(row, Result.SAME)


def verify(
    config: Config, who: Identity, journal: Journal, key: str, *, content: bool,
    wait: Callable[[float], object],
) -> Iterator[Compared]:  # fmt: skip
    """Compare every file that was attached, or those of the issue *key*. Raises ``errors.Mistake`` (1) without a Jira."""
    with closing(connection.asking_client(config, config.jira.url, who)) as asker:
        verifier = Verifier(asker, _version(config, asker), wait, content=content)
        for issue in lookup.issues_accepted(journal, key):
            rows = lookup.accepted(journal, issue)
            ours = [row for row in rows if row.site == config.jira.url]
            if ours:
                yield from verifier.issue(issue, ours)
            elsewhere = (row for row in rows if row.site != config.jira.url)
            yield from (
                Compared(row, Result.UNKNOWN, f"it was attached at another site ({row.site})") for row in elsewhere
            )


def _version(config: Config, asker: client.Client) -> str:
    """Return the version of the API that the site speaks, once Jira accepts the account. Raises ``errors.Mistake`` (1)."""
    version = site_info.CONFIGURED.get(config.jira.deployment) or site_info.discover(asker).api
    if isinstance(version, Fault):
        raise _cannot_ask(config, version)
    if config.jira.auth.kind != "anonymous":
        who = site_info.who(connection.ask(lambda: asker.myself(version)))
        if isinstance(who, Fault) and who.kind != "scope":
            raise _cannot_ask(config, who)
    return version


def _cannot_ask(config: Config, fault: Fault) -> Mistake:
    reason = f"{fault.reason.removesuffix('.')}."
    return Mistake(Problem(config.jira.url, reason, "`attachd check` says what to do."), exit_code=1)
