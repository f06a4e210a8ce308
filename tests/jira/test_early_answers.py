"""Answers that come while a body is still being sent, over real sockets: what is learned of them, and what is not sent.

The stall time-out is a minute: an answer that is had at all was not waited for until a write stalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from attachd.jira import transport
from attachd.jira.client import Client
from attachd.jira.multipart import Body
from attachd.jira.reply import Broken, Reply
from attachd.jira.verdict import Sent, judge
from attachd.model import InDoubt
from raw_connections import (
    LARGE,
    MIB,
    PATIENT,
    SHORT,
    SMALL,
    TIMEOUTS,
    Act,
    Authority,
    Proxy,
    Server,
    answering,
    body_of,
    calling,
    came_to,
    claimed,
    header,
    make_authority,
    more,
    said,
    take,
    until_gone,
)

STALL = 60.0
DECLINED = said(b'{"errorMessages": ["too large"]}', "413 Payload Too Large", "Content-Type: application/json")
UNKNOWN = said(b"{}", "401 Unauthorized")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of our own."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Body]:
    """A streamed body, more than the buffers of a connection on loopback take in while nobody reads."""
    (tmp_path / "large").write_bytes(LARGE)
    with body_of(tmp_path / "large") as body:
        yield body


@dataclass(frozen=True)
class Ends:
    """The TLS of both ends, or none."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None


@pytest.fixture(params=["plain", "tls"])
def ends(request: pytest.FixtureRequest) -> Ends:
    """Every test over both."""
    if request.param == "plain":
        return Ends(None, None)
    authority: Authority = request.getfixturevalue("authority")
    return Ends(authority.serving(), authority.context())


@contextlib.contextmanager
def meeting(ends: Ends, *acts: Act, stall: float = STALL) -> Iterator[tuple[Client, Server]]:
    """A client, and a server that does *acts* and then answers one request more, on a connection of its own."""
    with (
        Server(*acts, answering(said()), tls=ends.server) as server,
        calling(server.url, tls=ends.client, timeouts=replace(TIMEOUTS, stall=stall)) as client,
    ):
        yield client, server


def head_of(connection: socket.socket) -> bytes:
    """Read a request's head, and whatever came with it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    while b"\r\n\r\n" not in got:
        got += more(connection)
    return got


# --- An answer --------------------------------------------------------------------------------------------------------


def drains(connection: socket.socket) -> None:
    head_of(connection)
    connection.sendall(DECLINED)
    until_gone(connection)


def closes_later(connection: socket.socket) -> None:
    head_of(connection)
    connection.sendall(DECLINED)
    time.sleep(SHORT)


def closes_at_once(connection: socket.socket) -> None:
    """With the client's bytes unread: a reset."""
    head_of(connection)
    connection.sendall(DECLINED)


def in_mid_body(connection: socket.socket) -> None:
    head_of(connection)
    for _ in range(16):
        more(connection)
    connection.sendall(DECLINED)
    until_gone(connection)


def trickles(connection: socket.socket) -> None:
    head_of(connection)
    for byte in DECLINED:
        connection.sendall(bytes([byte]))
    until_gone(connection)


@pytest.mark.parametrize("act", [drains, closes_later, closes_at_once, in_mid_body, trickles])
def test_a_file_that_is_declined_early_is_not_sent_on(ends: Ends, large: Body, act: Act) -> None:
    with meeting(ends, act) as (client, server):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        after = client.myself("3")

    assert isinstance(outcome, Reply)
    assert (came_to(outcome), outcome.abandoned, outcome.words) == ("413 early", True, ("too large",))
    assert large.sent < large.length
    assert (came_to(after), server.connections) == ("200", 2)


def test_a_server_that_answers_and_reads_no_further(ends: Ends, large: Body) -> None:
    """With the connection open: httpx alone sees a write that stalls, and not the answer."""
    over = threading.Event()

    def stops_reading(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(DECLINED)
        over.wait(PATIENT)

    with meeting(ends, stops_reading) as (client, server):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        assert not over.is_set()
        over.set()
        after = client.myself("3")

    assert came_to(outcome) == "413 early"
    assert (came_to(after), server.connections) == ("200", 2)


def test_an_account_that_is_not_accepted_early_on_a_connection_that_is_kept(ends: Ends, large: Body) -> None:
    def keeps(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(UNKNOWN)
        until_gone(connection)

    with meeting(ends, keeps) as (client, server):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        after = client.myself("3")

    assert came_to(outcome) == "401 early"
    assert (came_to(after), server.connections) == ("200", 2)


def test_an_early_answer_has_the_time_of_any_answer(ends: Ends, large: Body) -> None:
    def never_ends(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 413 x\r\nContent-Length: 100000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(SHORT / 10)

    with meeting(ends, never_ends) as (client, _):
        begun = time.monotonic()
        outcome = client.upload("3", "TEST-1", large, SHORT)
        seconds = time.monotonic() - begun

    assert came_to(outcome) == "413 cut early"
    assert SHORT <= seconds < STALL / 2


def attached(size: int) -> bytes:
    return said(json.dumps([{"id": "1", "filename": "a.txt", "size": size}]).encode(), "200 OK")


def test_a_success_before_the_end_proves_nothing(ends: Ends, large: Body) -> None:
    def hasty(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(attached(len(LARGE)))
        until_gone(connection)

    with meeting(ends, hasty) as (client, _):
        outcome = client.upload("3", "TEST-1", large, PATIENT)

    assert came_to(outcome) == "200 early"
    (fate,) = judge(outcome, [Sent("a.txt", len(LARGE))], "TEST-1").fates
    assert isinstance(fate, InDoubt)


class Awaiting(Body):
    """Begins when the answer is there."""

    answered: threading.Event

    def __iter__(self) -> Iterator[bytes]:
        """Wait for it."""
        assert self.answered.wait(PATIENT)
        yield from super().__iter__()


@pytest.mark.parametrize(("reply", "status"), [(attached(len(SMALL)), 200), (said(b"", "503 Busy"), 503)])
def test_of_one_buffer_nobody_knows_how_far_into_its_end_it_came(
    ends: Ends, tmp_path: Path, reply: bytes, status: int
) -> None:
    """Whether it counts as stored or as not delivered: an early answer proves neither."""
    (tmp_path / "small").write_bytes(SMALL)
    descriptor = os.open(tmp_path / "small", os.O_RDONLY)
    body = Awaiting([claimed(descriptor)])
    body.answered = threading.Event()

    def hasty(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(reply)
        body.answered.set()
        until_gone(connection)

    with contextlib.closing(os.fdopen(descriptor)), meeting(ends, hasty) as (client, server):
        outcome = client.upload("3", "TEST-1", body, PATIENT)
        after = client.myself("3")

    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.exhausted, outcome.abandoned) == (status, True, True)
    (fate,) = judge(outcome, [Sent("a.txt", len(SMALL))], "TEST-1").fates
    assert isinstance(fate, InDoubt)
    assert (came_to(after), server.connections) == ("200", 2)


# --- No answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\nX: y\r\n\r\n",
    ],
)
def test_what_is_said_meanwhile_is_no_answer(ends: Ends, large: Body, interim: bytes, pieces: int) -> None:
    """1xx: the server reads on, and so is sent on."""
    got = 0

    def encourages(connection: socket.socket) -> None:
        nonlocal got
        read = head_of(connection)
        head, _, begun = read.partition(b"\r\n\r\n")
        for piece in [interim[at : at + 1] for at in range(len(interim))] if pieces > 1 else [interim]:
            connection.sendall(piece)
        got = len(begun)
        while got < int(header(head, "Content-Length")[0]):
            got += len(more(connection))
        connection.sendall(said())
        take(connection)
        connection.sendall(said())

    with meeting(ends, encourages) as (client, server):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        after = client.myself("3")

    assert isinstance(outcome, Reply)
    assert (came_to(outcome), outcome.abandoned, got) == ("200", False, large.length)
    assert (came_to(after), server.connections) == ("200", 1)


def ends_in_order(connection: socket.socket) -> None:
    head_of(connection)
    more(connection)
    if isinstance(connection, ssl.SSLSocket):
        connection = connection.unwrap()
    connection.shutdown(socket.SHUT_WR)
    until_gone(connection)


def only_half_ends(connection: socket.socket) -> None:
    head_of(connection)
    connection.shutdown(socket.SHUT_WR)
    until_gone(connection)


def resets(connection: socket.socket) -> None:
    head_of(connection)
    more(connection)


def ends_in_an_interim_answer(connection: socket.socket) -> None:
    head_of(connection)
    connection.sendall(b"HTTP/1.1 100 Cont")


@pytest.mark.parametrize("act", [ends_in_order, only_half_ends, resets, ends_in_an_interim_answer])
def test_an_end_without_an_answer(ends: Ends, large: Body, act: Act) -> None:
    with meeting(ends, act) as (client, _):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        after = client.myself("3")

    assert isinstance(outcome, Broken)
    assert (came_to(outcome), outcome.ours) == ("sending", None)
    assert came_to(after) == "200"


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 4"])
def test_a_server_that_reads_no_further_without_an_answer(ends: Ends, large: Body, words: bytes) -> None:
    """Over TLS it is readable from the beginning: TLS 1.3 sends tickets."""
    over = threading.Event()

    def stops_reading(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(words)
        over.wait(PATIENT)

    with meeting(ends, stops_reading, stall=SHORT) as (client, _):
        begun = time.monotonic()
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        seconds = time.monotonic() - begun
        over.set()
        after = client.myself("3")

    assert isinstance(outcome, Broken)
    assert came_to(outcome) == "sending"
    assert "Timeout" in outcome.error
    assert SHORT <= seconds < PATIENT
    assert came_to(after) == "200"


# --- Through proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxied", ["http", "https"])
def test_through_a_proxy(ends: Ends, large: Body, authority: Authority, proxied: str) -> None:
    """To Jira in TLS through a tunnel, which may be TLS itself; to a plain one by forwarding."""
    tls = authority.serving() if proxied == "https" else None
    with (
        Server(drains, answering(said()), tls=ends.server) as server,
        Proxy(tls=tls) as proxy,
        calling(
            server.url, tls=authority.context(), proxy=proxy.url, timeouts=replace(TIMEOUTS, stall=STALL)
        ) as client,
    ):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        after = client.myself("3")

    assert (came_to(outcome), came_to(after)) == ("413 early", "200"), after
    assert server.connections == 2


def test_in_tls_within_tls_an_answer_is_seen_at_the_latest_when_a_write_stalls(
    large: Body, authority: Authority
) -> None:
    """A write of httpcore's TLS within TLS cannot be left in the middle."""
    over = threading.Event()

    def stops_reading(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(DECLINED)
        over.wait(PATIENT)

    with (
        Server(stops_reading, tls=authority.serving()) as server,
        Proxy(tls=authority.serving()) as proxy,
        calling(
            server.url, tls=authority.context(), proxy=proxy.url, timeouts=replace(TIMEOUTS, stall=SHORT)
        ) as client,
    ):
        outcome = client.upload("3", "TEST-1", large, PATIENT)
        over.set()

    assert came_to(outcome) == "413 early"


# --- What is an answer ------------------------------------------------------------------------------------------------

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("early", "answer"),
    [
        (b"", False),
        (b"HTTP/1.1 ", False),
        (b"HTTP/1.1 41", False),
        (b"HTTP/1.1 413", True),
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.0 401 Unauthorized\r\n", True),
        (b"HTTP/1.1 101 Switching Protocols\r\n", True),
        (b"HTTP/1.1 100", False),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x", False),
        (CONTINUE, False),
        (CONTINUE + b"HTTP/1.1 2", False),
        (CONTINUE + b"HTTP/1.1 200", True),
        (CONTINUE + b"HTTP/1.1 103 x\r\nA: b\r\nC: d\r\n\r\n", False),
        (CONTINUE + b"HTTP/1.1 103 x\r\nA: HTTP/1.1 413 x\r\n\r\n" + CONTINUE, False),
        (b"HTTP/1.1 100 bare\n\nHTTP/1.1 500 x", True),
        (b"220 mail.example.com", True),
        (CONTINUE * 10_000, True),
        (b"HTTP/1.1 103 x\r\nX: " + b"x" * transport.INTERIM_BYTES, True),
    ],
)
def test_what_begins_an_answer(early: bytes, answer: bool) -> None:
    assert transport.is_answer(early) is answer


def test_nothing_is_lost_of_an_answer_of_any_size(ends: Ends, large: Body) -> None:
    words = b"<html>" + b"x" * (3 * MIB)

    def long(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(said(words, "413 x"))
        until_gone(connection)

    with meeting(ends, long) as (client, _):
        outcome = client.upload("3", "TEST-1", large, PATIENT)

    assert isinstance(outcome, Reply)
    assert (came_to(outcome), outcome.body) == ("413 early", words)
