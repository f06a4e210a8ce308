"""403 and 404: whose fault is it? Only a verdict about this file or this issue may move a file to failed.

A token that expired looks like "issue does not exist" on Jira Cloud, where most calls may be made anonymously. So a
refusal is believed only with a live account and a witness: an issue that accepted a file of ours and is still visible.
Until then it is *contested*: the file stays in the inbox, and ``why`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from attachd.delivery import outcome, pause, probe, record
from attachd.delivery.runtime import Runtime
from attachd.jira import site_info, verdict
from attachd.jira.client import Client
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.journal import contested, outbox, pauses, reminders, rows
from attachd.journal.contested import ContestedIssue
from attachd.journal.rows import Proof, Row
from attachd.logger import get_logger
from attachd.model import Contested, Cure, Fault, Scope, State, printable

log = get_logger()

#: When a witness is asked again that did not answer.
ASK_AGAIN_SECONDS = 30.0
#: A 403 without anything that speaks against the account is tried so often, until it is believed (``contested``).
FORBIDDEN_EVERY_SECONDS = 3600.0


@dataclass(slots=True)
class _Unheard:
    """Files whose witnesses are still to be heard, by row: with which generation of the credentials each was refused."""

    generations: dict[int, int] = field(default_factory=dict)


def account_fault(runtime: Runtime, client: Client) -> Fault | None:
    """Ask who we are; None while the account is alive (or anonymous, which nothing can prove)."""
    if runtime.credentials.anonymous:
        return None
    found = site_info.who(runtime.site.hear(runtime.ask(lambda: client.myself(runtime.site.version))))
    # A token without the scope for that question proves nothing: only witnesses can speak for it.
    return found if isinstance(found, Fault) and found.kind != "scope" else None


def unseen(answer: Exchange) -> Contested | None:
    """Return the refusal by which Jira, in its own words, does not show us an issue; None for any other answer."""
    if isinstance(answer, Reply) and answer.status in (403, 404) and answer.is_jira:
        return Contested(answer.status, "; ".join(answer.words))
    return None


def of_listing(runtime: Runtime, client: Client, issue: str, answer: Exchange) -> tuple[str, Fault | None]:
    """Say why a listing of an issue is unusable, and what is wrong with the world; None if it may be this issue alone."""
    if isinstance(answer, Broken):
        fault = verdict.unreachable(answer)
        # What nothing connected for is no issue's.
        return answer.error, fault if answer.stage is Stage.CONNECTING else _of_all(runtime, client, fault)
    refusal = unseen(answer)
    if refusal is not None:
        reason = f"Jira does not show the issue ({refusal.status}: {refusal.reason})"
        return reason, account_fault(runtime, client)
    if answer.status == 200 and answer.json is not None:
        return "Jira's answer does not list the attachments", None
    fault = verdict.throttled(answer, issue) if answer.status == 429 else site_info.not_jira(answer)
    return f"Jira answered {answer.status}", _of_all(runtime, client, fault)


def _of_all(runtime: Runtime, client: Client, fault: Fault) -> Fault | None:
    """Ask something else before a fault that one issue's listing showed stops every other issue; None if that is answered."""
    if fault.kind == "rate-limit":
        return fault
    if fault.scope is Scope.ACCOUNT:
        return fault if runtime.credentials.anonymous else account_fault(runtime, client)
    return fault if isinstance(probe.deployment(runtime, client, runtime.site.version), Fault) else None


def alike(refused: Sequence[Row]) -> list[Row]:
    """The first of *refused*, and those of its issue that were answered like it."""
    first = refused[0]
    return [row for row in refused if (row.issue, row.contested) == (first.issue, first.contested)]


def settle(runtime: Runtime, client: Client, refused: Sequence[Row], generation: int) -> None:
    """Find out at once whom a 403 or 404 concerns. What cannot be known yet stays contested.

    *refused* are files of one issue that were answered alike: what is found out holds for all of them. *generation* is
    that of the credentials before they were asked about. If they are others now, the account that is alive is not the one
    that was refused.
    """
    first = refused[0]
    fault = account_fault(runtime, client)
    if fault is not None:
        forget(runtime, refused)
        pause.pause(runtime, fault)
        return
    if runtime.credentials.generation != generation:
        forget(runtime, refused)
        return
    if _proven(runtime, first):
        _believe(runtime, refused, _NOT_TO_THIS_ONE)
        return
    with runtime.journal.transaction_for_reading() as connection:
        accepted = contested.accepted_before(connection, runtime.site.url, first.issue)
    if first.contested == 403 or accepted:
        alone = accepted and (first.contested == 404 or _others_accept(runtime, first))
        _wait_for_a_day(runtime, refused, alone=alone)
        return
    limits = None if runtime.site.cloud else probe.limits(runtime, client, fresh=True)
    largest = limits.largest if limits else None
    too_large = [row for row in refused if largest and row.size > largest]
    _believe(runtime, too_large, f"the file is larger than the {largest or 0:,} bytes that Jira allows")
    rest = [row for row in refused if row not in too_large]
    if rest:
        _hear_witnesses(runtime, client, rest, generation)


def settle_answered(runtime: Runtime, client: Client, written: Sequence[Row], generation: int) -> None:
    """Find out whom the refusals among the rows of one request concern."""
    refused = [
        row for row in written if row.state is State.READY and row.contested is not None and row.proof is Proof.NONE
    ]
    if refused:
        settle(runtime, client, alike(refused), generation)


def settle_unasked(runtime: Runtime, client: Client, issue: str, generation: int) -> None:
    """Find out whom it concerns that a look did not show us the issue."""
    with runtime.journal.transaction_for_reading() as connection:
        refused = [row for row in contested.waiting(connection) if row.issue == issue and row.proof is Proof.NONE]
    if refused:
        settle(runtime, client, alike(refused), generation)


def ask_again(runtime: Runtime, client: Client, refused: Sequence[Row]) -> None:
    """Ask once more about refusals whose witnesses did not answer.

    Refusals that another process left are sent again: nothing says which token they were refused with.
    """
    generation = runtime.memory(_Unheard).generations.pop(refused[0].id, None)
    if generation is None:
        forget(runtime, refused)
    else:
        settle(runtime, client, alike(refused), generation)


def _hear_witnesses(runtime: Runtime, client: Client, refused: Sequence[Row], generation: int) -> None:
    invisible: list[str] = []
    for witness in probe.known(runtime, refused[0].issue):
        answer = probe.ask(runtime, client, witness)
        if isinstance(answer, Broken):
            forget(runtime, refused)
            pause.pause(runtime, verdict.unreachable(answer))
            return
        if probe.visible(answer):
            probe.strike(runtime, invisible)
            _believe(runtime, refused, _UNKNOWN)
            return
        if answer.status not in (403, 404):
            _ask_later(runtime, refused, generation)
            return
        invisible.append(witness)
    if len(invisible) >= 2:
        forget(runtime, refused)
        pause.pause(runtime, _no_witness(invisible))
        return
    probe.strike(runtime, invisible)
    _wait_for_proof(runtime, refused)


def _no_witness(invisible: Sequence[str]) -> Fault:
    reason = (
        f"attachd no longer sees any issue that accepted files ({', '.join(invisible)}), so the account lost its permissions. "
        "Restore them, or run `attachd resume` if these issues were deleted"
    )
    return Fault(Scope.ACCOUNT, probe.NO_WITNESS, reason, cure=Cure.PROBE, wait=60)


def _ask_later(runtime: Runtime, refused: Sequence[Row], generation: int) -> None:
    """Conclude nothing from a witness that did not answer, and ask again soon."""
    runtime.memory(_Unheard).generations |= dict.fromkeys((row.id for row in refused), generation)
    _change(runtime, refused, {"due": runtime.clock.now() + ASK_AGAIN_SECONDS, "wait": ASK_AGAIN_SECONDS})


def _change(runtime: Runtime, refused: Sequence[Row], values: outcome.Values) -> None:
    with runtime.journal.transaction() as connection:
        for row in refused:
            rows.change_if_same(connection, row, values)


def forget(runtime: Runtime, refused: Sequence[Row]) -> None:
    """The answer said nothing about these files: they are sent again when the world is well."""
    _change(runtime, refused, contested.CLEARED | {"due": 0, "wait": 0})


def _believe(runtime: Runtime, refused: Sequence[Row], reason: str) -> None:
    """The refusal is a verdict; *reason* says why it is believed, with ``{}`` for what Jira said."""
    now = runtime.clock.now()
    with runtime.journal.transaction() as connection:
        believed = [
            row
            for row in refused
            if rows.change_if_same(connection, row, outcome.refused(row, reason.format(row.reason), now))
        ]
        written = [rows.one(connection, row.id) for row in believed]
    record.tell(written)


def _wait_for_proof(runtime: Runtime, refused: Sequence[Row]) -> None:
    """No witness speaks for the account: the refusals wait for one, or for ``fuse.hold_minutes``."""
    wait = runtime.config.fuse.hold_minutes * 60.0
    _change(runtime, refused, {"proof": Proof.ACCOUNT, "due": runtime.clock.now() + wait, "wait": wait})
    for row in refused:
        log.warning(
            "file.contested", id=row.ident, issue=row.issue, file=printable(row.path), reason=row.reason, seconds=wait
        )


def _wait_for_a_day(runtime: Runtime, refused: Sequence[Row], *, alone: bool) -> None:
    """A role may have been lost: the project (*alone*: the issue) pauses, is tried hourly, and is believed after a day.

    A 403 is believed at once when another issue of the project has accepted a file after it, unless this issue itself
    had accepted one before. The day counts for the project: it does not start again with each of its files.
    """
    fault = _lost(refused[0], alone=alone)
    if pause.lasted(runtime, fault) >= contested.FORBIDDEN_SECONDS:
        pause.prolong(runtime, fault)
        _believe(runtime, refused, _FOR_A_DAY)
        return
    due = runtime.clock.now() + FORBIDDEN_EVERY_SECONDS
    _change(runtime, refused, {"proof": Proof.ACCOUNT, "due": due, "wait": FORBIDDEN_EVERY_SECONDS})
    pause.pause(runtime, fault)


def _lost(first: Row, *, alone: bool) -> Fault:
    project = pauses.project(first.issue)
    if alone:
        reason = f"{first.issue} no longer accepts files ({first.reason})"
        return Fault(Scope.ISSUE, contested.ISSUE_PAUSE, reason, first.issue, FORBIDDEN_EVERY_SECONDS)
    reason = f"attachd may not attach files in project {project} ({first.reason})"
    return Fault(Scope.PROJECT, contested.PROJECT_PAUSE, reason, project, FORBIDDEN_EVERY_SECONDS)


def review(runtime: Runtime, refused: Sequence[Row]) -> bool:
    """Decide about contested refusals whose time has come, or that something has proven; True if anything was decided."""
    confirmed = [row for row in refused if row.proof is Proof.OPERATOR]
    _believe(runtime, confirmed, _CONFIRMED)
    refused = [row for row in refused if row.proof is not Proof.OPERATOR]
    if not refused:
        return bool(confirmed)
    by_day = [row for row in refused if _is_by_day(runtime, row)]
    decided = [_review_by_day(runtime, row) for row in by_day]
    return any([*confirmed, *decided, _review_unknown(runtime, [row for row in refused if row not in by_day])])


def _is_by_day(runtime: Runtime, row: Row) -> bool:
    with runtime.journal.transaction_for_reading() as connection:
        return row.contested == 403 or contested.accepted_before(connection, runtime.site.url, row.issue)


def _review_by_day(runtime: Runtime, row: Row) -> bool:
    """Believe a 403 when another issue of the project accepted a file since; else let it be tried when its hour is over."""
    now = runtime.clock.now()
    if _proven(runtime, row):
        _believe(runtime, [row], _NOT_TO_THIS_ONE)
        return True
    if row.due > now:
        return False
    with runtime.journal.transaction() as connection:
        rows.change_if_same(connection, row, contested.CLEARED_FOR_A_TRY | {"due": 0, "wait": 0})
    return True


_UNKNOWN = (
    "the issue does not exist, or attachd may not see it ({}). "
    "Move the file to the right issue's folder, or ask a Jira admin for access"
)
_FOR_A_DAY = (
    "Jira has refused the file for a day ({}). Ask a Jira admin to check the account's permissions on the issue"
)
_CONFIRMED = "Jira refused the file ({}), and an administrator confirmed that with `attachd resume`"
_NOT_TO_THIS_ONE = (
    "attachd may attach files to other issues of the project, but not to this one ({}). "
    "Ask a Jira admin to check its permissions"
)


def _proven(runtime: Runtime, row: Row) -> bool:
    """Return True if another issue of the project has accepted a file since Jira's first 403 for this one."""
    if row.contested != 403:
        return False
    with runtime.journal.transaction_for_reading() as connection:
        before = contested.accepted_before(connection, runtime.site.url, row.issue)
    return not before and _others_accept(runtime, row)


def _others_accept(runtime: Runtime, row: Row) -> bool:
    """Return True if an issue of the row's project has accepted a file since it was first refused."""
    like = pauses.project(row.issue).replace("_", "!_") + "-%"
    with runtime.journal.transaction_for_reading() as connection:
        return row.contested_at is not None and contested.accepted_after(connection, row.contested_at, like)


def _review_unknown(runtime: Runtime, refused: Sequence[Row]) -> bool:
    """Believe what a success since has proven: the account is well. Believe the rest after ``fuse.hold_minutes``.

    Unless so many issues wait for proof by then that the fault is more likely ours: then the fuse is blown, and a person decides.
    """
    now = runtime.clock.now()
    with runtime.journal.transaction_for_reading() as connection:
        proven = [row for row in refused if contested.accepted_after(connection, row.contested_at or now)]
    due = [row for row in refused if row.due <= now and row not in proven]
    blown = len({row.issue for row in refused}) >= contested.FUSE
    believed = proven if blown else proven + due
    _believe(runtime, believed, _UNKNOWN)
    if due and blown:
        _blow_fuse(runtime, due)
    return bool(believed)


#: What reminders and hooks call refusals that wait for a person.
CONTESTED = "refusals.contested"


def in_numbers(issues: Sequence[ContestedIssue]) -> dict[str, Any]:
    """Which issues are refused alike, and how many files, for the log and for hooks."""
    return {"issues": [each.issue for each in issues], "files": sum(each.files for each in issues)}


def _blow_fuse(runtime: Runtime, due: Sequence[Row]) -> None:
    now, wait = runtime.clock.now(), runtime.config.fuse.hold_minutes * 60.0
    remedy = (
        "check the folders' names and the account's permissions. `attachd resume` files them as refused, and so does any file "
        "that Jira accepts"
    )
    with runtime.journal.transaction() as connection:
        for row in due:
            rows.change_if_same(connection, row, {"due": now + wait, "wait": wait})
        fresh = reminders.told(connection, CONTESTED) is None
        reminders.note(connection, CONTESTED, reminders.told(connection, CONTESTED) or now)
        issues = contested.issues(connection, runtime.site.url)
        about = in_numbers(issues) | {"remedy": remedy}
        if fresh:
            since = min((each.since for each in issues), default=now)
            outbox.put(connection, "stuck", now, about | {"cause": CONTESTED, "since": since})
    if fresh:
        log.error("fuse.blown", **about)
