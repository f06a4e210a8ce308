"""Jira's limits respected: what a request may hold, how fast and how many at once, how many files an issue gets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.delivery import batch_size, preflight, upload
from attachd.delivery import pacer as delivery_pacer
from attachd.delivery.batch_size import Most
from attachd.delivery.pacer import Pacer, Parallel
from attachd.jira import rate_limits
from attachd.jira.rate_limits import Pace
from attachd.jira.reply import Broken, Reply, Stage
from attachd.journal import database
from attachd.model import Fault as WorldFault
from attachd.model import InDoubt, NotDelivered, Scope
from attachd.model import Stored as Kept
from attachd.service import worker
from memory_jira import Fault, Stored, World, world

SMALL = b"content"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def drop(w: World, count: int, issue: str = "TEST-1") -> None:
    for number in range(count):
        w.drop(f"{issue}/{number:04}.txt", b"%d" % number)


def sizes(w: World) -> list[int]:
    return [len(names) for names in w.jira.uploads]


def reply(status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, whole: bool = True) -> Reply:
    return Reply(status, headers or {}, body, whole, exhausted=True)


JIRA = b'{"errorMessages": ["no"], "errors": {}}'
DOUBT = InDoubt("declined", brief=True)
PER_ISSUE = WorldFault(Scope.ISSUE, "rate-limit", "Jira's write limit for TEST-1", "TEST-1", 3.0)


# --- What a request may hold ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "files", "fault", "expected"),
    [
        (reply(400, body=JIRA), 60, None, Most(30)),
        (reply(413, body=JIRA), 60, None, Most(30)),
        (reply(400, body=JIRA), 7, None, Most(3)),
        (reply(429), 60, PER_ISSUE, Most(18, counted=True)),
        (reply(429), 20, PER_ISSUE, Most(10, counted=True)),
        # Who we are, whether we may, and whether the issue is there have nothing to do with the number of files.
        (reply(403, body=JIRA), 60, None, Most(60)),
        (reply(404, body=JIRA), 60, None, Most(60)),
        (reply(401, body=JIRA), 60, None, Most(60)),
        (reply(429), 60, WorldFault(Scope.SITE, "rate-limit", "quota"), Most(60)),
        (reply(500), 60, None, Most(60)),
        (reply(400, body=JIRA[:9], whole=False), 60, None, Most(60)),
        (Broken(Stage.REPLY, "ReadError"), 60, None, Most(60)),
        # One file alone speaks about itself.
        (reply(400, body=JIRA), 1, None, Most(60)),
        (reply(429), 1, PER_ISSUE, Most(60)),
        # A proxy speaks about bytes.
        (reply(413, body=b"<html>"), 60, None, Most(60, bytes=500)),
        (reply(413, body=b"<html>"), 1, None, Most(60, bytes=999)),
    ],
)
def test_only_what_may_be_about_its_size_makes_requests_smaller(answer, files, fault, expected) -> None:
    assert batch_size.taught(Most(60), 60, answer, [DOUBT] * files, fault, 1000) == expected


def test_a_long_run_of_full_requests_doubles_what_is_sent_and_a_proxy_s_limit_ends_with_what_it_lets_through() -> None:
    known = Most(10, bytes=500)
    for _ in range(batch_size.GROW_AFTER - 1):
        known = batch_size.taught(known, 60, reply(200), [Kept("1", "n")] * 10, None, 400)
    assert known == Most(10, 500, run=batch_size.GROW_AFTER - 1)

    known = batch_size.taught(known, 60, reply(200), [Kept("1", "n")] * 10, None, 600)

    assert known == Most(20)
    assert (
        batch_size.taught(Most(40, run=batch_size.GROW_AFTER - 1), 60, reply(200), [Kept("1", "n")] * 40, None, 1).files
        == 60
    )


def test_files_are_counted_as_writes_for_as_long_as_nothing_speaks_against_it() -> None:
    known = Most(18, counted=True)
    for _ in range(batch_size.COUNT_REQUESTS_AFTER):
        assert known.writes == 18
        known = batch_size.taught(known, 60, reply(200), [Kept("1", "n")] * 18, None, 1)

    assert known == Most(18)
    assert known.writes == 1


def test_a_request_that_counts_as_several_writes_waits_until_there_is_room_for_all() -> None:
    assert delivery_pacer.free_at([0.0] * 10, 1.0, writes=8) == 1.0
    assert delivery_pacer.free_at([0.0] * 10, 1.0, writes=9) == 2.0
    assert delivery_pacer.free_at([0.0] * 80, 3.0, writes=16) == 30.0


def test_a_request_that_is_not_full_teaches_nothing_about_larger_ones() -> None:
    assert batch_size.taught(Most(10), 60, reply(200), [Kept("1", "n")] * 9, None, 1) == Most(10)


def test_what_an_issue_declined_for_its_size_is_remembered_for_the_site_and_by_the_next_process(w: World) -> None:
    drop(w, 40)
    w.jira.faults.append(
        Fault(status=429, body={}, headers={"retry-after": "1", "ratelimit-reason": "jira-per-issue-on-write"})
    )
    w.settle()
    assert sizes(w)[0] == 40
    assert max(sizes(w)[1:]) <= 20
    w.restart()
    before = len(sizes(w))

    drop(w, 40, "OPS-1")
    w.settle()

    assert max(sizes(w)[before:]) <= 20
    assert len(w.jira.stored) == 80


def test_data_center_starts_with_twenty_files_in_a_request(tmp_path: Path) -> None:
    with world(tmp_path, deployment="Server") as w:
        drop(w, 45)

        w.settle()

        assert sizes(w) == [20, 20, 5]


def test_fewer_files_in_a_request_can_be_configured_for_data_center_too(tmp_path: Path) -> None:
    with world(tmp_path, deployment="Server", batch={"max_files": 7}) as w:
        drop(w, 14)

        w.settle()

        assert sizes(w) == [7, 7]


def test_a_proxy_s_limit_shrinks_the_requests_that_follow(w: World) -> None:
    for number in range(10):
        w.drop(f"TEST-1/{number}.bin", b"x" * 100_000 + b"%d" % number)
    w.jira.faults.append(Fault(status=413, body=b"<html>nginx"))
    w.settle()
    assert len(w.jira.stored) == 10
    assert sizes(w)[0] == 10
    before = len(sizes(w))

    for number in range(10):
        w.drop(f"OPS-1/{number}.bin", b"x" * 100_000 + b"%d" % number)
    w.settle()

    assert max(sizes(w)[before:]) <= 5
    assert w.files(w.failed) == {}


def test_another_site_has_other_limits(w: World) -> None:
    drop(w, 4)
    w.jira.faults.append(Fault(status=400, body={"errorMessages": ["no"], "errors": {}}))
    w.settle()
    with w.runtime.journal.transaction() as connection:
        assert database.get(connection, "batch.files") == 2
        batch_size.forget(connection)

        assert batch_size.most(connection, 60, cloud=True) == Most(60)


# --- Before anything is sent ------------------------------------------------------------------------------------

LARGE = b"x" * (preflight.LARGE_BYTES + 1)


def test_a_large_file_for_an_issue_that_does_not_exist_is_never_pushed(w: World) -> None:
    w.jira.missing.add("TEST-404")
    w.drop("TEST-404/huge.bin", LARGE)

    w.settle()

    assert w.jira.uploads == []
    assert w.states() == ["FAILED"]
    assert "the issue does not exist, or attachd may not see it" in (w.row("TEST-404/huge.bin").reason or "")


def test_the_look_before_a_large_file_is_made_once_for_several(w: World) -> None:
    for number in range(3):
        w.drop(f"TEST-1/{number}.bin", LARGE)

    w.settle()

    assert len(w.jira.uploads) == 3
    assert sum(method == "GET" and path.endswith("/issue/TEST-1") for method, path in w.jira.requests) == 1


def test_a_large_file_waits_where_the_issue_cannot_be_looked_at(w: World) -> None:
    w.drop("TEST-1/huge.bin", LARGE)
    w.jira.look_faults += [Fault(breaks=httpx.ConnectError)] * 3

    w.deliver()

    assert w.jira.uploads == []
    assert w.states() == ["READY"]
    assert w.pauses() == {"site:unreachable"}
    w.settle()
    assert w.states() == ["DONE"]


def test_an_issue_whose_attachments_are_hidden_is_there_all_the_same(w: World) -> None:
    w.jira.hide_field = True
    w.drop("TEST-1/huge.bin", LARGE)

    w.settle()

    assert w.states() == ["DONE"]


def test_where_the_free_slots_of_an_issue_are_known_a_request_keeps_to_them(w: World) -> None:
    w.jira.stored += [Stored(str(n), "TEST-1", f"{n}.txt", b"old", 0.0) for n in range(1995)]
    w.drop("TEST-1/huge.bin", LARGE)
    w.settle()

    drop(w, 10)
    w.scan()
    w.step()

    assert sizes(w) == [1, 4]


def test_a_full_issue_declines_one_request_and_then_each_file_by_itself(w: World) -> None:
    w.jira.stored += [Stored(str(n), "TEST-1", f"{n}.txt", b"old", 0.0) for n in range(2000)]
    w.jira.most = 2000
    drop(w, 8)

    w.settle()

    assert sizes(w) == [8] + [1] * 8
    assert w.states() == ["FAILED"] * 8
    with w.runtime.journal.transaction() as connection:
        assert batch_size.most(connection, 60, cloud=True).files == 4


def test_a_full_issue_is_said_to_be_full_and_not_the_file_to_be_large(w: World) -> None:
    w.drop("TEST-1/a.txt", SMALL)
    w.jira.faults.append(Fault(status=413, body={"errorMessages": ["limit exceeded"], "errors": {}}))

    w.settle()

    assert "most likely has as many attachments as Jira allows" in (w.row("TEST-1/a.txt").reason or "")


# --- How fast ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Pace()),
        ({"x-ratelimit-nearlimit": "true"}, Pace(near=True)),
        ({"x-ratelimit-nearlimit": "false"}, Pace()),
        ({"x-ratelimit-remaining": "0"}, Pace()),  # Cloud: what remains of this second
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-fillrate": "10", "x-ratelimit-interval-seconds": "60"},
            Pace(dry_seconds=6.0),
        ),
        (
            {
                "x-ratelimit-remaining": "0",
                "x-ratelimit-fillrate": "10",
                "x-ratelimit-interval-seconds": "60",
                "retry-after": "4",
            },
            Pace(dry_seconds=4.0),
        ),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-fillrate": "10", "x-ratelimit-interval-seconds": "60"}, Pace()),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-fillrate": "0", "x-ratelimit-interval-seconds": "60"}, Pace()),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-fillrate": "nan", "x-ratelimit-interval-seconds": "inf"}, Pace()),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-fillrate": "1", "x-ratelimit-interval-seconds": "86400"},
            Pace(dry_seconds=300.0),
        ),
        ({"x-beta-ratelimit-nearlimit": "true", "beta-retry-after": "900"}, Pace()),
    ],
)
def test_the_pace_is_read_from_headers_that_are_in_force(headers: dict[str, str], expected: Pace) -> None:
    assert rate_limits.pace(reply(200, headers)) == expected


def test_an_issue_near_its_limit_is_served_slower_and_others_are_not(tmp_path: Path) -> None:
    with world(tmp_path, batch={"max_files": 1}) as w:
        drop(w, 2)
        w.drop("OPS-1/a.txt", SMALL)
        w.jira.faults += [Fault(headers={"x-ratelimit-nearlimit": "true"})] * 2

        w.deliver()

        assert len(w.jira.on("TEST-1")) == 1
        assert len(w.jira.on("OPS-1")) == 1
        assert worker.idle_seconds(w.runtime) == pytest.approx(delivery_pacer.NEAR_SECONDS)
        w.clock.advance(delivery_pacer.NEAR_SECONDS)
        w.deliver()
        assert len(w.jira.on("TEST-1")) == 2


def test_an_empty_bucket_of_data_center_holds_all_requests_until_the_next_token(tmp_path: Path) -> None:
    with world(tmp_path, deployment="Server") as w:
        w.drop("TEST-1/a.txt", SMALL)
        w.drop("OPS-1/b.txt", SMALL)
        empty = {"x-ratelimit-remaining": "0", "x-ratelimit-fillrate": "10", "x-ratelimit-interval-seconds": "60"}
        w.jira.faults.append(Fault(headers=empty))

        w.deliver()

        assert len(w.jira.stored) == 1
        assert w.pauses() == set()
        w.clock.advance(6.0)
        w.deliver()
        assert len(w.jira.stored) == 2


@pytest.mark.parametrize("seed", range(20))
def test_the_first_issue_that_may_go_on_is_the_first_of_all(seed: int) -> None:
    """Whatever the pacer leaves out when it looks for it, so that ten thousand issues cost nothing."""
    dice, pacer, now = random.Random(seed), Pacer(), 0.0
    issues = [f"TEST-{number}" for number in range(5)]
    for _ in range(400):
        now += dice.choice([0.0, 0.01, 0.3, dice.random() * 20])
        pacer.count(dice.choice(issues), now, dice.choice([1, 1, 1, 9]))
        for writes in (1, 5, 60):
            waits = [wait for issue in issues if (wait := pacer.wait(issue, now, writes)) > 0]
            assert pacer.soonest(now, writes) == min(waits, default=None)


def test_issues_that_need_not_wait_are_not_looked_at() -> None:
    pacer = Pacer()
    for number in range(10_000):
        pacer.count(f"TEST-{number}", number / 1000)

    assert len(pacer._issues) == 10_000
    assert pacer._crowded == set()
    assert pacer.soonest(10.0) is None


def test_the_pacer_forgets_issues_that_are_quiet() -> None:
    pacer = Pacer()
    for number in range(3000):
        pacer.count(f"TEST-{number}", float(number))

    assert len(pacer._issues) == 30


# --- How many at once -------------------------------------------------------------------------------------------


def test_uploads_at_once_are_halved_by_trouble_and_grow_by_one_after_a_run() -> None:
    parallel = Parallel(8)
    assert [parallel.enter() for _ in range(9)] == [True] * 8 + [False]

    parallel.overloaded()
    assert parallel.allowed == 4
    for _ in range(3):
        parallel.leave()
    assert not parallel.enter()  # five are still under way
    parallel.leave()
    parallel.leave()
    assert parallel.enter()
    for _ in range(3):
        parallel.overloaded()
    assert parallel.allowed == 1
    for _ in range(delivery_pacer.GROW_AFTER):
        parallel.accepted()
    assert parallel.allowed == 2
    for _ in range(100 * delivery_pacer.GROW_AFTER):
        parallel.accepted()
    assert parallel.allowed == 8


@pytest.mark.parametrize(
    ("answer", "fault", "fewer"),
    [
        (reply(503), None, True),
        (reply(429), WorldFault(Scope.ENDPOINT, "rate-limit", ""), True),
        (reply(429), PER_ISSUE, False),
        (reply(500), None, False),
        (reply(404), None, False),
        (Broken(Stage.REPLY, "ReadTimeout", timed_out=True), None, True),
        (Broken(Stage.SENDING, "WriteTimeout", timed_out=True), None, True),
        (Broken(Stage.REPLY, "ReadError"), None, False),
    ],
)
def test_what_fewer_uploads_at_once_would_help_against(answer, fault, fewer: bool) -> None:
    assert upload.overloaded(answer, fault) is fewer


def test_a_time_out_lets_fewer_uploads_run_at_once(w: World) -> None:
    w.drop("TEST-1/a.txt", SMALL)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))

    w.deliver()

    assert w.runtime.parallel.allowed == 2
    assert w.runtime.parallel.enter()  # nothing that ended is counted any more
    assert w.runtime.parallel.enter()
    assert not w.runtime.parallel.enter()


# --- How many files an issue gets -------------------------------------------------------------------------------


def test_an_issue_that_gets_too_many_files_pauses_alone_until_they_age_out(tmp_path: Path) -> None:
    with world(tmp_path, limits={"issue_files_per_hour": 100}, batch={"max_files": 60}) as w:
        drop(w, 250)
        w.drop("OPS-1/a.txt", SMALL)

        w.deliver()

        assert len(w.jira.on("TEST-1")) == 100
        assert len(w.jira.on("OPS-1")) == 1
        assert w.pauses() == {"issue:too-many-files"}
        w.clock.advance(3500)
        w.deliver()
        assert len(w.jira.on("TEST-1")) == 100
        w.clock.advance(200)
        w.deliver()
        assert len(w.jira.on("TEST-1")) == 200
        w.settle(hours=3)
        assert len(w.jira.on("TEST-1")) == 250


def test_what_is_counted_from_now_on_lets_the_issue_go_on(tmp_path: Path) -> None:
    with world(tmp_path, limits={"issue_files_per_hour": 5}) as w:
        drop(w, 8)
        w.deliver()
        assert len(w.jira.stored) == 5
        w.restart()
        w.deliver()
        assert len(w.jira.stored) == 5
        with w.runtime.journal.transaction() as connection:
            connection.execute("UPDATE issue_queue SET counted_from = ?", (w.clock.now(),))
            connection.execute("DELETE FROM pause")

        w.deliver()

        assert len(w.jira.stored) == 8


def test_no_limit_is_none(tmp_path: Path) -> None:
    with world(tmp_path, limits={"issue_files_per_hour": 0}) as w:
        drop(w, 70)

        w.deliver()

        assert len(w.jira.stored) == 70


def test_files_that_were_not_accepted_do_not_count(tmp_path: Path) -> None:
    with world(tmp_path, limits={"issue_files_per_hour": 3}, batch={"max_files": 1}) as w:
        drop(w, 6)
        w.jira.faults += [Fault(status=400, body={"errorMessages": ["no"], "errors": {}})] * 3

        w.settle(hours=0.2)

        assert len(w.jira.stored) == 3
        assert w.states().count("FAILED") == 3


def test_nothing_that_is_not_delivered_teaches_growth() -> None:
    assert batch_size.taught(Most(5), 60, reply(429), [NotDelivered("x")] * 5, None, 1) == Most(5)
