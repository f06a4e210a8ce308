"""What a worker does next: it reads everything that matters once, and decides from that alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from attachd import errors
from attachd.delivery import moved_issues, pause
from attachd.delivery.pause import Gate
from attachd.delivery.runtime import Runtime
from attachd.filing import retention
from attachd.journal import contested, doubt, pauses, queue
from attachd.journal.rows import Proof, Row

#: How many files are moved for one sync of their folders.
FILED_AT_ONCE = 100


class Action(IntEnum):
    """What a worker can do, the most pressing first."""

    FILE_GROUP = auto()  #: move files that have their verdict, once they are worth a sync of their folders
    REVIEW_REFUSALS = auto()  #: believe the contested refusals that something has proven since, or whose time is over
    ASK_AGAIN = auto()  #: ask once more about refusals whose witnesses did not answer
    PROBE = auto()  #: ask Jira something harmless, to end a pause
    LOOK = auto()  #: look whether files in doubt are attached
    RECHECK = auto()  #: ask whether a moved issue is still where it was moved to
    SEND = auto()
    FILE_REST = auto()  #: move the files that have their verdict, however few they are
    RETAIN = auto()  #: delete or forget what is old enough


@dataclass(frozen=True, slots=True)
class View:
    """What a worker knows when it decides."""

    gate: Gate  #: what the pauses let through
    verdicts: Sequence[int] = ()  #: files that have their verdict and are due to be moved
    worth_filing: int = FILED_AT_ONCE  #: how many of them are moved before anything else is done
    contested: Sequence[Row] = ()  #: refusals of which somebody was asked, and that still wait for proof
    unasked: Sequence[Row] = ()  #: refusals about which it is time to ask
    probe: bool = False  #: a pause waits for a probe that is, or may be, due
    doubtful: Sequence[str] = ()  #: issues with files in doubt whose next look is due
    rate_limited: bool = False  #: Jira has asked us to wait with everything
    moved: bool = False  #: it is time to ask about a moved issue
    may_begin: bool = True  #: the inbox is there, and the service goes on
    ready: bool = False  #: some file waits to be sent
    retention_due: bool = False

    @classmethod
    def read(cls, runtime: Runtime) -> View:
        """Read the journal once."""
        now, boot = runtime.clock.now(), runtime.clock.boot()
        busy, filing = runtime.busy(), runtime.being_filed()
        with runtime.journal.transaction_for_reading() as connection:
            known = pauses.read(connection)
            refused = contested.waiting(connection)
            return cls(
                gate=pause.gate(known, now),
                verdicts=queue.with_verdict(connection, now, FILED_AT_ONCE, filing),
                worth_filing=_worth_filing(runtime, known),
                contested=[row for row in refused if row.proof is not Proof.NONE],
                unasked=[row for row in refused if row.proof is Proof.NONE and row.due <= now],
                probe=pause.may_be_due(known, now),
                doubtful=doubt.doubtful_issues(connection, now, busy, runtime.site.url),
                rate_limited=runtime.pacer.wait_for_all(boot) > 0,
                moved=moved_issues.are_due(runtime, connection),
                may_begin=runtime.may_begin(),
                ready=queue.waits(connection),
                retention_due=retention.is_due(runtime),
            )


def _worth_filing(runtime: Runtime, known: Sequence[pauses.Pause]) -> int:
    """Return how many files with a verdict are moved before more is sent.

    One, where nothing is sent before the site is met, which may take minutes. One too while the disk of ``done`` or
    ``failed`` was full: a move finds out whether it has room again.
    """
    waits_for_room = any(each.kind == errors.DISK for each in known)
    return FILED_AT_ONCE if runtime.site.introduced and not waits_for_room else 1


#: When each action is worth a try.
_WORTH: dict[Action, Callable[[View], bool]] = {
    Action.FILE_GROUP: lambda view: len(view.verdicts) >= view.worth_filing,
    Action.REVIEW_REFUSALS: lambda view: bool(view.contested),
    Action.ASK_AGAIN: lambda view: view.gate.looks and bool(view.unasked),
    Action.PROBE: lambda view: view.probe,
    Action.LOOK: lambda view: view.gate.looks and not view.rate_limited and bool(view.doubtful),
    Action.RECHECK: lambda view: view.gate.looks and view.moved,
    Action.SEND: lambda view: view.gate.uploads and view.may_begin and view.ready,
    Action.FILE_REST: lambda view: bool(view.verdicts),
    Action.RETAIN: lambda view: view.retention_due,
}


def decide(view: View, after: Action | None = None) -> Action | None:
    """Choose what is most pressing; *after* an action that found nothing to do, what comes next. Pure."""
    left = (action for action in Action if after is None or action > after)
    return next((action for action in left if _WORTH[action](view)), None)
