"""What people ask the journal: how many, which, why, since when. Reads only; works beside a running daemon.

Times are shown by the wall clock. A *moment* that is given is in the journal's time (``Timeline.kept``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from attachd.journal import lookup
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause
from attachd.journal.rows import Row
from attachd.model import Scope, State, Word, word


@dataclass(frozen=True, slots=True)
class UnroutedFolder:
    """A folder that means no issue, with files in it."""

    folder: bytes
    reason: str
    files: int
    since: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The journal in numbers. ``counts`` has every word; ``oldest`` is when the oldest unfiled file was seen."""

    counts: dict[Word, int]
    oldest: float | None
    contested: int


def summary(journal: Journal) -> Summary:
    """Count all files by word: those that are unfinished now, those that failed and still lie there, and all that ever were
    attached or withdrawn.
    """
    now = standing(journal).words
    counts = now | {word: files for word, (files, _) in tally(journal).items()}
    counts[Word.FAILED] = now[Word.FAILED] + lying_in_failed(journal)
    refused = journal.value("SELECT count(*) FROM file WHERE contested IS NOT NULL AND state = 'READY'")
    return Summary(counts, lookup.oldest_waiting(journal), refused)


@dataclass(frozen=True, slots=True)
class Standing:
    """How many unfinished files are in each state, and how many of these are blocked."""

    states: dict[State, int]
    blocked: dict[State, int]

    @property
    def left(self) -> int:
        """How many files are not filed yet."""
        return sum(self.states.values())

    @property
    def decided(self) -> int:
        """How many of them have their verdict, and are still to be moved."""
        return self.states[State.ATTACHED] + self.states[State.REFUSED]

    @property
    def stuck(self) -> int:
        """How many of them wait for a person: blocked, before they could be sent."""
        return self.blocked.get(State.SEEN, 0)

    @property
    def settling(self) -> int:
        """How many files have not been unchanged for long enough yet."""
        return self.states[State.SEEN] - self.stuck

    @property
    def words(self) -> dict[Word, int]:
        """The same in the words for people."""
        counts = dict.fromkeys(Word, 0)
        for state, files in self.states.items():
            blocked = self.blocked.get(state, 0)
            counts[word(state, None)] += files - blocked
            counts[Word.BLOCKED] += blocked
        return counts


#: The states of unfinished files that an index of their own counts; of those that are READY each issue knows how many.
_INDEXED = (State.SEEN, State.SENDING, State.DOUBTFUL, State.ATTACHED, State.REFUSED)


def standing(journal: Journal) -> Standing:
    """Count what is not finished. What waits to be sent, which may be a million files, is not counted one by one."""
    with journal.transaction_for_reading() as connection:
        counts = [f"(SELECT count(*) FROM file WHERE {_having(state)})" for state in _INDEXED]
        found = connection.execute(
            f"SELECT {', '.join(counts)}, (SELECT total(ready) FROM issue_queue WHERE ready > 0)"
        )
        *numbers, ready = found.fetchone()
        blocked = connection.execute(
            "SELECT state, count(*) FROM file WHERE blocked IS NOT NULL AND finished_at IS NULL GROUP BY state"
        ).fetchall()
    states = dict(zip(_INDEXED, numbers, strict=True)) | {State.READY: int(ready)}
    return Standing(states, {State(state): files for state, files in blocked})


def _having(state: State) -> str:
    """In the words of the index, so that it is used."""
    verdict = state in (State.ATTACHED, State.REFUSED)
    return f"state = '{state}'" + (" AND state IN ('ATTACHED', 'REFUSED')" if verdict else "")


def progress(journal: Journal) -> tuple[object, ...]:
    """What changes whenever any file gets on."""
    with journal.transaction_for_reading() as connection:
        marks = connection.execute(
            "SELECT (SELECT max(id) FROM file), (SELECT max(finished_at) FROM file WHERE finished_at IS NOT NULL),"
            " (SELECT value FROM meta WHERE key = 'attempt'),"
            " (SELECT total(looks + rounds) FROM file WHERE state = 'DOUBTFUL')"
        ).fetchone()
    found = standing(journal)
    return *marks, *found.states.values(), *found.blocked.values()


def failed_since(journal: Journal, moment: float) -> int:
    """How many files have been refused since *moment*, or, refused before, been moved to failed since then."""
    filed = "SELECT count(*) FROM file WHERE finished_at >= ? AND state = 'FAILED'"
    unfiled = (
        "SELECT count(*) FROM file WHERE state IN ('ATTACHED', 'REFUSED') AND state = 'REFUSED' AND verdict_at >= ?"
    )
    return int(journal.value(filed, (moment,))) + int(journal.value(unfiled, (moment,)))


def unrouted(journal: Journal) -> list[UnroutedFolder]:
    """Return the unrouted folders with files in them."""
    line, found = journal.timeline(), journal.rows("SELECT folder, reason, files, since FROM unrouted ORDER BY folder")
    return [UnroutedFolder(folder, reason, files, line.shown(since)) for folder, reason, files, since in found]


def troubles(journal: Journal) -> dict[str, str]:
    """The folders that could not be listed, and why: what lies in them is not known."""
    known: dict[str, str] = json.loads(journal.value("SELECT value FROM meta WHERE key = 'troubles'") or "{}")
    return known


def ignored(journal: Journal) -> int:
    """How many names in folders of issues a pattern leaves alone, as the last scan found."""
    return int(journal.value("SELECT value FROM meta WHERE key = 'ignored'") or 0)


@dataclass(frozen=True, slots=True)
class Events:
    """What events are worth: ``blind`` names the mounts on which they do not tell everything, and why; ``overflows`` of the
    kernel's queue, and files ``found`` by a scan of which no event told, since the journal was made.
    """

    blind: dict[str, str]
    overflows: int
    found: int


def events(journal: Journal) -> Events:
    """What the intake has found out about events."""
    known = {row[0]: row[1] for row in journal.rows("SELECT key, value FROM meta WHERE key LIKE 'watch.%'")}
    blind = json.loads(known.get("watch.blind", "{}"))
    return Events(blind, int(known.get("watch.overflows", 0)), int(known.get("watch.found", 0)))


def active_pauses(journal: Journal, now: float) -> list[Pause]:
    """What holds files up now."""
    return [pause for pause in lookup.every_pause(journal) if pause.holds(now)]


def paused_by_hand(journal: Journal, now: float) -> list[str]:
    """The issues that an administrator has paused, one by one."""
    by_hand = [p for p in active_pauses(journal, now) if p.scope is Scope.OPERATOR and p.subject]
    return sorted(pause.subject for pause in by_hand)


def last_verdicts(journal: Journal, limit: int = 10) -> list[Row]:
    """What was finished last, the latest first; without failures that one of these has made good again."""
    which = "WHERE finished_at IS NOT NULL ORDER BY finished_at DESC, id DESC LIMIT ?"
    good, told = set[bytes](), list[Row]()
    for row in lookup.select(journal, which, (2 * limit,)):
        if row.state is State.DONE:
            good.add(row.path)
        if row.state is not State.FAILED or row.path not in good:
            told.append(row)
    return told[:limit]


def attached_since(journal: Journal, moment: float) -> int:
    """How many files Jira has accepted since *moment*."""
    which = "attachment IS NOT NULL AND verdict_at >= ? AND state IN ('ATTACHED', 'DONE')"
    return int(journal.value(f"SELECT count(*) FROM file INDEXED BY file_accepted WHERE {which}", (moment,)))


def failures_since(journal: Journal, moment: float, limit: int = 100) -> list[Row]:
    """The files that ``failed_since`` counts."""
    which = "(state = 'FAILED' AND finished_at >= ?) OR (state = 'REFUSED' AND verdict_at >= ?)"
    return lookup.select(journal, f"WHERE {which} ORDER BY id LIMIT ?", (moment, moment, limit))


def tally(journal: Journal) -> dict[Word, tuple[int, int]]:
    """How many files have ever been attached, failed, or withdrawn, and their bytes; forgotten history counts too."""
    found = journal.rows("SELECT verdict, files, bytes FROM tally")
    return {word(State(verdict), None): (files, size) for verdict, files, size in found}


def uploads(journal: Journal) -> int:
    """How many requests with files are under way."""
    return int(journal.value("SELECT count(DISTINCT attempt) FROM file WHERE state = 'SENDING'"))


def lying_in_failed(journal: Journal) -> int:
    """How many failed files still lie where their note is."""
    return int(journal.value("SELECT count(*) FROM file WHERE note IS NOT NULL AND state = 'FAILED'"))


def failed_lately(journal: Journal, limit: int) -> list[Row]:
    """Failed files that still lie where their note is, the latest first."""
    which = "INDEXED BY file_noted WHERE note IS NOT NULL AND state = 'FAILED'"
    return lookup.select(journal, f"{which} ORDER BY id DESC LIMIT ?", (limit,))


def accepted_by_hour(journal: Journal, first: float) -> dict[int, tuple[int, int]]:
    """Files and bytes that Jira has accepted in each hour since *first* by the wall clock, which has number 0."""
    first = journal.timeline().kept(first)
    found = journal.rows(
        "SELECT CAST((verdict_at - ?) / 3600 AS INTEGER), count(*), total(size) FROM file"
        " WHERE attachment IS NOT NULL AND verdict_at >= ? GROUP BY 1",
        (first, first),
    )
    return {hour: (files, int(size)) for hour, files, size in found}
