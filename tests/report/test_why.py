"""One sentence for every state, pause, gate and block: decided from values alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from attachd import text
from attachd.config import Settle
from attachd.journal.pauses import Pause
from attachd.journal.rows import Proof, Row
from attachd.model import Cure, Scope, State, Word
from attachd.report import why
from attachd.report.circumstances import Circumstances, Waiting
from attachd.report.why import (
    ComingBack,
    Dragged,
    Elsewhere,
    Empty,
    Finished,
    Ignored,
    NoIssue,
    Rule,
    Special,
    TooDeep,
    Undecided,
    Unknown,
    Unreachable,
    Unseen,
)
from attachd.report.why_waiting import Answer

NOW = 1_800_000_000.0
NAME = "inbox/TEST-1/a.txt"
DOWN = " attachd is not running: nothing happens until it is started."

WORLD = Circumstances(
    now=NOW,
    boot=1000.0,
    epoch=7,
    running=True,
    absent="",
    pauses=(),
    inbox="/inbox",
    done="/done",
    failed="/failed",
    config="/etc/attachd/config.toml",
    rescan=30.0,
    looks=3,
)


def at(seconds: float) -> str:
    return text.clock(NOW + seconds, NOW)


def row(state: State, **values: Any) -> Row:
    """A row of TEST-1 as the journal could hold it."""
    fields = dict.fromkeys(Row._fields, None) | {
        "id": 5,
        "path": b"TEST-1/a.txt",
        "generation": 0,
        "size": 2048,
        "epoch": 7,
        "folder_key": "TEST-1",
        "issue": "TEST-1",
        "state": state,
        "since": NOW - 60,
        "seen_at": NOW - 60,
        "quiet_boot": 990.0,
        "due": 0.0,
        "tries": 0,
        "looks": 0,
        "brief": 0,
        "proof": Proof.NONE,
        "may_be_attached": 0,
    }
    return Row(**(fields | values))


def pause(scope: Scope, subject: str = "", cure: Cure = Cure.PROBE, until: float = 60.0, kind: str = "k") -> Pause:
    return Pause(scope, subject, kind, "the reason", cure, NOW - 60, NOW + until, until, 1)


def explained(found: why.Situation, **world: Any) -> Answer:
    return why.explain(NAME, found, dataclasses.replace(WORLD, **world))


# --- Before it is sent ------------------------------------------------------------------------------------------

SEEN, READY = State.SEEN, State.READY
OTHER = row(READY, id=4, path=b"TEST-1/other.txt")

WAITS: dict[str, tuple[Waiting, str]] = {
    "settling": (
        Waiting(row(SEEN, quiet_boot=999.0)),
        (
            "is still settling: attachd waits until no program has it open and it has not changed for 2 s (30 "
            f"s if it cannot tell). It is sent to TEST-1 at {at(1)} at the earliest"
        ),
    ),
    "empty": (
        Waiting(row(SEEN, size=0)),
        f"is empty: attachd waits 1 min for its content. It is sent to TEST-1 at {at(50)} at the earliest",
    ),
    "settled": (
        Waiting(row(SEEN, quiet_boot=0.0)),
        ("has not changed for 2 s. attachd takes it within 30 s, once it is certain that no program has it open"),
    ),
    "settled, but where only time tells": (
        Waiting(row(SEEN)),
        ("has not changed for 2 s. attachd takes it within 50 s, once it is certain that no program has it open"),
    ),
    "still open": (
        Waiting(row(SEEN, reason="a program still has it open for writing")),
        (
            f"has been waiting since {at(-60)}: a program still has it open for writing. It is sent to TEST-1 "
            "when that is over"
        ),
    ),
    "without its end": (
        Waiting(row(SEEN, lacks="a PDF ends with %%EOF", due=NOW + 600)),
        (
            f"has been waiting since {at(-60)}: its end is missing (a PDF ends with %%EOF). It is sent as it is "
            f"at {at(600)}, unless it is completed before"
        ),
    ),
    "sent without its end": (
        Waiting(row(READY, lacks="a PDF ends with %%EOF")),
        ("is next for TEST-1. It is sent as soon as an upload is free. Its end is missing (a PDF ends with %%EOF)"),
    ),
    "settling since an earlier process": (
        Waiting(row(SEEN, epoch=6)),
        (
            "is still settling: attachd waits until no program has it open and it has not changed for 2 s (30 "
            "s if it cannot tell). It is then sent to TEST-1"
        ),
    ),
    "blocked": (
        Waiting(row(SEEN, blocked="it cannot be read (chmod g+r).")),
        (
            f"has been blocked since {at(-60)}: it cannot be read (chmod g+r). attachd checks it every 30 s and "
            "takes it once that is fixed"
        ),
    ),
    "gone": (
        Waiting(row(READY), gone=True),
        ("is no longer where it was dropped. The next scans of the inbox find out whether it was moved or taken away"),
    ),
    "next": (Waiting(row(READY)), "is next for TEST-1. It is sent as soon as an upload is free"),
    "one before it": (
        Waiting(row(READY), ahead=1),
        "is waiting for its turn: 1 file for TEST-1 comes first",
    ),
    "its turn, tried before": (
        Waiting(row(READY, tries=2, reason="Jira answered 503."), ahead=12),
        (
            "is waiting for its turn: 12 files for TEST-1 come first. It was tried 2 times. The last answer "
            "was: Jira answered 503"
        ),
    ),
    "moved issue": (
        Waiting(row(READY, issue="NEW-5")),
        "is next for TEST-1 (now NEW-5). It is sent as soon as an upload is free",
    ),
    "its own wait": (
        Waiting(row(READY, due=NOW + 90, reason="the connection broke")),
        f"is waiting until {at(90)}: the connection broke. It is then sent to TEST-1",
    ),
    "after a restart": (
        Waiting(row(READY, epoch=6)),
        "is checked once more before it is sent. That happens within 30 s",
    ),
    "behind a refused one": (
        Waiting(row(READY), barred_by=OTHER),
        (
            "is waiting because Jira refused TEST-1/other.txt, which goes to the same issue. It is sent once "
            "that is settled"
        ),
    ),
    "behind a twin in doubt": (
        Waiting(row(READY), twin=OTHER),
        (
            "is waiting because TEST-1/other.txt has the same name and size and may have arrived. It is sent "
            "once that is known"
        ),
    ),
    "refused, not asked about yet": (
        Waiting(row(READY, contested=404, contested_at=NOW - 5, reason="no such issue")),
        (
            f"was refused by Jira at {at(-5)} (no such issue). attachd is finding out whether the file or the "
            "account is the cause"
        ),
    ),
    "held": (
        Waiting(
            row(READY, contested=404, contested_at=NOW - 5, proof=Proof.ACCOUNT, due=NOW + 55, reason="no such issue"),
            held_issues=1,
        ),
        (
            f"was refused by Jira at {at(-5)} (no such issue). The account may be the cause, so the file is "
            f"held. It fails once Jira accepts another file, or at {at(55)}"
        ),
    ),
    "fuse": (
        Waiting(
            row(READY, contested=404, contested_at=NOW - 5, proof=Proof.ACCOUNT, due=NOW + 55, reason="no"),
            held_issues=3,
        ),
        (
            f"was refused by Jira at {at(-5)} (no). 3 issues were refused with the same error, so the account "
            "may have lost access. Refused files are held. Check what the account may see, then run `attachd "
            "resume`"
        ),
    ),
    "held for a day": (
        Waiting(
            row(READY, contested=403, contested_at=NOW - 5, proof=Proof.ACCOUNT, due=NOW + 3600, reason="not allowed"),
            by_day=True,
        ),
        (
            f"was refused by Jira at {at(-5)} (not allowed). The account may have lost its permission by "
            f"mistake, so the file is held. attachd tries again at {at(3600)}, or on `attachd resume`. The file "
            f"fails after {at(86395)}"
        ),
    ),
    "confirmed": (
        Waiting(row(READY, contested=404, contested_at=NOW - 5, proof=Proof.OPERATOR, reason="no")),
        (
            f"was refused by Jira at {at(-5)} (no). `attachd resume` confirmed that, so the file goes to the "
            "folder failed"
        ),
    ),
}


@pytest.mark.parametrize("case", WAITS)
def test_what_waits_is_told_with_what_comes_next(case: str) -> None:
    found, expected = WAITS[case]

    answer = explained(found)

    assert answer.sentence == f"{NAME} {expected}."
    assert answer.word is (Word.BLOCKED if found.row.blocked else Word.WAITING)
    assert answer.known
    assert explained(found, running=False).sentence.endswith(DOWN)


def test_without_the_daemon_no_time_is_promised() -> None:
    told = explained(Waiting(row(SEEN)), running=False).sentence

    until = "attachd waits until no program has it open and it has not changed for 2 s (30 s if it cannot tell)"
    assert told == f"{NAME} is still settling: {until}. It is then sent to TEST-1.{DOWN}"
    assert explained(Waiting(row(READY)), running=False).sentence == f"{NAME} is next for TEST-1.{DOWN}"


def test_an_inbox_that_is_absent_holds_everything() -> None:
    for found in (Waiting(row(SEEN)), Waiting(row(READY), gone=True)):
        told = explained(found, absent="the inbox is not mounted").sentence
        assert told == (
            f"{NAME} is waiting because the inbox is not mounted. It goes on when the inbox is there again."
        )
    assert (
        explained(Unseen("TEST-1", 1), absent="the inbox is gone").sentence
        == f"{NAME} is waiting because the inbox is gone."
    )


# --- Pauses -----------------------------------------------------------------------------------------------------

PAUSES: dict[str, tuple[Pause, str]] = {
    "operator": (
        pause(Scope.OPERATOR, cure=Cure.HAND),
        f"everything has been paused by hand since {at(-60)}. `attachd resume` ends the pause",
    ),
    "operator, for a time": (
        pause(Scope.OPERATOR, cure=Cure.TIME),
        f"everything has been paused by hand since {at(-60)}. attachd goes on at {at(60)}",
    ),
    "operator, issue": (
        pause(Scope.OPERATOR, "TEST-1", Cure.HAND),
        f"TEST-1 has been paused by hand since {at(-60)}. `attachd resume --issue TEST-1` ends the pause",
    ),
    "account": (
        pause(Scope.ACCOUNT),
        (
            f"everything has been paused since {at(-60)}: the reason. attachd tries again at {at(60)}, and when "
            "the token changes. `attachd resume` retries now"
        ),
    ),
    "site": (
        pause(Scope.SITE),
        (
            f"everything has been paused since {at(-60)}: the reason. attachd tries again at {at(60)}. `attachd "
            "resume` retries now"
        ),
    ),
    "site, due": (
        pause(Scope.SITE, until=-1.0),
        (f"everything has been paused since {at(-60)}: the reason. attachd tries again at once"),
    ),
    "endpoint": (
        pause(Scope.ENDPOINT, cure=Cure.TIME),
        f"uploads have been paused since {at(-60)}: the reason. attachd goes on at {at(60)}",
    ),
    "project": (
        pause(Scope.PROJECT, "TEST", Cure.TIME),
        f"project TEST has been paused since {at(-60)}: the reason. attachd goes on at {at(60)}",
    ),
    "issue": (
        pause(Scope.ISSUE, "TEST-1", Cure.TIME),
        f"TEST-1 has been paused since {at(-60)}: the reason. attachd goes on at {at(60)}",
    ),
}


@pytest.mark.parametrize("case", PAUSES)
def test_a_pause_is_told_with_what_ends_it(case: str) -> None:
    held, expected = PAUSES[case]

    answer = explained(Waiting(row(READY), ahead=3), pauses=(held,))

    assert answer.sentence == f"{NAME} is waiting because {expected}."
    assert answer.since == held.since


def test_the_widest_pause_is_told() -> None:
    told = [pause(Scope.ISSUE, "TEST-1"), pause(Scope.SITE), pause(Scope.OPERATOR, cure=Cure.HAND)]

    assert "by hand" in explained(Waiting(row(READY)), pauses=told).sentence
    assert "because everything has been" in explained(Waiting(row(READY)), pauses=told[:2]).sentence
    assert "because TEST-1 has been" in explained(Waiting(row(READY)), pauses=told[:1]).sentence


def test_two_pauses_are_both_told_and_it_goes_on_with_the_later() -> None:
    wide = pause(Scope.OPERATOR, cure=Cure.TIME, until=180.0)
    narrow = pause(Scope.OPERATOR, "TEST-1", Cure.TIME, 7200.0)

    answer = explained(Waiting(row(READY)), pauses=(narrow, wide))

    assert answer.sentence == (
        f"{NAME} is waiting because everything has been paused by hand since {at(-60)}. attachd goes on at {at(180)}. "
        f"Besides, TEST-1 has been paused by hand since {at(-60)}. attachd goes on at {at(7200)}."
    )
    assert answer.next == NOW + 7200
    endless = pause(Scope.OPERATOR, "TEST-1", Cure.HAND)
    assert explained(Waiting(row(READY)), pauses=(endless, wide)).next is None


@pytest.mark.parametrize(
    "other",
    [pause(Scope.ISSUE, "TEST-2"), pause(Scope.PROJECT, "OTHER"), pause(Scope.SITE, cure=Cure.TIME, until=-1.0)],
)
def test_a_pause_that_does_not_concern_it_is_not_told(other: Pause) -> None:
    assert "is next for" in explained(Waiting(row(READY)), pauses=(other,)).sentence


def test_an_attached_file_that_lacked_its_end_says_so() -> None:
    done = row(
        State.DONE, lacks="a PDF ends with %%EOF", attachment="10", verdict_at=NOW, root="done", target=b"TEST-1/a.txt"
    )

    told = explained(Finished(done, there=False)).sentence

    assert told.endswith("It is no longer in /done. Its end is missing (a PDF ends with %%EOF).")


def test_a_file_that_settles_is_told_of_the_pause_behind() -> None:
    told = explained(Waiting(row(SEEN, size=0)), pauses=(pause(Scope.OPERATOR, cure=Cure.HAND),)).sentence

    assert told == (
        f"{NAME} is empty: attachd waits 1 min for its content. After that it waits because everything has been paused by "
        f"hand since {at(-60)}. `attachd resume` ends the pause."
    )


# --- Sent -------------------------------------------------------------------------------------------------------

SENDING, DOUBTFUL = State.SENDING, State.DOUBTFUL
ATTACHED, REFUSED = State.ATTACHED, State.REFUSED

SENT: dict[str, tuple[Waiting, dict[str, Any], Word, str]] = {
    "sending": (
        Waiting(row(SENDING, tries=1)),
        {},
        Word.SENDING,
        f"has been uploading to TEST-1 since {at(-60)} (2.0 KiB).",
    ),
    "sending again": (
        Waiting(row(SENDING, tries=3)),
        {},
        Word.SENDING,
        f"has been uploading to TEST-1 since {at(-60)} (2.0 KiB, attempt 3).",
    ),
    "cut by the end of the daemon": (
        Waiting(row(SENDING)),
        {"running": False},
        Word.SENDING,
        (
            f"was uploading when attachd ended, and was not complete. Nothing of it is attached, so it is sent "
            f"again.{DOWN}"
        ),
    ),
    "sent when the daemon ended": (
        Waiting(row(SENDING, sha256=b"x" * 32)),
        {"running": False},
        Word.SENDING,
        (
            f"was uploading when attachd ended, and may have arrived. attachd looks at the issue before it "
            f"sends anything again.{DOWN}"
        ),
    ),
    "in doubt": (
        Waiting(row(DOUBTFUL, reason="the connection broke", looks=1, due=NOW + 30)),
        {},
        Word.IN_DOUBT,
        (
            f"may have arrived in TEST-1 (the connection broke). attachd looks at the issue at {at(30)} (look 2 "
            "of 3), and sends it again only if it is not there."
        ),
    ),
    "in doubt, one look settles it": (
        Waiting(row(DOUBTFUL, reason="declined", brief=1)),
        {},
        Word.IN_DOUBT,
        (
            "may have arrived in TEST-1 (declined). attachd looks at the issue as soon as it can (look 1 of "
            "1), and sends it again only if it is not there."
        ),
    ),
    "in doubt, and blind": (
        Waiting(row(DOUBTFUL, reason="broke", due=NOW + 30, blind_since=NOW - 300)),
        {},
        Word.IN_DOUBT,
        (
            f"may have arrived in TEST-1 (broke). attachd looks at the issue at {at(30)} (look 1 of 3), and "
            f"sends it again only if it is not there. The issue has been unreadable since {at(-300)}."
        ),
    ),
    "in doubt, and the site is down": (
        Waiting(row(DOUBTFUL, reason="broke")),
        {"pauses": (pause(Scope.SITE),)},
        Word.IN_DOUBT,
        (
            "may have arrived in TEST-1 (broke). attachd must look at the issue first, and cannot: everything "
            f"has been paused since {at(-60)}: the reason. attachd tries again at {at(60)}. `attachd resume` "
            "retries now."
        ),
    ),
    "in doubt, paused by hand": (
        Waiting(row(DOUBTFUL, reason="broke", due=NOW + 5)),
        {"pauses": (pause(Scope.OPERATOR, cure=Cure.HAND),)},
        Word.IN_DOUBT,
        (
            f"may have arrived in TEST-1 (broke). attachd looks at the issue at {at(5)} (look 1 of 3), and "
            "sends it again only if it is not there."
        ),
    ),
    "attached": (
        Waiting(row(ATTACHED, attachment="10001", verdict_at=NOW - 9)),
        {},
        Word.ATTACHED,
        f"was attached to TEST-1 at {at(-9)}, as attachment 10001. It is about to be moved to /done.",
    ),
    "attached, not to be moved": (
        Waiting(row(ATTACHED, attachment="10001", verdict_at=NOW - 9, blocked="the folder is read-only", due=NOW + 15)),
        {},
        Word.BLOCKED,
        (
            f"was attached to TEST-1 at {at(-9)}, as attachment 10001. It cannot be moved to /done yet: the "
            f"folder is read-only. attachd tries again at {at(15)}."
        ),
    ),
    "attached, inbox absent": (
        Waiting(row(ATTACHED, attachment="10001", verdict_at=NOW - 9), gone=True),
        {"absent": "it is not mounted"},
        Word.ATTACHED,
        (
            f"was attached to TEST-1 at {at(-9)}, as attachment 10001. It cannot be moved to /done yet: it is "
            "not mounted."
        ),
    ),
    "attached, and carried away": (
        Waiting(row(ATTACHED, attachment="10001", verdict_at=NOW - 9, due=NOW + 15), gone=True),
        {},
        Word.ATTACHED,
        (
            f"was attached to TEST-1 at {at(-9)}, as attachment 10001. It is no longer at /inbox/TEST-1/a.txt, so it cannot be "
            "moved to /done. attachd waits while it, or a copy of it, lies anywhere else in the inbox, because somebody may put "
            "it back."
        ),
    ),
    "refused": (
        Waiting(row(REFUSED, reason="it is too large", verdict_at=NOW - 9)),
        {},
        Word.FAILED,
        f"was refused for TEST-1 at {at(-9)}: it is too large. It is about to be moved to /failed.",
    ),
}


@pytest.mark.parametrize("case", SENT)
def test_what_was_sent_is_told_with_what_comes_next(case: str) -> None:
    found, world, word, expected = SENT[case]

    answer = explained(found, **world)

    assert answer.sentence == f"{NAME} {expected}"
    assert answer.word is word


# --- Finished ---------------------------------------------------------------------------------------------------


def done(**values: Any) -> Row:
    common = {"attachment": "10001", "verdict_at": NOW - 9, "finished_at": NOW - 8, "root": "done"}
    return row(State.DONE, **(common | {"target": b"TEST-1/a.txt"} | values))


def failed(**values: Any) -> Row:
    common = {"reason": "it is too large", "verdict_at": NOW - 9, "finished_at": NOW - 8, "root": "failed"}
    return row(State.FAILED, **(common | {"target": b"TEST-1/a (2).txt"} | values))


FINISHED: dict[str, tuple[Finished, Word, str]] = {
    "done": (
        Finished(done(), True),
        Word.ATTACHED,
        f"{NAME} was attached to TEST-1 at {at(-9)}, as attachment 10001. It is now in /done/TEST-1/a.txt.",
    ),
    "done, taken out": (
        Finished(done(), False),
        Word.ATTACHED,
        f"{NAME} was attached to TEST-1 at {at(-9)}, as attachment 10001. It is no longer in /done.",
    ),
    "done, never moved": (
        Finished(done(target=None, root=None, reason="file gone"), False),
        Word.ATTACHED,
        f"{NAME} was attached to TEST-1 at {at(-9)}, as attachment 10001. File gone.",
    ),
    "failed": (
        Finished(failed(), True),
        Word.FAILED,
        (
            f"{NAME} was refused for TEST-1 at {at(-9)}: it is too large. To try again, fix that first. Then "
            "move /failed/TEST-1/a (2).txt back into /inbox/TEST-1, or run `attachd retry`."
        ),
    ),
    "failed in doubt": (
        Finished(failed(may_be_attached=1, reason="no answer"), True),
        Word.FAILED,
        (
            f"{NAME} was refused for TEST-1 at {at(-9)}: no answer. To try again, look at the issue first, "
            "because the file may be attached. Then move /failed/TEST-1/a (2).txt back into /inbox/TEST-1, or "
            "run `attachd retry`."
        ),
    ),
    "failed, taken out": (
        Finished(failed(), False),
        Word.FAILED,
        f"{NAME} was refused for TEST-1 at {at(-9)}: it is too large. It is no longer in /failed.",
    ),
    "failed, never moved": (
        Finished(failed(target=None, root=None), False),
        Word.FAILED,
        f"{NAME} was refused for TEST-1 at {at(-9)}: it is too large.",
    ),
    "its note": (
        Finished(failed(), False, note=True),
        Word.FAILED,
        (
            f"{NAME} says why TEST-1/a (2).txt failed. That file was refused for TEST-1 at {at(-9)}: it is too "
            "large. It is no longer in /failed."
        ),
    ),
    "withdrawn": (
        Finished(
            row(State.WITHDRAWN, reason="it was taken out of the inbox before it was sent", finished_at=NOW - 8), False
        ),
        Word.WITHDRAWN,
        f"{NAME} was not attached: it was taken out of the inbox before it was sent (at {at(-8)}).",
    ),
}


@pytest.mark.parametrize("case", FINISHED)
def test_what_is_finished_is_told_whether_or_not_the_daemon_runs(case: str) -> None:
    found, word, expected = FINISHED[case]

    for running in (True, False):
        answer = explained(found, running=running)
        assert answer.sentence == expected
        assert answer.word is word


def test_a_path_is_not_told_to_lie_where_it_lies() -> None:
    told = why.explain("/done/TEST-1/a.txt", Finished(done(), True), WORLD).sentence

    assert told == f"/done/TEST-1/a.txt was attached to TEST-1 at {at(-9)}, as attachment 10001."


# --- Everything else --------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[why.Situation, bool, str]] = {
    "elsewhere": (
        Elsewhere(),
        False,
        f"{NAME} is not in /inbox, /done or /failed. attachd knows no other folders.",
    ),
    "unknown": (Unknown(), False, f"There is no {NAME}, and attachd has never seen a file of that name."),
    "foreign": (
        Unknown(there=True),
        False,
        (
            f"attachd does not know {NAME}. Someone else put it there, or attachd did before its journal was "
            "lost or restored from a copy."
        ),
    ),
    "unreachable": (
        Unreachable("Permission denied"),
        True,
        f"attachd cannot read {NAME} (Permission denied). Give its user or group permission.",
    ),
    "marker": (
        Ignored("*.ready", Rule.MARKER),
        True,
        (
            f"{NAME} is a ready marker (*.ready). It releases the file beside it and is not attached itself. "
            "attachd removes it with that file."
        ),
    ),
    "undecided": (
        Undecided(b"TEST-1", ".attachdignore is a link"),
        True,
        (f"{NAME} is blocked: TEST-1/.attachdignore is a link. Fix that file; nothing in its folder is taken before."),
    ),
    "own": (Ignored(".attachd", Rule.OWN), True, f"{NAME} belongs to attachd itself and is never attached."),
    "kept": (
        Ignored(".attachd-*", Rule.KEPT),
        True,
        (
            f"{NAME} is ignored: its name begins with .attachd-, like attachd's own temporary files. Rename it "
            "to attach it."
        ),
    ),
    "hidden": (
        Ignored(".*", Rule.HIDDEN),
        True,
        (f"{NAME} is ignored: its name begins with a dot, like hidden and unfinished files. Rename it to attach it."),
    ),
    "temporary": (
        Ignored("*.part", Rule.BUILT_IN),
        True,
        (
            f"{NAME} is ignored: its name matches *.part, like unfinished transfers and system files. Once it "
            "is complete, rename it to attach it."
        ),
    ),
    "user's": (
        Ignored("*.bak", Rule.USERS),
        True,
        f"{NAME} is ignored: its name matches *.bak, one of the ignore patterns in /etc/attachd/config.toml.",
    ),
    "its folder": (
        Ignored("old/", Rule.USERS, b"old"),
        True,
        (f"{NAME} is ignored: its folder old matches old/, one of the ignore patterns in /etc/attachd/config.toml."),
    ),
    "link": (
        Special("a symbolic link"),
        True,
        f"{NAME} is ignored, because it is a symbolic link. attachd takes only regular files and folders.",
    ),
    "below a link": (
        Special("a symbolic link", b"here"),
        True,
        (
            f"{NAME} is ignored, because its folder here is a symbolic link. attachd takes only regular files "
            "and folders."
        ),
    ),
    "loose": (
        NoIssue(""),
        True,
        (
            f"{NAME} is not attached, because it is not in an issue folder. Move it into a folder that is named "
            "like its issue, such as TEST-123."
        ),
    ),
    "no issue": (
        NoIssue("'x' is not an issue key; rename it"),
        True,
        f"{NAME} is not attached: 'x' is not an issue key; rename it.",
    ),
    "no issue, for a while": (
        NoIssue("'x' is not an issue key; rename it", since=NOW - 60),
        True,
        f"{NAME} is not attached: 'x' is not an issue key; rename it. Files have been there since {at(-60)}.",
    ),
    "no issue's folder": (
        NoIssue("'x' is not an issue key; rename it", folder=True),
        True,
        f"Nothing in {NAME} is attached: 'x' is not an issue key; rename it.",
    ),
    "nested": (
        TooDeep(),
        True,
        (
            f'{NAME} is ignored, because it is in a subfolder of the issue folder (folders.nested = "ignore"). '
            "Move it directly into the issue folder."
        ),
    ),
    "too deep": (
        TooDeep(32),
        True,
        f"{NAME} is ignored, because it is deeper than 32 folders. Move it directly into the issue folder.",
    ),
    "empty folder": (Empty("TEST-1"), True, f"{NAME} holds no files. Files in it are attached to TEST-1."),
    "empty folder of done": (Empty(), True, f"{NAME} holds no files."),
    "dragged note": (
        Dragged(),
        True,
        (
            f"{NAME} looks like attachd's note about a failed file. If the file came back with it, the next "
            "scan removes the note. If it stays, attachd cannot tell: delete it, or rename it to attach it."
        ),
    ),
    "coming back": (
        ComingBack(b"TEST-1/a.txt", b"TEST-1/a (2).txt", NOW - 60),
        True,
        (
            f"{NAME} is waiting: `attachd retry` began to move /failed/TEST-1/a.txt back to /inbox/TEST-1/a "
            f"(2).txt at {at(-60)}, and has not finished. attachd finishes that at its next scan of the inbox. "
            "If this stays, run `attachd retry /failed/TEST-1/a.txt`: it says what is in the way."
        ),
    ),
    "unseen, where a marker is asked for": (
        Unseen("TEST-1", 3, Settle(ready_suffix=".ready")),
        True,
        (
            f"attachd has not seen {NAME} yet. It will find the file within 30 s. It sends the file to TEST-1 "
            "once its marker (its name and .ready) lies beside it."
        ),
    ),
    "unseen": (
        Unseen("TEST-1", 3),
        True,
        (
            f"attachd has not seen {NAME} yet. It will find the file within 30 s. It sends the file to TEST-1 "
            "once it is closed and has not changed for 2 s (30 s if it cannot tell)."
        ),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_the_journal_does_not_know_is_told_too(case: str) -> None:
    found, known, expected = OTHERS[case]

    answer = explained(found)

    assert answer.sentence == expected
    assert answer.known is known


def test_a_file_that_was_not_noticed_is_not_promised_anything_without_the_daemon() -> None:
    assert explained(Unseen("TEST-1", 3), running=False).sentence == f"attachd has not seen {NAME} yet.{DOWN}"


def _sentences() -> Iterator[str]:
    for running in (True, False):
        yield from (explained(found, running=running).sentence for found, _ in WAITS.values())
        yield from (explained(found, running=running).sentence for found, _, _ in FINISHED.values())
        yield from (explained(found, running=running).sentence for found, _, _ in OTHERS.values())


def test_every_answer_is_whole_sentences_in_one_line() -> None:
    for sentence in _sentences():
        assert sentence.endswith(".")
        assert ".." not in sentence.replace("...", "")
        assert "\n" not in sentence
        assert "None" not in sentence


def test_the_day_of_a_lost_role_counts_from_where_it_began_and_not_for_each_file_anew() -> None:
    refused = row(READY, contested=403, contested_at=NOW - 5, proof=Proof.ACCOUNT, due=NOW + 3600, reason="not allowed")
    lost = Pause(Scope.PROJECT, "TEST", "forbidden", "no", Cure.TIME, NOW - 70_000, NOW + 3600, 3600.0, 20)
    other = dataclasses.replace(lost, subject="OPS", since=NOW - 80_000)

    told = explained(Waiting(refused, by_day=True), pauses=(other, lost)).sentence

    assert f"fails after {at(86_400 - 70_000)}" in told
