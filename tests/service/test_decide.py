"""What a worker does next: the order of urgency, as a table."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from attachd import errors
from attachd.delivery import probe, upload
from attachd.delivery.pause import Gate
from attachd.journal import queue
from attachd.journal.rows import Row
from attachd.model import Cure, Fault, Scope
from attachd.service import worker
from attachd.service.decide import FILED_AT_ONCE, Action, View, decide
from memory_jira import world

NONE: frozenset[str] = frozenset()
OPEN = Gate(uploads=True, looks=True, issues=NONE, projects=NONE)
#: As while the whole endpoint or everything is paused by hand: what is in doubt is looked up all the same.
LOOKS_ONLY = replace(OPEN, uploads=False)
CLOSED = Gate(uploads=False, looks=False, issues=NONE, projects=NONE)
REFUSAL = cast("Row", "a row")

#: What makes each action worth a try, when everything is open.
DUE: dict[Action, dict[str, Any]] = {
    Action.FILE_GROUP: {"verdicts": range(FILED_AT_ONCE)},
    Action.REVIEW_REFUSALS: {"contested": [REFUSAL]},
    Action.ASK_AGAIN: {"unasked": [REFUSAL]},
    Action.PROBE: {"probe": True},
    Action.LOOK: {"doubtful": ["TEST-1"]},
    Action.RECHECK: {"moved": True},
    Action.SEND: {"ready": True},
    Action.FILE_REST: {"verdicts": [1]},
    Action.RETAIN: {"retention_due": True},
}

TABLE: list[tuple[str, View, Action | None]] = [
    ("nothing is there", View(OPEN), None),
    *[(f"only {action.name}", View(OPEN, **due), action) for action, due in DUE.items()],
    # Files with a verdict.
    ("99 of 100 files, and one to send", View(OPEN, verdicts=range(99), ready=True), Action.SEND),
    ("100 files, and one to send", View(OPEN, verdicts=range(100), ready=True), Action.FILE_GROUP),
    ("a file, before the site is met", View(OPEN, verdicts=[1], worth_filing=1, ready=True), Action.FILE_GROUP),
    ("no file, before the site is met", View(OPEN, worth_filing=1, ready=True), Action.SEND),
    ("a file, and everything is paused", View(CLOSED, verdicts=[1]), Action.FILE_REST),
    # Contested refusals.
    ("proof is sought in the journal, whatever is paused", View(CLOSED, contested=[REFUSAL]), Action.REVIEW_REFUSALS),
    ("nobody can be asked while the account is paused", View(CLOSED, unasked=[REFUSAL]), None),
    ("a witness can be asked while uploads are paused", View(LOOKS_ONLY, unasked=[REFUSAL]), Action.ASK_AGAIN),
    # Pauses.
    ("a probe is what ends a pause", View(CLOSED, probe=True, doubtful=["T-1"], ready=True), Action.PROBE),
    # Doubt.
    ("no look while the site is paused", View(CLOSED, doubtful=["TEST-1"]), None),
    ("looks while uploads are paused", View(LOOKS_ONLY, doubtful=["TEST-1"], ready=True), Action.LOOK),
    ("no look while Jira asks us to wait", View(OPEN, doubtful=["TEST-1"], rate_limited=True), None),
    ("files are sent while looks have to wait", View(OPEN, doubtful=["T-1"], rate_limited=True, ready=True), Action.SEND),
    # Moved issues.
    ("a moved issue is asked about before files go there", View(OPEN, moved=True, ready=True), Action.RECHECK),
    ("a moved issue while the site is paused", View(CLOSED, moved=True), None),
    # Sending.
    ("nothing is sent while uploads are paused", View(LOOKS_ONLY, ready=True), None),
    ("nothing is sent at the end, or without the inbox", View(OPEN, ready=True, may_begin=False), None),
    # Retention, which takes its own look at the pauses, so that it rests when it may not ask.
    ("retention while the site is paused", View(CLOSED, retention_due=True), Action.RETAIN),
]  # fmt: skip


@pytest.mark.parametrize(("view", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_done_next(view: View, expected: Action | None) -> None:
    assert decide(view) is expected


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(Action, 2)], ids=lambda action: action.name)
def test_the_more_pressing_of_two_is_done_first_and_the_other_when_it_finds_nothing(
    first: Action, second: Action
) -> None:
    view = View(OPEN, **DUE[second] | DUE[first])

    assert decide(view) is first
    # A group that could not be moved is still there to be moved as the rest.
    rest = Action.FILE_REST if first is Action.FILE_GROUP else second
    assert decide(view, after=first) is min(second, rest)


def test_what_found_nothing_to_do_is_not_tried_twice_in_a_step() -> None:
    view = View(OPEN, **{name: value for due in reversed(DUE.values()) for name, value in due.items()})
    tried: list[Action] = []
    while action := decide(view, after=tried[-1] if tried else None):
        tried.append(action)

    assert tried == list(Action)


def test_a_full_disk_that_a_move_meets_is_known_before_anything_is_sent_in_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move finds nothing that it could do, and pauses the site: the next action is chosen from a new view."""
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt")
        w.scan()
        assert w.step()
        w.drop("TEST-2/b.txt")
        w.scan()

        def full(*_: object) -> int:
            worker.pause.pause(w.runtime, Fault(Scope.SITE, errors.DISK, "full"))
            return 0

        monkeypatch.setattr(worker.file_away, "carry", full)
        monkeypatch.setattr(queue, "with_verdict", lambda *_: list(range(FILED_AT_ONCE)))
        monkeypatch.setattr(upload, "send", lambda *_: pytest.fail("it was sent"))

        assert not w.step()
        assert w.pauses() == {f"site:{errors.DISK}"}


def test_a_probe_is_made_by_one_worker_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path) as w:
        worker.pause.pause(w.runtime, Fault(Scope.SITE, "unreachable", "nobody answers", cure=Cure.PROBE))
        w.clock.advance(7200)
        probed: list[bool] = []

        def probing(*_: object) -> None:
            probed.append(w.step())  # as another worker

        monkeypatch.setattr(probe, "probe", probing)

        assert w.step()
        assert probed == [False]
