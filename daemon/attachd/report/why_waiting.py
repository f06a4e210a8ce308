"""What holds a file that waits in the inbox: its settling, a right, a refusal, a pause, an answer, its turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from attachd import errors
from attachd.clock import Clock
from attachd.config import Config, Rulebook, Settle
from attachd.delivery import blame
from attachd.fs.leases import Writer
from attachd.intake import gates
from attachd.journal import contested, lookup
from attachd.journal.database import Journal
from attachd.journal.pauses import Pause, project
from attachd.journal.rows import Proof, Row
from attachd.model import Cure, Scope, State, Word, printable, word
from attachd.report import pauses as report_pauses
from attachd.share.inbox_marker import Sight
from attachd.text import clock, size, span


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What holds for all files: the time, the process, the folders, the pauses, the waits of the configuration.

    ``absent`` says why the inbox is not there, "" where it is. ``epoch`` is the journal's last one. ``stopped`` are clauses
    about what else holds everything up. ``site``: jira.url.
    """

    now: float
    boot: float
    epoch: int
    running: bool
    absent: str
    pauses: Sequence[Pause]
    inbox: str
    done: str
    failed: str
    config: str
    rescan: float
    looks: int
    stopped: Sequence[str] = ()
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that the journal has not finished with, and what of others holds it.

    *ahead* files of its issue come before it; *barred_by* is one that Jira refused, *twin* one in doubt of its name and
    size. *by_day*: a refusal that is tried hourly for a day, because the issue may accept files again. *gone*: nothing
    lies at its path now. *rules* are those of its folder.
    """

    row: Row
    ahead: int = 0
    barred_by: Row | None = None
    twin: Row | None = None
    held_issues: int = 0
    by_day: bool = False
    gone: bool = False
    rules: Settle = field(default=gates.DEFAULTS, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One sentence about one path. *known* is False where nothing could be said; times are seconds since the epoch."""

    sentence: str
    word: Word | None
    row: Row | None = None
    since: float | None = None
    next: float | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class _Cause:
    """What holds it (after the file's name), what comes next, and when."""

    holds: str
    then: str = ""
    at: float | None = None
    since: float | None = None


def explain(name: str, found: Waiting, world: Circumstances) -> Answer:
    """Say what holds it, since when, and what comes next; and that nothing does while attachd is not running."""
    row, cause = found.row, _cause(found, world)
    then = f"; {cause.then}" if cause.then else ""
    at = cause.at if cause.at is not None and cause.at > world.now else None
    since = cause.since if cause.since is not None else row.since
    remark = f"; {row.remark}" if row.remark and row.state is not State.SEEN else ""
    sentence = f"{name} {cause.holds}{then}{remark}{not_running(world)}."
    return Answer(sentence, word(row.state, row.blocked), row, since, at)


def not_running(world: Circumstances) -> str:
    """What has to be added to every sentence about something that is still to come."""
    return "" if world.running else "; but attachd is not running, and nothing will happen before it is started"


def issue(row: Row) -> str:
    """The issue as people asked for it, and where it is now if it was moved."""
    return row.folder_key if row.issue == row.folder_key else f"{row.folder_key} (which is {row.issue} now)"


def clause(reason: str | None) -> str:
    """A reason of the journal as part of a sentence."""
    return (reason or "no reason is known").strip().removesuffix(".")


def quiet(size: int, rules: Settle) -> str:
    """How long a file of this size must have been unchanged."""
    proven, unproven = (gates.quiet_needed(size, rules, writer) for writer in (Writer.NOBODY, Writer.UNKNOWN))
    return span(proven) if proven == unproven else f"{span(proven)} ({span(unproven)} where the system does not tell)"


def _cause(found: Waiting, world: Circumstances) -> _Cause:
    match found.row.state:
        case State.SENDING:
            return _sending(found.row, world)
        case State.DOUBTFUL:
            return _in_doubt(found.row, world)
        case State.ATTACHED | State.REFUSED:
            return _unmoved(found.row, world)
        case State.SEEN:
            return _before_sending(found, world) or _settling(found.row, found.rules, world)
        case State.READY:
            return _before_sending(found, world) or _ready(found, world)
        case State.DONE | State.FAILED | State.WITHDRAWN:
            raise ValueError(f"{found.row.ident} waits for nothing")
        case _:
            assert_never(found.row.state)


def _before_sending(found: Waiting, world: Circumstances) -> _Cause | None:
    """What holds a file that is not sent yet, whether or not it has settled."""
    if world.absent:
        return _Cause(f"waits, because {world.absent}", "it goes on by itself when the inbox is there again")
    if world.stopped:
        return _Cause(f"waits, because {world.stopped[0]}", _GOES_ON)
    if found.gone:
        then = "with its next looks at the inbox, attachd finds out whether it was moved or taken away"
        return _Cause("is not at its place any more", then)
    if found.row.blocked:
        then = f"attachd looks again every {span(world.rescan)}, and takes it by itself once that is put right"
        since = clock(found.row.since, world.now)
        return _Cause(f"cannot be taken since {since}: {clause(found.row.blocked)}", then)
    return None


_GOES_ON = "it goes on by itself when that is put right"


def _settling(row: Row, rules: Settle, world: Circumstances) -> _Cause:
    """It has to be unchanged for a while; what would hold it after that is told too."""
    settling = _until_settled(row, rules, world)
    pauses = report_pauses.holding(world.pauses, row.issue, world.now)
    if not pauses:
        return settling
    held = _paused(pauses, world)
    return _Cause(settling.holds, f"after that it {held.holds}; {held.then}", settling.at, settling.since)


def _until_settled(row: Row, rules: Settle, world: Circumstances) -> _Cause:
    since = clock(row.since, world.now)
    if row.lacks:
        when = f" at {clock(row.due, world.now)}" if world.running else ""
        return _Cause(
            f"waits since {since}: {row.remark}", f"it is sent as it is{when}, unless it is completed before", row.due
        )
    if row.reason:
        when = f"at {clock(row.due, world.now)} at the earliest" if row.due else "when that is over"
        return _Cause(f"waits since {since}: {clause(row.reason)}", f"it is sent to {issue(row)} {when}", row.due)
    needed = gates.quiet_needed(row.size, rules, Writer.NOBODY)
    what = f"until it is closed and nobody has changed it for {quiet(row.size, rules)}"
    if row.size == 0:
        what = f"{quiet(row.size, rules)} for its content, because it is empty"
    if not world.running or row.epoch != world.epoch:
        return _Cause(f"is waited for {what}", f"it is then sent to {issue(row)}")
    left = gates.settled_at(row, needed) - world.boot
    if left > 0:
        at = world.now + left
        return _Cause(
            f"is waited for {what}", f"it is sent to {issue(row)} at {clock(at, world.now)} at the earliest", at
        )
    return _Cause(f"has been unchanged for {span(needed)}", _when_unproven(row, rules, world))


def _when_unproven(row: Row, rules: Settle, world: Circumstances) -> str:
    """What comes next for a file that was quiet for long enough, if only nobody has it open."""
    left = gates.settled_at(row, gates.quiet_needed(row.size, rules, Writer.UNKNOWN)) - world.boot
    latest = max(left, 0.0) + world.rescan
    return f"attachd takes it within {span(latest)}, as soon as it is certain that no program has it open"


# --- Ready ------------------------------------------------------------------------------------------------------


def _ready(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    if row.contested is not None:
        return _refused_without_verdict(found, world)
    if pauses := report_pauses.holding(world.pauses, row.issue, world.now):
        return _paused(pauses, world)
    if world.running and (row.epoch != world.epoch or not row.at_path):
        return _Cause("waits to be looked at once more before it is sent", f"within {span(world.rescan)}")
    if row.due > world.now:
        why = f", because {clause(row.reason)}" if row.reason else ""
        return _Cause(f"waits until {clock(row.due, world.now)}{why}", f"it is then sent to {issue(row)}", row.due)
    return _behind_others(found, world)


def _behind_others(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    if found.barred_by is not None:
        other = printable(found.barred_by.path)
        return _Cause(
            f"waits, because Jira refused {other}, which goes to the same issue", "it is sent when that is settled"
        )
    if found.twin is not None:
        other = printable(found.twin.path)
        return _Cause(
            f"waits, because it is not known yet whether {other} has arrived, and the two have the same name and size",
            "it is sent when that is known",
        )
    tried = (
        f" (tried {_times(row.tries)}; the last answer was: {clause(row.reason)})" if row.tries and row.reason else ""
    )
    if found.ahead:
        before = "1 file" if found.ahead == 1 else f"{found.ahead} files"
        return _Cause(
            f"waits for its turn{tried}: {before} for {issue(row)} before it", "they are sent one after the other"
        )
    return _Cause(
        f"is the next file for {issue(row)}{tried}", "it is sent as soon as a transfer is free" if world.running else ""
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _refused_without_verdict(found: Waiting, world: Circumstances) -> _Cause:
    row = found.row
    when = row.contested_at or row.since
    said = f"was refused by Jira at {clock(when, world.now)} ({clause(row.reason)})"
    if row.proof is Proof.NONE:
        return _Cause(
            said, "attachd is finding out whether that is about this file or about its own account", row.due, when
        )
    if row.proof is Proof.OPERATOR:
        return _Cause(
            said, "`attachd resume` has confirmed that, so it goes to the folder failed in a moment", None, when
        )
    if found.by_day:
        end = _refused_since(row, world.pauses, when) + blame.FORBIDDEN_SECONDS
        then = (
            "as a right may have been lost by mistake, it stays, is tried again at "
            f"{clock(row.due, world.now)} or with `attachd resume`, and fails after {clock(end, world.now)}"
        )
        return _Cause(said, then, row.due, when)
    return _Cause(said, _held(found, world), row.due, when)


def _refused_since(row: Row, pauses: Sequence[Pause], when: float) -> float:
    """Since when the project or the issue is refused: the day counts from there, not for each file anew."""
    lost = {(Scope.PROJECT, project(row.issue)), (Scope.ISSUE, row.issue)}
    return min([when, *(p.since for p in pauses if (p.scope, p.subject) in lost and p.kind in blame.LOST)])


def _held(found: Waiting, world: Circumstances) -> str:
    if found.held_issues >= contested.FUSE:
        return (
            f"as {found.held_issues} issues are refused alike, attachd's account is suspected, and nothing fails for it: "
            "check what the account may see, then say `attachd resume`"
        )
    return (
        "as that may be the fault of attachd's account, it stays until another file is accepted, or until "
        f"{clock(found.row.due, world.now)}, and fails then"
    )


def _paused(pauses: Sequence[Pause], world: Circumstances) -> _Cause:
    """The widest pause, and what else holds it: it goes on with the last of them."""
    first, *others = pauses
    then = report_pauses.end(first, world.now)
    then += "".join(
        f"; besides, {report_pauses.what(each, world.now)}, and {report_pauses.end(each, world.now)}" for each in others
    )
    at = None if any(each.cure is Cure.HAND for each in pauses) else max(each.until for each in pauses)
    return _Cause(
        f"waits, because {report_pauses.what(first, world.now)}", then, at, min(each.since for each in pauses)
    )


# --- Sent -------------------------------------------------------------------------------------------------------


def _sending(row: Row, world: Circumstances) -> _Cause:
    if world.running:
        again = f", for the {row.tries}. time" if row.tries > 1 else ""
        return _Cause(f"is being sent to {issue(row)} since {clock(row.since, world.now)} ({size(row.size)}{again})")
    if row.sha256 is None:
        return _Cause(
            "was being sent when attachd ended, and not whole yet", "nothing of it is attached, and it is sent anew"
        )
    then = "the issue is looked at before anything is sent again"
    return _Cause("was being sent when attachd ended, and may have arrived", then)


def _in_doubt(row: Row, world: Circumstances) -> _Cause:
    said = f"may or may not have arrived in {issue(row)} ({clause(row.reason)})"
    if world.stopped:
        return _Cause(said, f"the issue has to be looked at first, but {world.stopped[0]}; {_GOES_ON}")
    if None not in (row.site, world.site) and row.site != world.site:
        where = f"it was sent to {row.site}, and jira.url is {world.site} now"
        return _Cause(said, f"{where}; if both are the same Jira, `attachd resume --adopt-site` looks it up")
    pause = report_pauses.widest(world.pauses, row.issue, world.now, looks=True)
    if pause is not None:
        held, end = report_pauses.what(pause, world.now), report_pauses.end(pause, world.now)
        then = f"the issue has to be looked at first, but {held}; {end}"
        return _Cause(said, then, pause.until)
    number = 1 if row.brief else row.looks + 1
    of = 1 if row.brief else max(world.looks, number)
    at = f"at {clock(row.due, world.now)}" if row.due > world.now else "as soon as it can"
    blind = f"; it could not be read since {clock(row.blind_since, world.now)}" if row.blind_since else ""
    then = f"attachd looks at the issue {at} (look {number} of {of}{blind}), and sends it again only if it is not there"
    return _Cause(said, then, row.due)


def _unmoved(row: Row, world: Circumstances) -> _Cause:
    when = clock(row.verdict_at or row.since, world.now)
    if row.state is State.ATTACHED:
        said, root = f"is attached to {issue(row)} since {when}, as attachment {row.attachment}", world.done
    else:
        said, root = f"was refused for {issue(row)} at {when}: {clause(row.reason)}", world.failed
    if world.absent:
        return _Cause(said, f"it is moved to {root} when the inbox is there again, because {world.absent}")
    if world.stopped:
        return _Cause(said, f"it is moved to {root} later, because {world.stopped[0]}")
    if row.blocked or row.due > world.now:
        disk = next((p.reason for p in world.pauses if p.kind == errors.DISK and p.holds(world.now)), None)
        why = f": {clause(row.blocked or disk)}" if row.blocked or disk else ""
        at = f", and is tried again at {clock(row.due, world.now)}" if row.due > world.now else ""
        return _Cause(said, f"it could not be moved to {root} yet{why}{at}", row.due)
    return _Cause(said, f"it is about to be moved to {root}")


def circumstances(
    config: Config,
    clock: Clock,
    sight: Sight,
    pauses: Sequence[Pause],
    epoch: int,
    *,
    running: bool,
    stopped: Sequence[str],
) -> Circumstances:
    """What holds for all files at this moment; *sight* is the last look at the inbox, *epoch* the journal's, *stopped* from
    ``health.stopping``.
    """
    folders = config.folders
    return Circumstances(
        now=clock.wall(),
        boot=clock.boot(),
        epoch=epoch,
        running=running,
        absent="" if sight.there else sight.reason,
        stopped=stopped,
        site=config.jira.url,
        pauses=pauses,
        inbox=str(folders.inbox),
        done=str(folders.done),
        failed=str(folders.failed),
        config=str(config.file),
        rescan=config.settle.rescan_seconds,
        looks=len(config.doubt.looks_seconds),
    )


def waiting(journal: Journal, rulebook: Rulebook, row: Row, *, ahead: int | None = None, gone: bool = False) -> Waiting:
    """What holds *row*; *ahead*: how many files of its issue come before it, where that is known: a long queue is counted
    one by one.
    """
    barred_by = lookup.contested_in(journal, row.issue)
    return Waiting(
        row,
        ahead=lookup.ahead(journal, row) if ahead is None else ahead,
        barred_by=barred_by if barred_by and barred_by.id != row.id else None,
        twin=lookup.twin_in_doubt(journal, row),
        # These two are asked only of a refused one: what was never sent has no site yet, and no index would know the answer.
        held_issues=len(report_pauses.suspects(journal, row.site or "")) if row.contested is not None else 0,
        by_day=row.contested is not None and (row.contested == 403 or lookup.has_accepted(journal, row)),
        gone=gone,
        rules=rulebook.of(row.path.partition(b"/")[0], row.folder_key),
    )
