"""Which columns change after an answer or a look: each rule at its boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attachd.delivery import backoff, outcome
from attachd.delivery.outcome import Doubts, Values
from attachd.journal import rows
from attachd.journal.rows import Row
from attachd.model import Cure, Fault, InDoubt, Misstored, Refused, Scope, State, Stored

NOW = 1_000.0
DOUBTS = Doubts((5.0, 30.0, 120.0), 6 * 3600.0)
NETWORK = Fault(Scope.SITE, "network", "the connection to Jira broke", cure=Cure.PROBE)


def row(**values: Any) -> Row:
    blank: dict[str, Any] = dict.fromkeys(rows.COLUMNS)
    zero = dict.fromkeys(("looks", "brief", "rounds", "nonsense", "site_faults", "due", "wait", "generation"), 0)
    blank |= zero | {"id": 1, "path": b"TEST-1/a.txt", "name": "a.txt", "size": 7, "state": State.SENDING}
    return Row(**blank | {"attempt": 4, "sent_at": 990.0, "sent_slack": 2.0, "sha256": b"s" * 32} | values)


def test_after_a_verdict_nothing_is_waited_for() -> None:
    stored, refused = outcome.attached(Stored("7", "a.txt"), NOW), outcome.refused(row(), "No.", NOW)

    assert [stored[key] for key in ("due", "wait", "blocked", "contested")] == [0, 0, None, None]
    assert [refused[key] for key in ("due", "wait", "blocked", "contested")] == [0, 0, None, None]


@pytest.mark.parametrize("earlier", [None, 3])
def test_a_refusal_after_a_doubt_tells_that_it_may_be_attached(earlier: int | None) -> None:
    found = outcome.after(row(doubt_attempt=earlier), Refused("No."), NOW, DOUBTS)

    assert found["may_be_attached"] == int(earlier is not None)


def test_what_was_not_delivered_waits_a_second() -> None:
    assert outcome.back(row(), NOW) == {"state": State.READY, "since": NOW, "due": NOW + 1.0, "wait": 1.0}


def test_what_lies_there_no_longer_has_nothing_to_wait_for() -> None:
    assert outcome.back(row(generation=2), NOW) == {"state": State.READY, "since": NOW}


@pytest.mark.parametrize(
    ("candidates", "said", "kept"),
    [
        (["70", "71"], "attachment 70, 71 may be this file. ", "70 71"),
        ([], "an attachment of the issue may be this file. ", None),
    ],
)
def test_a_person_is_told_which_attachments_to_look_at(candidates: list[str], said: str, kept: str | None) -> None:
    found = outcome.ask_a_person(row(doubt_attempt=2), candidates, NOW)

    assert found["reason"] == said + outcome.PERSON
    assert found["candidates"] == kept
    assert found["may_be_attached"] == 1


@pytest.mark.parametrize(
    "verdict",
    [
        lambda row: outcome.after(row, Refused("No."), NOW, DOUBTS),
        lambda row: outcome.after(row, Misstored("7", "a.txt", "No."), NOW, DOUBTS),
        lambda row: outcome.behind_others(row, NETWORK, NOW, others_accepted=True),
    ],
    ids=["Jira refuses it", "stored in a wrong size", "a proxy refuses it"],
)
def test_a_refusal_of_what_was_ever_in_doubt_says_that_it_may_be_attached(verdict: Callable[[Row], Values]) -> None:
    """Otherwise it would be sent again without a look when it comes back."""
    refusals = {"site_faults": outcome.FAULTS - 1, "fault_attempt": 3}

    found = verdict(row(doubt_attempt=2, doubt_at=NOW, sha256=b"x" * 32, **refusals))

    assert (found["state"], found["may_be_attached"]) == (State.REFUSED, 1)
    assert verdict(row(**refusals))["may_be_attached"] == 0


# --- Behind others --------------------------------------------------------------------------------------------------


def test_after_one_fault_a_file_is_tried_again_at_once() -> None:
    found = outcome.behind_others(row(), NETWORK, NOW, others_accepted=False)

    assert found == {"site_faults": 1, "fault_attempt": 4}


@pytest.fixture
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "file_wait", lambda times: 10.0 * times)


@pytest.mark.usefixtures("_no_jitter")
def test_after_two_faults_of_its_own_it_waits() -> None:
    found = outcome.behind_others(row(site_faults=1, fault_attempt=3), NETWORK, NOW, others_accepted=True)

    assert found == {"site_faults": 2, "fault_attempt": 4, "due": NOW + 20.0, "wait": 20.0}


def test_where_nothing_else_was_accepted_the_fault_is_not_the_files() -> None:
    found = outcome.behind_others(row(site_faults=1, fault_attempt=3), NETWORK, NOW, others_accepted=False)

    assert found == {"site_faults": 1, "fault_attempt": 4}


# --- Doubt ----------------------------------------------------------------------------------------------------------

ALONE = {"alone and waited for": (False, True, 1), "alone and brief": (True, True, 0), "with others": (False, False, 0)}


@pytest.mark.parametrize(("brief", "alone", "rounds"), ALONE.values(), ids=ALONE)
def test_a_round_counts_against_a_file_only_if_it_was_sent_alone(brief: bool, alone: bool, rounds: int) -> None:
    found = outcome.doubtful(row(), InDoubt("504", brief=brief), NOW, DOUBTS, alone=alone)

    assert found["rounds"] == rounds
    assert found["due"] == NOW + (0.0 if brief else 5.0)


def test_the_first_doubtful_attempt_is_remembered() -> None:
    first = outcome.doubtful(row(), InDoubt("504"), NOW, DOUBTS, alone=True)
    assert [first[key] for key in ("doubt_attempt", "doubt_at", "doubt_slack")] == [4, 990.0, 2.0]

    again = row(doubt_attempt=2, doubt_at=500.0, doubt_slack=9.0)
    second = outcome.doubtful(again, InDoubt("504"), NOW, DOUBTS, alone=True)
    assert [second[key] for key in ("doubt_attempt", "doubt_at", "doubt_slack")] == [2, 500.0, 9.0]


def test_a_file_whose_sender_died_before_the_end_of_its_body_was_not_delivered() -> None:
    found = outcome.orphaned(row(sha256=None), NOW, DOUBTS)

    assert found == outcome.back(row(), NOW) | {"reason": "attachd was stopped before the upload was complete"}


def test_a_file_whose_sender_died_later_is_in_doubt_and_not_to_blame() -> None:
    found = outcome.orphaned(row(), NOW, DOUBTS)

    fate = InDoubt("attachd was stopped before Jira answered")
    assert found == outcome.doubtful(row(), fate, NOW, DOUBTS, alone=False)
    assert found["rounds"] == 0


# --- Looks ----------------------------------------------------------------------------------------------------------


def look(doubted: Row, *, longest: float = 0.0, fresh: bool = False, others: bool = False) -> dict[str, Any]:
    return outcome.not_found(doubted, NOW, DOUBTS, others_accepted=others, longest=longest, fresh=fresh)


@pytest.mark.parametrize(
    ("looks", "brief", "longest", "wait"),
    [
        (0, 0, 0.0, 25.0),
        (1, 0, 0.0, 90.0),
        # The last look is not made before the longest time-out of a reply is over.
        (1, 0, 400.0, 370.0),
        (0, 0, 400.0, 25.0),
        # A request that was declined is looked up at once, and then as often as any other, whatever the time-out.
        (0, 1, 400.0, 5.0),
        (1, 1, 400.0, 25.0),
        (2, 1, 400.0, 90.0),
    ],
)
def test_when_the_next_look_is_made(looks: int, brief: int, longest: float, wait: float) -> None:
    found = look(row(state=State.DOUBTFUL, looks=looks, brief=brief), longest=longest)

    assert found == {"looks": looks + 1, "blind_since": None, "due": NOW + wait, "wait": wait}


def test_no_listing_counts_as_fresh_that_was_not_proven_to_be() -> None:
    doubted = row(state=State.DOUBTFUL, brief=1)

    assert outcome.not_found(doubted, NOW, DOUBTS, others_accepted=False, longest=0.0) == look(doubted)
    assert look(doubted, fresh=True)["state"] is State.READY


def test_after_the_last_look_it_is_sent_again_and_the_doubt_stays() -> None:
    found = look(row(state=State.DOUBTFUL, looks=2, doubt_attempt=4))

    assert found == outcome.back(row(), NOW) | {"looks": 3, "blind_since": None, "rounds": 0}


@pytest.mark.parametrize(("doubt_attempt", "is_over"), [(4, True), (3, False)])
def test_a_declined_request_ends_its_own_doubt_and_no_earlier_one(doubt_attempt: int, is_over: bool) -> None:
    found = look(row(state=State.DOUBTFUL, brief=1, doubt_attempt=doubt_attempt), fresh=True)

    over = {"doubt_attempt": None, "doubt_at": None, "doubt_slack": None, "brief": 0}
    assert over.items() <= found.items() if is_over else over.keys().isdisjoint(found)


# --- Looks that show nothing --------------------------------------------------------------------------------------


def blind(since: float | None, **how: Any) -> dict[str, Any]:
    return outcome.unusable(row(state=State.DOUBTFUL, doubt_attempt=2, blind_since=since), "503", NOW, DOUBTS, **how)


def test_an_outage_does_not_count_towards_giving_a_file_up() -> None:
    outage = Fault(Scope.SITE, "unreachable", "r")
    assert blind(0.0, world=outage) == {"blind_since": None, "due": NOW + 5.0, "wait": 5.0}


def test_a_wait_that_jira_asks_for_is_kept_by_looks_too() -> None:
    throttled = Fault(Scope.ENDPOINT, "rate-limit", "r", wait=600.0)
    assert blind(0.0, world=throttled) == {"blind_since": None, "due": NOW + 600.0, "wait": 600.0}


def test_a_second_answer_is_asked_for_soon() -> None:
    assert blind(None, soon=True) == {"blind_since": NOW, "due": NOW + 5.0, "wait": 5.0}


@pytest.mark.usefixtures("_no_jitter")
@pytest.mark.parametrize(("since", "wait"), [(None, 10.0), (NOW - 59.9, 10.0), (NOW - 60.0, 20.0), (NOW - 179.0, 30.0)])
def test_an_unreadable_issue_is_asked_less_and_less_often(since: float | None, wait: float) -> None:
    found = blind(since)

    assert found == {"blind_since": NOW if since is None else since, "due": NOW + wait, "wait": wait}


def test_it_is_asked_every_quarter_of_an_hour_at_least() -> None:
    assert blind(NOW - 5 * 3600.0)["wait"] == 900.0


def test_an_issue_that_cannot_be_read_for_long_is_for_a_person() -> None:
    assert "state" not in blind(NOW - 6 * 3600.0 + 1)
    found = blind(NOW - 6 * 3600.0)

    assert found["state"] is State.REFUSED
    assert found["reason"] == f"the issue's attachments could not be read for 6 hours (503). {outcome.PERSON}"
    assert found["may_be_attached"] == 1
