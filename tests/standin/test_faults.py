"""Each fault of the stand-in does what its line in ``faults.KINDS`` says, on a real connection."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.standin import Fault, Faults, Standin
from attachd.standin.faults import KINDS, POINTS

AUTH = ("demo@example.com", "standin-token")
FILES = [("file", ("a.txt", b"1")), ("file", ("b.txt", b"22")), ("file", ("c.txt", b"333"))]


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    """A site with two issues."""
    with Standin(tmp_path / "jira", issues=["TEST-1", "TEST-2"]) as jira:
        yield jira


@pytest.fixture
def client(jira: Standin) -> Iterator[httpx.Client]:
    """A client that does everything right."""
    with httpx.Client(
        base_url=f"{jira.url}/rest/api/3/",
        auth=AUTH,
        headers={"X-Atlassian-Token": "no-check"},
        timeout=10,
        verify=False,
    ) as client:
        yield client


def upload(client: httpx.Client, key: str = "TEST-1") -> httpx.Response:
    return client.post(f"issue/{key}/attachments", files=FILES)


def names(jira: Standin) -> list[str]:
    return [it.filename for it in jira.store.all_attachments()]


def a_request(size: int = 10) -> tuple[bytes, bytes]:
    """Head and body of an upload as bytes, for sockets."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.txt"'
    body = b"--b\r\n" + disposition + b"\r\n\r\n" + b"x" * size + b"\r\n--b--\r\n"
    head = (
        f"POST /rest/api/3/issue/TEST-1/attachments HTTP/1.1\r\nHost: x\r\nX-Atlassian-Token: no-check\r\n"
        f"Authorization: Bearer standin-token\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


def exchange(jira: Standin, size: int = 10) -> tuple[bytes, str]:
    """Upload over a socket; give what came back, and how the connection ended."""
    head, body = a_request(size)
    got = b""
    with socket.create_connection(("127.0.0.1", jira.port), timeout=5) as wire:
        try:
            wire.sendall(head)
            wire.sendall(body)
            while piece := wire.recv(65536):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            return got, "reset"
        except TimeoutError:
            return got, "open"
    return got, "end"


def ended(jira: Standin, number: int = 1) -> None:
    assert jira.log.wait(lambda log: [record.ended for record in log] == [True] * number, 5)


# --- which request is struck ----------------------------------------------------------------------------------------


def test_a_fault_strikes_as_often_as_it_says_after_those_it_lets_pass() -> None:
    faults = Faults()
    faults.add(Fault("slow", after=1, times=2))

    struck = [faults.take("upload", "TEST-1") is not None for _ in range(5)]

    assert struck == [False, True, True, False, False]
    assert faults.pending() == []


def test_faults_are_counted_side_by_side() -> None:
    faults = Faults()
    faults.add(Fault("slow"), Fault("reset", after=1), Fault("trickle", times=-1))

    kinds = [fault.kind for _ in range(4) if (fault := faults.take("upload", None))]

    assert kinds == ["slow", "reset", "trickle", "trickle"]
    faults.clear()
    assert faults.take("upload", None) is None


def test_a_fault_strikes_only_where_it_is_laid_out() -> None:
    faults = Faults()
    faults.add(Fault("slow", where="listing", issue="test-1"))

    assert faults.take("upload", "TEST-1") is None
    assert faults.take("listing", "TEST-2") is None
    assert faults.take("listing", None) is None
    assert faults.take("listing", "TEST-1") is not None


@pytest.mark.parametrize("options", [{"kind": "x"}, {"kind": "slow", "where": "x"}, {"kind": "reset", "point": "x"}])
def test_a_misspelt_fault_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        Fault(**options)


@pytest.mark.parametrize("where", ["listing", "myself", "serverInfo", "meta", "permissions", "any"])
def test_other_requests_are_struck_as_well(jira: Standin, client: httpx.Client, where: str) -> None:
    paths = {"listing": "issue/TEST-1", "meta": "attachment/meta", "permissions": "mypermissions", "any": "nonsense"}
    jira.faults.add(Fault("status", where=where, status=502), Fault("reset", where=where, point="headers", after=1))

    assert client.get(paths.get(where, where)).status_code == 502
    with pytest.raises(httpx.TransportError):
        client.get(paths.get(where, where))
    assert [record.fault for record in jira.requests] == ["status", "reset"]


# --- the connection -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("point", ["accept", "headers", "body", "last-byte", "reply", "reply-head", "reply-body"])
def test_a_cut_connection(jira: Standin, kind: str, point: str) -> None:
    jira.faults.add(Fault(kind, point=point, bytes=5))

    got, end = exchange(jira)

    assert end == ("reset" if kind == "reset" else "end")
    ended(jira)
    (record,) = jira.requests
    stored = point in ("reply", "reply-head", "reply-body")
    assert len(names(jira)) == len(record.committed) == stored
    assert (record.status, record.fault, record.complete) == (None, kind, stored or point == "last-byte")
    if point == "reply-head":
        assert got.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\n\r\n" not in got
    elif point == "reply-body":
        assert len(got.partition(b"\r\n\r\n")[2]) == 5
    else:
        assert got == b""
    if point == "body":
        assert record.bytes_received == 5


def test_a_cut_in_the_body_is_never_after_the_closing_boundary(jira: Standin) -> None:
    jira.faults.add(Fault("reset", point="body", bytes=1 << 30))

    exchange(jira)

    ended(jira)
    assert jira.requests[0].bytes_received == len(a_request()[1]) - len("-\r\n")
    assert names(jira) == []


def test_an_orderly_end_in_the_midst_of_a_large_body_is_no_reset(jira: Standin) -> None:
    jira.faults.add(Fault("close", point="body", bytes=1 << 16))

    assert exchange(jira, 8 << 20) == (b"", "end")


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_connection_cut_when_it_is_made(jira: Standin, kind: str) -> None:
    jira.faults.add(Fault(kind, where="any", point="accept"))

    end = "close"
    try:
        with socket.create_connection(("127.0.0.1", jira.port), timeout=5) as wire:
            assert wire.recv(1) == b""
    except ConnectionResetError:
        end = "reset"

    assert end == kind
    assert jira.log.wait(lambda log: [record.fault for record in log] == [kind], 5)


def test_what_is_stored_can_be_set_for_every_kind(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("status", status=503, commit=True), Fault("reset", commit=False, after=1))

    assert upload(client).status_code == 503
    with pytest.raises(httpx.TransportError):
        upload(client)

    assert len(names(jira)) == 3


@pytest.mark.parametrize(("point", "stored"), [("reply-none", 3), ("reply-before", 0)])
def test_a_reply_that_never_comes(jira: Standin, client: httpx.Client, point: str, stored: int) -> None:
    jira.faults.add(Fault("stall", point=point))

    with pytest.raises(httpx.ReadTimeout):
        client.post("issue/TEST-1/attachments", files=FILES, timeout=0.2)

    ended(jira)
    assert len(names(jira)) == stored


def test_a_reply_that_never_comes_ends_with_a_reset_after_its_delay(jira: Standin) -> None:
    jira.faults.add(Fault("stall", delay=0.05))

    assert exchange(jira) == (b"", "reset")


def test_a_body_that_is_read_no_further(jira: Standin) -> None:
    jira.faults.add(Fault("stall", point="body", bytes=100))
    head, body = a_request(32 << 20)

    with socket.create_connection(("127.0.0.1", jira.port)) as wire:
        wire.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.sendall(head + body)
        begun = time.monotonic()
        jira.stop()
        assert time.monotonic() - begun < 1
    assert names(jira) == []


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 502, 504])
def test_files_that_are_stored_when_the_client_has_gone(
    jira: Standin, client: httpx.Client, status: int | None
) -> None:
    jira.faults.add(Fault("late", status=status, delay=0.1, name="late.txt"))

    if status is None:
        with pytest.raises(httpx.TransportError):
            upload(client)
    else:
        assert upload(client).status_code == status
    assert names(jira) == []

    assert jira.log.wait(lambda log: len(log[0].committed) == 3, 5)
    assert names(jira) == ["late.txt"] * 3
    assert jira.store.all_attachments()[2].path.read_bytes() == b"333"
    assert list(jira.store.incoming.iterdir()) == []


def test_what_would_be_stored_late_dies_with_the_server(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("late", status=504, delay=0.05))

    upload(client)
    jira.restart()
    client.get("myself")

    assert not jira.log.wait(lambda log: bool(log[0].committed), 0.1)


def test_a_slow_reply(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("slow", delay=0.1))
    begun = time.monotonic()

    assert upload(client).status_code == 200
    assert time.monotonic() - begun >= 0.1


def test_a_reply_byte_by_byte_defeats_a_time_out_for_each_read(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("trickle", where="meta", delay=0.002))
    begun = time.monotonic()

    answer = client.get("attachment/meta", timeout=0.1)

    assert answer.json()["enabled"] is True
    assert time.monotonic() - begun > 0.3
    assert jira.requests[0].status == 200


# --- a reply of one's own, and early replies ------------------------------------------------------------------------


def test_any_status_with_any_headers_and_body(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("status", status=599, headers={"Retry-After": "7"}, body="<b>", content_type="text/html"))

    answer = upload(client)

    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (599, "<b>", "7")
    assert answer.headers["content-type"].startswith("text/html")
    assert "date" in answer.headers
    assert jira.requests[0].complete
    assert names(jira) == []


@pytest.mark.parametrize("stall", [False, True])
def test_a_reply_before_the_body_is_read(jira: Standin, stall: bool) -> None:
    jira.faults.add(Fault("status", status=413, body="large", early=True, stall=stall))
    head, _ = a_request()

    with socket.create_connection(("127.0.0.1", jira.port), timeout=0.2) as wire:
        wire.sendall(head)
        got = wire.recv(65536)
        assert got.startswith(b"HTTP/1.1 413")
        assert got.endswith(b"large")
        if stall:
            with pytest.raises(TimeoutError):
                wire.recv(1)
        else:
            assert wire.recv(1) == b""
    ended(jira)
    assert (jira.requests[0].status, jira.requests[0].bytes_received) == (413, 0)


# --- a 200 that is no proof -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stored", "body"),
    [
        ("html200", 0, None),
        ("empty200", 0, None),
        ("emptylist200", 0, []),
        ("nojson200", 0, None),
        ("noids200", 3, [("a.txt", 1), ("b.txt", 2), ("c.txt", 3)]),
        ("wrongsize200", 3, [("a.txt", 2), ("b.txt", 3), ("c.txt", 4)]),
        ("login200", 3, [("a.txt", 1), ("b.txt", 2), ("c.txt", 3)]),
        ("object200", 3, [("a.txt", 1)]),
        ("shuffle200", 3, [("c.txt", 3), ("b.txt", 2), ("a.txt", 1)]),
    ],
)
def test_unusual_successes(
    jira: Standin, client: httpx.Client, kind: str, stored: int, body: list[tuple[str, int]] | None
) -> None:
    jira.faults.add(Fault(kind))

    answer = upload(client)

    assert answer.status_code == 200
    assert len(names(jira)) == stored
    if body is None:
        with pytest.raises(json.JSONDecodeError):
            answer.json()
        return
    shown = answer.json() if isinstance(answer.json(), list) else [answer.json()]
    assert [(one["filename"], one["size"]) for one in shown] == body
    assert all(("id" in one) is (kind != "noids200") for one in shown)
    if kind == "login200":
        assert answer.headers["x-seraph-loginreason"] == "AUTHENTICATED_FAILED"


def test_listings_can_lie_too(jira: Standin, client: httpx.Client) -> None:
    upload(client)
    jira.faults.add(*(Fault(kind, where="listing") for kind in ("emptylist200", "noids200", "wrongsize200")))

    listings = [client.get("issue/TEST-1?fields=attachment").json()["fields"]["attachment"] for _ in range(4)]

    assert listings[0] == []
    assert "id" not in listings[1][0]
    assert [listing[0]["size"] for listing in listings[1:]] == [1, 2, 1]


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "headers", "text"),
    [
        (
            Fault("captcha"),
            403,
            {"x-authentication-denied-reason": "CAPTCHA_CHALLENGE", "x-seraph-loginreason": "AUTHENTICATION_DENIED"},
            "<html",
        ),
        (Fault("unauthorized"), 401, {"x-seraph-loginreason": "AUTHENTICATED_FAILED"}, "errorMessages"),
        (Fault("scope"), 401, {"content-type": "application/json"}, "scope does not match"),
        (Fault("xsrf"), 403, {"content-type": "text/plain"}, "XSRF check failed"),
        (Fault("redirect", location="https://sso.invalid/"), 302, {"location": "https://sso.invalid/"}, ""),
        (Fault("proxy413"), 413, {"content-type": "text/html"}, "nginx"),
        (
            Fault("ratelimit", reason="jira-quota-tenant-based", retry_after="1847"),
            429,
            {"ratelimit-reason": "jira-quota-tenant-based", "retry-after": "1847", "x-ratelimit-reset": "20"},
            "errorMessages",
        ),
        (
            Fault("ratelimit", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
            429,
            {"ratelimit-reason": "jira-burst-based", "retry-after": "Wed, 21 Oct"},
            "",
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_refusals(
    jira: Standin, client: httpx.Client, fault: Fault, status: int, headers: dict[str, str], text: str
) -> None:
    jira.faults.add(fault)

    answer = upload(client)

    assert answer.status_code == status
    assert {name: answer.headers[name][: len(value)] for name, value in headers.items()} == headers
    assert text in answer.text
    assert names(jira) == []


# --- what becomes of the files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        (Fault("rename"), ["a-renamed.txt", "b-renamed.txt", "c-renamed.txt"]),
        (Fault("rename", name="x.txt"), ["x.txt"] * 3),
        (Fault("login200", name="x.txt"), ["x.txt"] * 3),
    ],
)
def test_files_stored_under_another_name(jira: Standin, client: httpx.Client, fault: Fault, stored: list[str]) -> None:
    jira.faults.add(fault)

    assert [one["filename"] for one in upload(client).json()] == stored
    assert names(jira) == stored


@pytest.mark.parametrize("fault", [Fault("reset", name="x"), Fault("stall", name="x", delay=0.01)])
def test_a_name_changed_while_in_doubt(jira: Standin, client: httpx.Client, fault: Fault) -> None:
    jira.faults.add(fault)

    with pytest.raises(httpx.TransportError):
        upload(client)

    assert names(jira) == ["x", "x", "x"]


@pytest.mark.parametrize(
    ("fault", "stored"), [(Fault("half"), 1), (Fault("half", count=2, status=413), 2), (Fault("half", status=None), 1)]
)
def test_half_a_batch(jira: Standin, client: httpx.Client, fault: Fault, stored: int) -> None:
    jira.faults.add(fault)

    if fault.status is None:
        with pytest.raises(httpx.TransportError):
            upload(client)
    else:
        answer = upload(client)
        assert answer.status_code == (fault.status or 400)
        assert answer.json()["errorMessages"]
    assert names(jira) == ["a.txt", "b.txt", "c.txt"][:stored]


def test_files_stored_twice(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("twice"))

    ids = [one["id"] for one in upload(client).json()]

    everything = jira.store.all_attachments()
    assert [it.id for it in everything[:3]] == ids
    assert [it.sha256 for it in everything[3:]] == [it.sha256 for it in everything[:3]]
    jira.store.delete(ids[0])
    assert everything[3].path.read_bytes() == b"1"


def test_a_fault_takes_nothing_from_a_refusal(jira: Standin, client: httpx.Client) -> None:
    jira.faults.add(Fault("wrongsize200", times=-1))

    assert upload(client, "TEST-9").status_code == 404


def test_every_kind_and_point_leaves_the_server_serving(jira: Standin, client: httpx.Client) -> None:
    cutting = [Fault(kind, point=point, delay=0.001) for kind in ("reset", "close", "stall") for point in POINTS]
    for fault in [*cutting, *(Fault(kind, delay=0.0) for kind in KINDS)]:
        jira.faults.add(fault)
        with contextlib.suppress(httpx.NetworkError, httpx.ProtocolError):
            upload(client)
        assert client.get("myself").status_code == 200, fault
    # Only commits and requests speak of what happened; the log has every one of them.
    events = [json.loads(line) for line in (jira.store.folder / "log.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "request" for event in events) == 2 * (len(cutting) + len(KINDS))
    committed = [one["id"] for event in events if event["event"] == "commit" for one in event["attachments"]]
    assert committed == [it.id for it in jira.store.all_attachments()]
