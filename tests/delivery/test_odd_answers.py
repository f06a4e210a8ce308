"""What is odd about one issue, one file or one moment stays that: it stops no other, and nothing is sent twice for it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from attachd.delivery import probe
from attachd.filing.verify import Result, Verifier
from attachd.model import State
from memory_jira import Fault, Stored, World, _error, world

Answer = Callable[[], httpx.Response]
LARGE = bytes(9_000_000)
PAGE = {"content-type": "text/html"}


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def doubt(w: World, path: str = "TEST-1/a.txt", **fault: object) -> None:
    """An upload without an answer, stored or not."""
    w.drop(path, b"aaaaa")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, **fault))  # type: ignore[arg-type]
    w.deliver()


def accept(w: World, *paths: str) -> None:
    for path in paths:
        w.drop(path, path.encode())
        w.deliver()
        w.clock.advance(60.0)


def while_others_come(w: World, minutes: int, issue: str = "OPS-1", seconds: float = 61.0) -> None:
    """Another issue gets a file each minute, and has all of them at the end, or almost."""
    for number in range(minutes):
        w.drop(f"{issue}/{number}.txt", b"%d" % number)
        w.clock.advance(seconds)
        w.scan()
        w.work()
    assert len([row for row in w.unfinished() if row.issue == issue]) <= 2


# --- A listing that cannot be read --------------------------------------------------------------------------------


def page() -> httpx.Response:
    return httpx.Response(200, content=b"<html>report of an error</html>", headers=PAGE)


def error() -> httpx.Response:
    return httpx.Response(500, json=_error("Internal server error"))


class Cut(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b'{"id": "1", "key": "TEST-1", "fields": {"attachment": ['
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def cut() -> httpx.Response:
    return httpx.Response(200, stream=Cut(), headers={"content-type": "application/json"})


def silence() -> httpx.Response:
    raise httpx.ReadTimeout("as told")


def unlist(w: World, issue: str, answer: Answer) -> None:
    """Answer each question for this issue's attachments so."""
    real = w.jira._list
    w.jira._list = lambda key, known: answer() if key == issue else real(key, known)  # type: ignore[method-assign]


@pytest.mark.parametrize("answer", [page, error, cut, silence])
def test_one_issue_that_cannot_be_read_stops_no_other(w: World, answer: Answer) -> None:
    accept(w, "OPS-1/first.txt")
    unlist(w, "TEST-1", answer)
    doubt(w)

    while_others_come(w, 120)

    assert w.pauses() == set()


def test_nor_does_a_large_file_that_is_to_go_there(w: World) -> None:
    accept(w, "OPS-1/first.txt")
    unlist(w, "TEST-1", error)
    w.drop("TEST-1/large.bin", LARGE)

    while_others_come(w, 60)

    assert w.jira.names("TEST-1") == ["large.bin"]


def never_read(w: World) -> None:
    unlist(w, "TEST-1", error)


def never_listed(w: World) -> None:
    w.jira.hide_field = True


def never_handed_out(w: World) -> None:
    w.jira.stored.append(Stored("5000", "TEST-1", "a.txt", b"bbbbb", w.clock.time))
    w.jira._content = lambda number: httpx.Response(403, content=b"{}")  # type: ignore[method-assign]


@pytest.mark.parametrize("act", [never_read, never_listed, never_handed_out])
@pytest.mark.parametrize("ready", [True, False])
def test_who_can_never_be_looked_for_is_given_up_in_the_end(
    w: World, act: Callable[[World], None], ready: bool
) -> None:
    """Also where the look is the one before a repeated attempt."""
    doubt(w)
    while ready and w.row("TEST-1/a.txt").state is not State.READY:
        w.clock.advance(31.0)
        w.step()
    act(w)

    for _ in range(4 * 24 * 4):
        w.clock.advance(900.0)
        w.work()

    assert w.row("TEST-1/a.txt").state in (State.REFUSED, State.FAILED)
    assert w.row("TEST-1/a.txt").may_be_attached


@pytest.mark.parametrize("reason", ["jira-burst-based", "jira-per-issue-on-write", "other"])
def test_a_listing_that_is_throttled_is_not_asked_for_before_its_time(w: World, reason: str) -> None:
    doubt(w)
    asked: list[float] = []

    def throttled(issue: str, known: object) -> httpx.Response:
        asked.append(w.clock.time)
        return w.jira._reply(429, b"", {"retry-after": "600", "ratelimit-reason": reason})

    w.jira._list = throttled  # type: ignore[assignment,method-assign]
    for _ in range(100):
        w.clock.advance(5.0)
        w.work()

    assert len(asked) <= 2


# --- Whose fault it is --------------------------------------------------------------------------------------------


def between(w: World, answers: Callable[[bytes], httpx.Response | None]) -> list[list[bytes]]:
    """Something in front of Jira answers uploads by their bodies. Returns the names of the files in each request."""
    real, seen = w.jira._upload, list[list[bytes]]()

    def upload(request: httpx.Request, issue: str, known: object) -> httpx.Response:
        body = b"".join(request.stream)  # type: ignore[arg-type]
        seen.append(re.findall(rb'filename="(.*?)"', body))
        fresh = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        return answers(body) or real(fresh, issue, known)  # type: ignore[arg-type]

    w.jira._upload = upload  # type: ignore[assignment,method-assign]
    return seen


def firewall(body: bytes) -> httpx.Response | None:
    return httpx.Response(403, content=b"<html>Rejected.</html>", headers=PAGE) if b"EVIL" in body else None


@pytest.mark.parametrize("others", [True, False])
def test_a_file_that_a_firewall_declines_is_found_out_among_those_of_its_request(w: World, others: bool) -> None:
    between(w, firewall)
    w.drop("TEST-1/evil.txt", b"EVIL")
    w.drop("TEST-1/good.txt", b"good")
    w.scan()
    if others:
        while_others_come(w, 100)
    for _ in range(100):
        w.work()
        w.clock.advance(60.0)

    assert w.jira.names("TEST-1") == ["good.txt"]
    assert w.row("TEST-1/evil.txt").state is (State.FAILED if others else State.READY)


def test_who_met_a_fault_is_not_behind_others_for_ever(w: World) -> None:
    """Once another file was accepted it has its turn again, however many come after it."""
    w.drop("TEST-1/first.bin", LARGE)
    w.jira.faults.append(Fault(status=502, body=b"<html>", early=True))
    w.deliver()
    assert w.row("TEST-1/first.bin").site_faults == 1
    for number in range(500):
        w.drop(f"TEST-1/{number}.txt", b"%d" % number)
    w.scan()
    w.clock.advance(60.0)

    while "first.bin" not in w.jira.names("TEST-1"):
        assert w.step()

    assert len(w.jira.names("TEST-1")) < 400


def test_a_large_file_that_draws_an_error_before_its_end_holds_up_nothing(w: World) -> None:
    real = w.jira._upload

    def upload(request: httpx.Request, issue: str, known: object) -> httpx.Response:
        if int(request.headers["content-length"]) > 5_000_000:
            return httpx.Response(502, content=b"<html>Bad Gateway</html>", headers=PAGE)
        return real(request, issue, known)  # type: ignore[arg-type]

    w.jira._upload = upload  # type: ignore[assignment,method-assign]
    w.drop("TEST-1/large.bin", LARGE)
    w.scan()
    w.drop("TEST-1/small.txt", b"small")
    while_others_come(w, 48, seconds=900.0)

    assert w.jira.names("TEST-1") == ["small.txt"]
    assert w.row("TEST-1/large.bin").state is State.FAILED
    assert "Jira accepts other files" in (w.row("TEST-1/large.bin").reason or "")


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_login_that_fails_for_a_moment_fails_no_file(w: World, status: int) -> None:
    accept(w, "OPS-1/first.txt")
    headers = {"x-seraph-loginreason": "AUTHENTICATED_FAILED", "content-type": "application/json"}
    w.drop("TEST-1/a.txt", b"aaaaa")
    w.jira.faults.append(Fault(status=status, headers=headers, body=_error("No.")))

    w.settle(hours=2.0)

    assert w.jira.names("TEST-1") == ["a.txt"]


def storage_is_full(body: bytes) -> httpx.Response:
    return httpx.Response(400, json=_error("Your site has run out of storage."))


def test_a_refusal_of_everything_fails_two_files_and_not_all(w: World) -> None:
    full = True
    between(w, lambda body: storage_is_full(body) if full else None)
    for number in range(20):
        w.drop(f"TEST-{number // 2 + 1}/{number}.txt", b"%d" % number)
    w.settle(hours=5.0)

    assert sorted(w.states()) == ["FAILED"] * 2 + ["READY"] * 18
    assert w.pauses() == {"endpoint:refused-alike"}
    full = False
    w.clock.advance(900.0)
    w.settle(hours=1.0)
    assert sorted(w.states()) == ["DONE"] * 18 + ["FAILED"] * 2


def test_files_that_are_refused_alike_for_what_they_are_hold_up_no_other(w: World) -> None:
    between(w, lambda body: httpx.Response(400, json=_error("Not this type.")) if b"MZ" in body else None)
    for number in range(6):
        w.drop(f"TEST-{number + 1}/bad.exe", b"MZ %d" % number)
    w.scan()
    w.work()
    while_others_come(w, 30, seconds=300.0)
    w.settle(hours=30.0)

    assert sorted(w.states()) == ["DONE"] * 30 + ["FAILED"] * 6


def test_a_project_that_was_deleted_is_no_witness_against_the_account(w: World) -> None:
    accept(w, "TEST-1/a.txt", "TEST-2/a.txt", "OPS-1/a.txt", "OPS-2/a.txt", "OPS-3/a.txt")
    w.jira.missing |= {"OPS-1", "OPS-2", "OPS-3", "TEST-999"}
    w.drop("TEST-999/typo.txt", b"typo")

    while_others_come(w, 10, "TEST-1", seconds=3600.0)

    assert w.row("TEST-999/typo.txt").state is State.FAILED


def test_witnesses_are_of_as_many_projects_as_there_are() -> None:
    issues = ["OPS-1", "OPS-2", "OPS-3", "TEST-1", "QA-1", "QA-2"]

    assert probe.chosen(issues, "TEST-9") == ["OPS-1", "QA-1", "TEST-1"]
    assert probe.chosen(issues[:4], "TEST-9") == ["OPS-1", "OPS-2", "TEST-1"]
    assert probe.chosen(["TEST-1", "TEST-2"], "TEST-9") == ["TEST-1", "TEST-2"]


@pytest.mark.parametrize("ends", [0.0, 60.0, 120.0])
@pytest.mark.parametrize("fails", [True, False])
def test_after_an_outage_of_uploads_everything_is_attached(w: World, fails: bool, ends: float) -> None:
    """In a round in which nothing at all was accepted no file shows that it is the cause."""
    down = True

    def outage(body: bytes) -> httpx.Response | None:
        if not down:
            return None
        return httpx.Response(500, content=b"<html>", headers=PAGE) if fails else silence()

    between(w, outage)
    for number in range(8):
        w.drop(f"TEST-{number + 1}/a.txt", b"%d" % number)
        w.scan()
        w.work()
        w.clock.advance(20.0)
    for _ in range(360 if fails else 60):
        w.work()
        w.clock.advance(30.0)
    w.clock.advance(ends)
    assert {row.state for row in w.rows()} <= {State.DOUBTFUL, State.READY}
    down = False
    for number in range(3):
        w.drop(f"OPS-{number + 1}/b.txt", b"b")
    w.settle(hours=5.0)

    assert w.states() == ["DONE"] * 11


def test_what_was_accepted_in_the_morning_says_nothing_of_an_outage_at_noon(w: World) -> None:
    doubt(w)
    accept(w, "OPS-1/other.txt")
    w.jira.faults += [Fault(status=500, body=b"<html>")] * 10_000
    w.drop("OPS-1/later.txt", b"later")
    for _ in range(180):
        w.clock.advance(60.0)
        w.scan()
        w.work()

    assert w.row("TEST-1/a.txt").state not in (State.REFUSED, State.FAILED)


# --- What has arrived ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["Cloud", "Server"])
def test_jiras_clock_may_be_put_right_meanwhile(tmp_path: Path, site: str) -> None:
    with world(tmp_path, deployment=site) as w:
        w.jira.readable = True
        w.jira.time = lambda: w.clock.time + 3600.0  # type: ignore[method-assign]
        accept(w, "OPS-1/0.txt", "OPS-1/1.txt", "OPS-1/2.txt")
        w.jira.time = lambda: w.clock.time  # type: ignore[method-assign]
        doubt(w, commit="all")
        w.settle(hours=2.0)

        assert w.jira.names("TEST-1") == ["a.txt"]


def test_a_proxys_clock_may_be_ahead_where_jira_changes_the_name(w: World) -> None:
    w.jira.date_ahead = 3600.0
    doubt(w, commit="all", rename="b.txt")
    w.settle(hours=2.0)

    assert w.jira.names("TEST-1") == ["b.txt"]


def test_a_jira_that_was_restored_gives_ids_again(w: World) -> None:
    """Nothing is sent again while the issue shows what may be the file: a person looks."""
    accept(w, *(f"TEST-1/{number}.txt" for number in range(4)))
    w.jira.stored.clear()
    w.jira._ids = itertools.count(10_001)
    w.clock.advance(3600.0)
    w.drop("TEST-1/new.txt", b"a new file")
    w.settle(hours=10.0)

    assert w.jira.names("TEST-1") == ["new.txt"]
    assert "attachment 10001 may be this file" in (w.row("TEST-1/new.txt").reason or "")


@pytest.mark.parametrize("earlier", [True, False])
def test_an_old_listing_of_hours_ago_makes_no_other_one_believed(w: World, earlier: bool) -> None:
    accept(w, "TEST-1/known.txt")
    w.clock.advance(700.0)
    w.jira.lag = 3000.0 if earlier else 0.0
    w.drop("TEST-1/large.bin", LARGE)
    w.deliver()
    w.jira.lag = 0.0
    w.clock.advance(3 * 3600.0)
    w.jira.lag = 400.0
    accept(w, "TEST-1/fresh.txt")
    doubt(w, commit="all")
    w.settle(hours=1.0)

    assert w.jira.names("TEST-1").count("a.txt") == 1


def test_a_gateways_404_is_no_deleted_attachment(w: World) -> None:
    accept(w, "TEST-1/a.txt")
    w.jira.hide_field = True
    real = w.jira._answer

    def gateway(request: httpx.Request, path: str) -> httpx.Response:
        if "/attachment/" in path and not path.endswith("/meta"):
            return httpx.Response(404, content=b"<html>no route</html>", headers=PAGE)
        return real(request, path)

    w.jira._answer = gateway  # type: ignore[method-assign]
    (found,) = Verifier(w.client, "3", lambda _: None, content=False).issue("TEST-1", w.rows())

    assert found.result is Result.UNKNOWN
