"""Why a file still waits: it settles, is blocked, refused or paused, is in doubt, or waits for its turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from attachd import errors
from attachd.config import Settle
from attachd.fs.leases import Writer
from attachd.intake import gates
from attachd.journal import contested
from attachd.journal.pauses import Pause, project
from attachd.journal.rows import Proof, Row
from attachd.model import Cure, Scope, State, Word, printable, word
from attachd.report import pauses as report_pauses
from attachd.report.circumstances import Circumstances, Waiting
from attachd.text import capital, clock, files, issues, size, span


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say about one path. *known* is False if nothing is known; times are seconds since the epoch."""

    sentence: str
    word: Word | None
    row: Row | None = None
    since: float | None = None
    next: float | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class _Cause:
    """What holds the file (after its name), what comes next (a sentence without its full stop), and when."""

    holds: str
    then: str = ""
    at: float | None = None
    since: float | None = None


def explain(name: str, found: Waiting, world: Circumstances) -> Answer:
    """Say what holds the file, since when, and what comes next."""
    row, cause = found.row, _cause(found, world)
    at = cause.at if cause.at is not None and cause.at > world.now else None
    since = cause.since if cause.since is not None else row.since
    remark = capital(row.remark) if row.remark and row.state is not State.SEEN else ""
    sentence = to_come(world, f"{name} {cause.holds}", cause.then, remark)
    return Answer(sentence, word(row.state, row.blocked), row, since, at)


def to_come(world: Circumstances, *parts: str) -> str:
    """Join sentences about something that is still to come; the last one says if attachd is not running."""
    stopped = "" if world.running else "attachd is not running: nothing happens until it is started"
    return " ".join(f"{part.removesuffix('.')}." for part in (*parts, stopped) if part)


def issue(row: Row) -> str:
    """Return the issue key in the folder's name, and the present key if the issue was moved."""
    return row.folder_key if row.issue == row.folder_key else f"{row.folder_key} (now {row.issue})"


def clause(reason: str | None) -> str:
    """Return a reason of the journal as the end of a sentence."""
    return (reason or "no reason is known").strip().removesuffix(".")


def quiet(size: int, rules: Settle) -> str:
    """Return for how long a file of this size must not have changed."""
    proven, unproven = (gates.quiet_needed(size, rules, writer) for writer in (Writer.NOBODY, Writer.UNKNOWN))
    return span(proven) if proven == unproven else f"{span(proven)} ({span(unproven)} if it cannot tell)"


def _cause(found: Waiting, world: Circumstances) -> _Cause:
    match found.row.state:
        case State.SENDING:
            return _sending(found.row, world)
        case State.DOUBTFUL:
            return _in_doubt(found.row, world)
        case State.ATTACHED | State.REFUSED:
            return _unmoved(found, world)
        case State.SEEN:
            return _before_sending(found, world) or _settling(found.row, found.rules, world)
        case State.READY:
            return _before_sending(found, world) or _ready(found, world)
        case State.DONE | State.FAILED | State.WITHDRAWN:
            raise ValueError(f"{found.row.ident} waits for nothing")
        case _:
            assert_never(found.row.state)


def _before_sending(found: Waiting, world: Circumstances) -> _Cause | None:
    """Return what holds a file that is not sent yet, settled or not; None if nothing does."""
    if world.absent:
        return _Cause(f"is waiting because {clause(world.absent)}", "It goes on when the inbox is there again")
    if world.stopped:
        return _Cause(f"is waiting because {clause(world.stopped[0])}", _GOES_ON)
    if found.gone:
        then = "The next scans of the inbox find out whether it was moved or taken away"
        return _Cause("is no longer where it was dropped", then)
    if found.row.blocked:
        then = f"attachd checks it every {span(world.rescan)} and takes it once that is fixed"
        since = clock(found.row.since, world.now)
        return _Cause(f"has been blocked since {since}: {clause(found.row.blocked)}", then)
    return None


_GOES_ON = "It goes on by itself when that is fixed"


def _settling(row: Row, rules: Settle, world: Circumstances) -> _Cause:
    """Say until when the file must not change, and what holds it after that."""
    settling = _until_settled(row, rules, world)
    pauses = report_pauses.holding(world.pauses, row.issue, world.now)
    if not pauses:
        return settling
    then = f"After that it waits because {_in_turn(pauses, world)}"
    return _Cause(settling.holds, then, settling.at, settling.since)


def _until_settled(row: Row, rules: Settle, world: Circumstances) -> _Cause:
    since = clock(row.since, world.now)
    if row.lacks:
        when = f" at {clock(row.due, world.now)}" if world.running else ""
        holds = f"has been waiting since {since}: {row.remark}"
        return _Cause(holds, f"It is sent as it is{when}, unless it is completed before", row.due)
    if row.reason:
        when = f"at {clock(row.due, world.now)} at the earliest" if row.due else "when that is over"
        return _Cause(
            f"has been waiting since {since}: {clause(row.reason)}", f"It is sent to {issue(row)} {when}", row.due
        )
    needed = gates.quiet_needed(row.size, rules, Writer.NOBODY)
    holds = (
        "is still settling: attachd waits until no program has it open and it has not changed for "
        f"{quiet(row.size, rules)}"
    )
    if row.size == 0:
        holds = f"is empty: attachd waits {quiet(row.size, rules)} for its content"
    if not world.running or row.epoch != world.epoch:
        return _Cause(holds, f"It is then sent to {issue(row)}")
    left = gates.settled_at(row, needed) - world.boot
    if left > 0:
        at = world.now + left
        return _Cause(holds, f"It is sent to {issue(row)} at {clock(at, world.now)} at the earliest", at)
    return _Cause(f"has not changed for {span(needed)}", _when_unproven(row, rules, world))


def _when_unproven(row: Row, rules: Settle, world: Circumstances) -> str:
    """Say what comes next for a file that was quiet for long enough but may still be open."""
    left = gates.settled_at(row, gates.quiet_needed(row.size, rules, Writer.UNKNOWN)) - world.boot
    latest = max(left, 0.0) + world.rescan
    return f"attachd takes it within {span(latest)}, once it is certain that no program has it open"


# --- Ready ------------------------------------------------------------------------------------------------------


def _ready(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    if row.contested is not None:
        return _refused_without_verdict(found, world)
    if pauses := report_pauses.holding(world.pauses, row.issue, world.now):
        return _paused(pauses, world)
    if world.running and (row.epoch != world.epoch or not row.at_path):
        return _Cause("is checked once more before it is sent", f"That happens within {span(world.rescan)}")
    if row.due > world.now:
        why = f": {clause(row.reason)}" if row.reason else ""
        return _Cause(f"is waiting until {clock(row.due, world.now)}{why}", f"It is then sent to {issue(row)}", row.due)
    return _behind_others(found, world)


def _behind_others(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    if found.barred_by is not None:
        other = printable(found.barred_by.path)
        return _Cause(
            f"is waiting because Jira refused {other}, which goes to the same issue", "It is sent once that is settled"
        )
    if found.twin is not None:
        other = printable(found.twin.path)
        return _Cause(
            f"is waiting because {other} has the same name and size and may have arrived",
            "It is sent once that is known",
        )
    tried = ""
    if row.tries and row.reason:
        tried = f". It was tried {_times(row.tries)}. The last answer was: {clause(row.reason)}"
    if found.ahead:
        come = "comes" if found.ahead == 1 else "come"
        return _Cause(f"is waiting for its turn: {files(found.ahead)} for {issue(row)} {come} first{tried}")
    slot = "It is sent as soon as an upload is free" if world.running else ""
    return _Cause(f"is next for {issue(row)}{tried}", slot)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _refused_without_verdict(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    when = row.contested_at or row.since
    said = f"was refused by Jira at {clock(when, world.now)} ({clause(row.reason)})"
    if row.proof is Proof.NONE:
        return _Cause(said, "attachd is finding out whether the file or the account is the cause", row.due, when)
    if row.proof is Proof.OPERATOR:
        return _Cause(said, "`attachd resume` confirmed that, so the file goes to the folder failed", None, when)
    if found.by_day:
        end = _refused_since(row, world.pauses, when) + contested.FORBIDDEN_SECONDS
        then = (
            "The account may have lost its permission by mistake, so the file is held. "
            f"attachd tries again at {clock(row.due, world.now)}, or on `attachd resume`. "
            f"The file fails after {clock(end, world.now)}"
        )
        return _Cause(said, then, row.due, when)
    return _Cause(said, _held(found, world), row.due, when)


def _refused_since(row: Row, pauses: Sequence[Pause], when: float) -> float:
    """Return since when the project or the issue is refused: the day counts from there, once for all files."""
    lost = {(Scope.PROJECT, project(row.issue)), (Scope.ISSUE, row.issue)}
    kinds = contested.PROJECT_PAUSE, contested.ISSUE_PAUSE
    return min([when, *(p.since for p in pauses if (p.scope, p.subject) in lost and p.kind in kinds)])


def _held(found: Waiting, world: Circumstances) -> str:
    if found.held_issues >= contested.FUSE:
        return (
            f"{capital(issues(found.held_issues))} were refused with the same error, so the account may have lost access. "
            "Refused files are held. Check what the account may see, then run `attachd resume`"
        )
    return (
        "The account may be the cause, so the file is held. It fails once Jira accepts another file, or at "
        f"{clock(found.row.due, world.now)}"
    )


def _paused(pauses: Sequence[Pause], world: Circumstances) -> _Cause:
    """The file goes on with the end of the last pause."""
    at = None if any(each.cure is Cure.HAND for each in pauses) else max(each.until for each in pauses)
    return _Cause(f"is waiting because {_in_turn(pauses, world)}", "", at, min(each.since for each in pauses))


def _in_turn(pauses: Sequence[Pause], world: Circumstances) -> str:
    """Return each pause, the widest first, and what ends it."""
    first, *others = (f"{report_pauses.what(each, world.now)}. {report_pauses.end(each, world.now)}" for each in pauses)
    return "".join([first, *(f". Besides, {each}" for each in others)])


# --- Sent -------------------------------------------------------------------------------------------------------


def _sending(row: Row, world: Circumstances) -> _Cause:
    if world.running:
        again = f", attempt {row.tries}" if row.tries > 1 else ""
        return _Cause(
            f"has been uploading to {issue(row)} since {clock(row.since, world.now)} ({size(row.size)}{again})"
        )
    if row.sha256 is None:
        return _Cause(
            "was uploading when attachd ended, and was not complete", "Nothing of it is attached, so it is sent again"
        )
    return _Cause("was uploading when attachd ended, and may have arrived", _LOOK_FIRST)


_LOOK_FIRST = "attachd looks at the issue before it sends anything again"


def _in_doubt(row: Row, world: Circumstances) -> _Cause:
    said = f"may have arrived in {issue(row)} ({clause(row.reason)})"
    if world.stopped:
        return _Cause(said, f"{_CANNOT_LOOK}: {clause(world.stopped[0])}. {_GOES_ON}")
    if None not in (row.site, world.site) and row.site != world.site:
        where = f"It was sent to {row.site}, and jira.url is now {world.site}"
        return _Cause(said, f"{where}. If both are the same Jira, run `attachd resume --adopt-site`")
    pause = report_pauses.widest(world.pauses, row.issue, world.now, looks=True)
    if pause is not None:
        held, end = report_pauses.what(pause, world.now), report_pauses.end(pause, world.now)
        return _Cause(said, f"{_CANNOT_LOOK}: {held}. {end}", pause.until)
    number = 1 if row.brief else row.looks + 1
    of = 1 if row.brief else max(world.looks, number)
    at = f"at {clock(row.due, world.now)}" if row.due > world.now else "as soon as it can"
    blind = f". The issue has been unreadable since {clock(row.blind_since, world.now)}" if row.blind_since else ""
    then = f"attachd looks at the issue {at} (look {number} of {of}), and sends it again only if it is not there{blind}"
    return _Cause(said, then, row.due)


_CANNOT_LOOK = "attachd must look at the issue first, and cannot"


def _unmoved(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    when = clock(row.verdict_at or row.since, world.now)
    if row.state is State.ATTACHED:
        said, root = f"was attached to {issue(row)} at {when}, as attachment {row.attachment}", world.done
    else:
        said, root = f"was refused for {issue(row)} at {when}: {clause(row.reason)}", world.failed
    not_yet = f"It cannot be moved to {root} yet"
    if obstacle := world.absent or (world.stopped[0] if world.stopped else ""):
        return _Cause(said, f"{not_yet}: {clause(obstacle)}")
    if row.target is None and (found.gone or not row.at_path):
        where = f"It is no longer at {world.inbox}/{printable(row.path)}, so it cannot be moved to {root}"
        then = (
            "attachd waits while it, or a copy of it, lies anywhere else in the inbox, because somebody may put it back"
        )
        return _Cause(said, f"{where}. {then}", row.due)
    if row.blocked or row.due > world.now:
        full = (each.reason for each in world.pauses if each.kind == errors.DISK and each.holds(world.now))
        disk = next((reason for reason in full if f" {root}: " in reason), None)
        why = f": {clause(row.blocked or disk)}" if row.blocked or disk else ""
        at = f". attachd tries again at {clock(row.due, world.now)}" if row.due > world.now else ""
        return _Cause(said, f"{not_yet}{why}{at}", row.due)
    return _Cause(said, f"It is about to be moved to {root}")
