"""What each request comes to, over real sockets: every fault of the stand-in, TLS, proxies, deadlines.

What an exchange says is held against what the stand-in stored, by way of the verdict: that is what it is for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from attachd.errors import Mistake, Problem
from attachd.jira import transport
from attachd.jira.attachments import Attachment
from attachd.jira.auth import Credentials
from attachd.jira.client import Client
from attachd.jira.contents import Content, Digest, NotYet, Unreadable
from attachd.jira.multipart import Body, Changed, Cut
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.jira.transport import Deadline, Timeouts
from attachd.jira.verdict import Judgement, Sent, judge
from attachd.model import Contested, InDoubt, Misstored, NotDelivered, Refused, Stored
from attachd.standin import Fault, Standin
from attachd.standin.faults import KINDS, POINTS
from attachd.standin.store import Request
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
    credentials,
    header,
    make_authority,
    said,
    take,
    until_gone,
)

# --- Files and certificates -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files lie that are sent."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "small").write_bytes(SMALL)
    (folder / "large").write_bytes(LARGE)
    return folder


@pytest.fixture
def small(folder: Path) -> Iterator[Body]:
    """A body of one buffer."""
    with body_of(folder / "small") as body:
        yield body


@pytest.fixture
def large(folder: Path) -> Iterator[Body]:
    """A body that is streamed."""
    with body_of(folder / "large") as body:
        yield body


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of our own."""
    return make_authority(tmp_path_factory.mktemp("authority"))


# --- What is sent ---------------------------------------------------------------------------------------------------


def test_an_upload_says_what_jira_wants_to_hear(small: Body) -> None:
    seen: list[bytes] = []
    with Server(answering(said(), seen=seen)) as server, calling(server.url) as client:
        client.upload("3", "TEST-1", small, PATIENT)

    (head,) = seen
    assert head.startswith(b"POST /rest/api/3/issue/TEST-1/attachments HTTP/1.1\r\n")
    assert header(head, "X-Atlassian-Token") == ["no-check"]
    assert header(head, "Accept") == ["application/json"]
    assert header(head, "User-Agent") == ["attachd/test"]
    assert header(head, "Content-Type") == [small.content_type]
    assert header(head, "Content-Length") == [str(small.length)]
    assert header(head, "Transfer-Encoding") == header(head, "Expect") == []
    assert header(head, "Host") == [f"127.0.0.1:{server.port}"]
    assert len(header(head, "Authorization")) == 1


@pytest.mark.parametrize(
    ("call", "target"),
    [
        (lambda client: client.listing("2", "TEST-1"), "/rest/api/2/issue/TEST-1?fields=attachment"),
        (lambda client: client.issue("3", "TEST-1"), "/rest/api/3/issue/TEST-1?fields=summary"),
        (
            lambda client: client.permissions("3", project="A&B"),
            "/rest/api/3/mypermissions?permissions=BROWSE_PROJECTS,CREATE_ATTACHMENTS&projectKey=A%26B",
        ),
        (lambda client: client.certificate(), "/rest/api/2/serverInfo"),
        (lambda client: client.myself("3"), "/rest/api/3/myself"),
        (lambda client: client.server_info(), "/rest/api/2/serverInfo"),
        (lambda client: client.attachment_meta("2"), "/rest/api/2/attachment/meta"),
        (
            lambda client: client.content("3", Attachment("10/1", "a.txt", 2, None, None), PATIENT),
            "/rest/api/3/attachment/content/10%2F1?redirect=false",
        ),
        (
            lambda client: client.content("2", Attachment("10/1", "ä/b ?.txt", 2, None, None), PATIENT),
            "/secure/attachment/10%2F1/%C3%A4%2Fb%20%3F.txt",
        ),
    ],
)
@pytest.mark.parametrize("base", ["", "/jira", "/ex/jira/00000000-0000-4000-8000-00000000000c"])
def test_the_other_calls(call: Callable[[Client], object], target: str, base: str) -> None:
    seen: list[bytes] = []
    with Server(answering(said(), seen=seen)) as server, calling(server.url + base) as client:
        call(client)

    (head,) = seen
    assert head.startswith(f"GET {base}{target} HTTP/1.1\r\n".encode())
    assert header(head, "Accept") == ["application/json"]
    assert header(head, "User-Agent") == ["attachd/test"]


@pytest.mark.parametrize("key", ["TEST-1", "A/B-1", "A?x=1#y-1", "A%2FB-1", "Ä-1", "A B-1", "A;B-1", 'A"B-1', "a\r\nb"])
def test_a_key_is_percent_encoded(small: Body, key: str) -> None:
    seen: list[bytes] = []
    with Server(answering(said(), said(), seen=seen)) as server, calling(server.url) as client:
        client.upload("3", key, small, PATIENT)
        client.listing("3", key)

    targets = [head.split(b" ")[1].decode() for head in seen]
    encoded = f"/rest/api/3/issue/{quote(key, safe='')}"
    assert targets == [f"{encoded}/attachments", f"{encoded}?fields=attachment"]


@pytest.mark.parametrize("base", ["/jira", "/ex/jira/00000000-0000-4000-8000-00000000000c"])
def test_a_base_path_survives(tmp_path: Path, small: Body, base: str) -> None:
    with Standin(tmp_path / "jira", issues=["TEST-1"], base_path=base) as jira, calling(jira.url) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"
        assert came_to(client.listing("3", "TEST-1")) == "200"
        assert len(jira.store.attachments("TEST-1")) == 1


def test_who_asks_is_said_anew_with_each_request() -> None:
    tokens = ["old", "new"]
    who = Credentials("bearer", "", lambda: tokens[0])
    seen: list[bytes] = []
    with Server(answering(said(), said(), seen=seen)) as server, calling(server.url, who=who) as client:
        client.myself("2")
        del tokens[0]
        who.reload()
        client.myself("2")

    assert [header(head, "Authorization") for head in seen] == [["Bearer old"], ["Bearer new"]]


def test_a_token_that_cannot_be_read_is_the_users_mistake() -> None:
    def unreadable() -> str:
        raise Mistake(Problem("jira.auth.token", "cannot be read."))

    seen: list[bytes] = []
    with Server(answering(said(), seen=seen)) as server:
        with calling(server.url, who=Credentials("bearer", "", unreadable)) as client, pytest.raises(Mistake):
            client.myself("2")
        with calling(server.url) as client:
            client.myself("2")

    assert len(seen) == 1


# --- What is not ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that would lead every request, and somebody's password, elsewhere."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("who", [credentials(), Credentials("anonymous", "", None)])
def test_the_environment_has_no_say(small: Body, who: Credentials) -> None:
    seen: list[bytes] = []
    with Server(answering(said(), said(), seen=seen)) as server, calling(server.url, who=who) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"
        assert came_to(client.myself("3")) == "200"

    expected = [] if who.anonymous else [who.header()]
    assert [header(head, "Authorization") for head in seen] == [expected, expected]


@pytest.mark.parametrize("status", ["301 x", "302 Found", "303 x", "307 x", "308 x"])
def test_no_redirect_is_followed(small: Body, status: str) -> None:
    with Server(until_gone) as elsewhere:
        there = said(b"", status, f"Location: {elsewhere.url}/login")
        with Server(answering(there, there)) as server, calling(server.url) as client:
            upload = client.upload("3", "TEST-1", small, PATIENT)
            listing = client.listing("3", "TEST-1")

    for outcome in (upload, listing):
        assert isinstance(outcome, Reply)
        assert (outcome.status, outcome.header("Location")) == (int(status[:3]), f"{elsewhere.url}/login")
    assert elsewhere.connections == 0


# --- Every fault of the stand-in ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A fault, and what it may come to for a small and for a large body; "/" stands between what a race decides."""

    fault: Fault
    small: str
    large: str
    hasty: bool = False  #: the reply gets, and writes stall for, a short time only


def cut(kind: str, point: str, small: str, large: str, count: int = 100) -> Case:
    return Case(Fault(kind, point=point, bytes=count), small, large, kind == "stall")


HTML = {"content_type": "text/html"}
CASES = [
    Case(Fault("status", status=500, body="trouble"), "500", "500"),
    Case(Fault("status", status=413, early=True), "413", "413 early"),
    Case(Fault("status", status=413, early=True, stall=True), "413", "413 early"),
    # A reset is seen at the next write, and the first one of a small body may be its only one.
    cut("reset", "accept", "reply/connecting", "sending/connecting"),
    cut("reset", "headers", "reply/connecting", "sending/connecting"),
    # The stand-in swallows what still comes after an orderly end, and a large body is not sent on then.
    cut("close", "accept", "reply", "sending"),
    cut("close", "headers", "reply", "sending"),
    cut("reset", "body", "reply", "sending"),
    cut("close", "body", "reply", "sending"),
    cut("stall", "body", "reply", "sending"),
    *(cut(kind, point, "reply", "reply") for kind in ("reset", "close") for point in ("last-byte", "reply", "reply-head")),
    *(cut(kind, "reply-body", "200 cut", "200 cut") for kind in ("reset", "close")),
    *(cut("stall", point, "reply", "reply") for point in ("reply-none", "reply-before")),
    Case(Fault("late", status=None, delay=0.05), "reply", "reply"),
    Case(Fault("late", status=504, delay=0.05), "504", "504"),
    Case(Fault("slow", delay=0.05), "200", "200"),
    Case(Fault("trickle", delay=0.0), "200", "200"),
    Case(Fault("trickle", delay=0.2), "reply", "reply", hasty=True),
    *(
        Case(Fault(kind), "200", "200")
        for kind in (
            "html200", "empty200", "emptylist200", "nojson200", "noids200", "wrongsize200", "login200", "object200",
            "shuffle200", "rename", "twice",
        )
    ),
    Case(Fault("captcha"), "403", "403"),
    Case(Fault("xsrf"), "403", "403"),
    Case(Fault("unauthorized"), "401", "401"),
    Case(Fault("scope"), "401", "401"),
    Case(Fault("redirect"), "302", "302"),
    Case(Fault("proxy413"), "413", "413"),
    Case(Fault("ratelimit"), "429", "429"),
    Case(Fault("half"), "400", "400"),
    Case(Fault("half", status=None), "reply", "reply"),
    Case(Fault("reset", commit=False), "reply", "reply"),
    Case(Fault("status", status=500, commit=True), "500", "500"),
]  # fmt: skip


def test_no_kind_and_no_point_is_left_out() -> None:
    assert {case.fault.kind for case in CASES} == set(KINDS)
    assert {case.fault.point for case in CASES if case.fault.kind in ("reset", "close", "stall")} == set(POINTS)


def named(case: Case) -> str:
    fault = case.fault
    return "-".join(map(str, filter(None, [fault.kind, fault.point != "reply" and fault.point, fault.status])))


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    """A site with one issue."""
    with Standin(tmp_path / "jira", issues=["TEST-1"], page=False) as jira:
        yield jira


@pytest.fixture
def secured(tmp_path: Path, authority: Authority) -> Iterator[Standin]:
    """The same, over TLS."""
    with Standin(tmp_path / "jira", issues=["TEST-1"], page=False, tls=authority.server) as jira:
        yield jira


def held(jira: Standin, case: Case, body: Body, expected: str, tls: ssl.SSLContext | None = None) -> None:
    """Upload against a fault; hold the outcome, its verdict and the next request against what the stand-in says."""
    jira.faults.add(case.fault)
    timeouts = replace(TIMEOUTS, stall=SHORT) if case.hasty else TIMEOUTS
    with calling(jira.url, timeouts=timeouts, tls=tls) as client:
        outcome = client.upload("3", "TEST-1", body, SHORT if case.hasty else PATIENT)
        after = client.myself("3")

    assert came_to(outcome) in expected.split("/"), outcome
    assert came_to(after) == "200"
    struck = settled(jira, case.fault)
    assert isinstance(outcome, Broken) or outcome.header("date")
    consistent(judge(outcome, [Sent(part.name, part.size) for part in body.parts], "TEST-1"), jira, struck)


def settled(jira: Standin, fault: Fault) -> Request:
    """The request that was struck, when nothing more will become of it."""
    if fault.kind == "stall" or fault.stall:
        # Whether the client has gone it may never learn, while it reads nothing.
        assert jira.log.wait(lambda log: bool(log[0].committed) is fault.stores, PATIENT)
        return jira.requests[0]
    assert jira.log.wait(lambda log: all(request.ended for request in log), PATIENT)
    (struck,) = [request for request in jira.requests if request.fault]
    if fault.kind == "late":
        assert jira.log.wait(lambda log: bool(struck.committed), PATIENT)
    return struck


def consistent(judged: Judgement, jira: Standin, struck: Request) -> None:
    """What is said to be stored is; of what is said not to be, nothing is."""
    for fate in judged.fates:
        match fate:
            case Stored() | Misstored():
                assert fate.attachment in struck.committed
                assert jira.store.attachment(fate.attachment) is not None
            case NotDelivered() | Refused() | Contested():
                assert struck.committed == []
            case InDoubt():
                pass
    assert sorted(struck.committed) == sorted(one.id for one in jira.store.all_attachments())


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_small_file_meets(jira: Standin, small: Body, case: Case) -> None:
    held(jira, case, small, case.small)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_large_file_meets(jira: Standin, large: Body, case: Case) -> None:
    held(jira, case, large, case.large)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_over_tls_a_small_file_meets(secured: Standin, authority: Authority, small: Body, case: Case) -> None:
    held(secured, case, small, case.small, authority.context())


MAIN = [
    case
    for case in CASES
    if case.large in ("sending", "413", "413 early") or case.fault.kind in ("reset", "close", "trickle")
]


@pytest.mark.parametrize("case", MAIN, ids=named)
def test_over_tls_a_large_file_meets(secured: Standin, authority: Authority, large: Body, case: Case) -> None:
    held(secured, case, large, case.large, authority.context())


@pytest.mark.parametrize("case", [case for case in CASES if not case.hasty], ids=named)
def test_several_files_meet(jira: Standin, folder: Path, case: Case) -> None:
    with body_of(folder / "small", "a.txt", "b.txt", "c.txt") as body:
        held(jira, case, body, case.small)


def test_a_file_without_any_fault(jira: Standin, small: Body, large: Body) -> None:
    with calling(jira.url) as client:
        for body, content in ((small, SMALL), (large, LARGE)):
            outcome = client.upload("3", "TEST-1", body, PATIENT)
            assert isinstance(outcome, Reply)
            (fate,) = judge(outcome, [Sent("a.txt", len(content))], "TEST-1").fates
            assert isinstance(fate, Stored)
            stored = jira.store.attachment(fate.attachment)
            assert stored is not None
            assert stored.sha256 == hashlib.sha256(content).hexdigest() == body.checksums[0].hex()


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_connection_that_is_cut_as_it_is_made(jira: Standin, small: Body, large: Body, kind: str) -> None:
    for body in (small, large):
        jira.faults.add(Fault(kind, where="any", point="accept"))
        with calling(jira.url) as client:
            assert isinstance(client.upload("3", "TEST-1", body, PATIENT), Broken)
            assert came_to(client.myself("3")) == "200"

    assert jira.store.all_attachments() == []


# --- What an answer is ----------------------------------------------------------------------------------------------


def asked(reply: bytes, act: Act | None = None) -> Exchange:
    """What a harmless question comes to that is answered so."""
    with Server(act or answering(reply)) as server, calling(server.url) as client:
        return client.myself("3")


def test_a_reply_as_it_came() -> None:
    outcome = asked(said(b'{"a": 1}', "200 OK", "X-One: 1", "x-two: a", "X-TWO: b", "X-Odd: caf\xe9"))

    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.body, outcome.whole, outcome.exhausted) == (200, b'{"a": 1}', True, True)
    assert (outcome.header("X-One"), outcome.header("x-two"), outcome.header("missing")) == ("1", "a, b", "")
    assert outcome.header("x-odd") == "caf\xe9"
    assert outcome.json == {"a": 1}


def test_what_comes_before_a_reply_is_none() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

    assert came_to(asked(early + said())) == "200"


@pytest.mark.parametrize("status", [204, 304, 418, 599, 600, 999])
def test_any_status(status: int) -> None:
    assert came_to(asked(f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n".encode())) == str(status)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x1b[31m nonsense \x00\r\n\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        # What begins with 1 is followed by the reply itself, but for 101, which nobody asked for.
        b"HTTP/1.1 199 x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_reply(reply: bytes) -> None:
    outcome = asked(reply)

    assert came_to(outcome) == "reply"
    assert isinstance(outcome, Broken)
    assert outcome.error.isprintable()
    assert 0 < len(outcome.error) < 600


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 500 x\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        said(b"not packed", "500 x", "Content-Encoding: gzip"),
        said(b"x" * 2000, "500 x"),
    ],
)
def test_a_status_counts_whatever_becomes_of_its_body(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REPLY_BYTES", 1000)
    outcome = asked(reply)

    assert came_to(outcome) == "500 cut"
    assert isinstance(outcome, Reply)
    assert outcome.json is None


# --- Deadlines ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port where connections are accepted by the kernel, and by nobody else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def took(call: Callable[[], Exchange]) -> tuple[str, float]:
    begun = time.monotonic()
    outcome = came_to(call())
    return outcome, time.monotonic() - begun


def test_a_server_that_says_nothing(small: Body) -> None:
    with silent() as port, calling(f"http://127.0.0.1:{port}", timeouts=replace(TIMEOUTS, reply=SHORT)) as client:
        upload, seconds = took(lambda: client.upload("3", "TEST-1", small, SHORT))
        listing, _ = took(lambda: client.listing("3", "TEST-1"))

    assert (upload, listing) == ("reply", "reply")
    assert SHORT <= seconds < PATIENT / 2


def test_a_handshake_that_is_not_answered(small: Body) -> None:
    with silent() as port, calling(f"https://127.0.0.1:{port}", timeouts=replace(TIMEOUTS, connect=SHORT)) as client:
        outcome, seconds = took(lambda: client.upload("3", "TEST-1", small, PATIENT))

    assert outcome == "connecting"
    assert SHORT <= seconds < PATIENT / 2


def test_a_body_that_is_not_read(large: Body) -> None:
    with silent() as port, calling(f"http://127.0.0.1:{port}", timeouts=replace(TIMEOUTS, stall=SHORT)) as client:
        outcome, seconds = took(lambda: client.upload("3", "TEST-1", large, PATIENT))

    assert outcome == "sending"
    assert SHORT <= seconds < PATIENT / 2


def trickling(first: bytes) -> Act:
    """Answer without end: a byte, and soon another, which no time-out of a single read notices."""

    def act(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(first)
        while True:
            connection.sendall(b"x")
            time.sleep(SHORT / 10)

    return act


@pytest.mark.parametrize(
    ("first", "outcome"), [(b"HTTP/1.1 200 OK\r\nX-Endless: ", "reply"), (b"HTTP/1.1 200 OK\r\n\r\n", "200 cut")]
)
def test_an_answer_that_never_ends(small: Body, first: bytes, outcome: str) -> None:
    with (
        Server(trickling(first), trickling(first)) as server,
        calling(server.url, timeouts=replace(TIMEOUTS, reply=SHORT)) as client,
    ):
        upload, seconds = took(lambda: client.upload("3", "TEST-1", small, SHORT))
        listing, _ = took(lambda: client.listing("3", "TEST-1"))

    assert (upload, listing) == (outcome, outcome)
    assert SHORT <= seconds < PATIENT / 2


def test_a_reply_has_its_time_from_the_last_byte_on(large: Body) -> None:
    """However long the body took, as long as no single write stalls."""

    def slowly(connection: socket.socket) -> None:
        connection.recv(65536)
        time.sleep(2 * SHORT)
        until_idle(connection, large.length)
        connection.sendall(said())

    with Server(slowly) as server, calling(server.url) as client:
        outcome, seconds = took(lambda: client.upload("3", "TEST-1", large, SHORT))

    assert outcome == "200"
    assert seconds > 2 * SHORT


def until_idle(connection: socket.socket, length: int) -> None:
    """Take the rest of a request of which not more than 64 KiB were read: *length* bytes of body, and its head."""
    left = length - 65536
    while left > 0:
        left -= len(connection.recv(MIB))


# --- Proxies --------------------------------------------------------------------------------------------------------


def test_a_proxy_is_used(jira: Standin, small: Body) -> None:
    with Proxy() as proxy, calling(jira.url, proxy=proxy.url) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"

    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [
        f"POST {jira.url}/rest/api/3/issue/TEST-1/attachments HTTP/1.1".encode()
    ]
    assert len(jira.store.all_attachments()) == 1


@pytest.mark.parametrize("spoken_to_in_tls", [False, True])
def test_through_a_proxy_tls_is_with_jira_alone(
    secured: Standin, authority: Authority, small: Body, large: Body, spoken_to_in_tls: bool
) -> None:
    tls = authority.serving() if spoken_to_in_tls else None
    with Proxy(tls=tls) as proxy, calling(secured.url, proxy=proxy.url, tls=authority.context()) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"
        assert came_to(client.upload("3", "TEST-1", large, PATIENT)) == "200"

    (head,) = proxy.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{secured.port} HTTP/1.1\r\n".encode())
    assert header(head, "Authorization") == header(head, "X-Atlassian-Token") == []
    assert [one.size for one in secured.store.all_attachments()] == [len(SMALL), len(LARGE)]


def test_a_proxy_of_an_unknown_authority_is_not_trusted(authority: Authority, small: Body) -> None:
    with Proxy(tls=authority.serving()) as proxy, calling("https://127.0.0.1:1", proxy=proxy.url) as client:
        outcome = client.upload("3", "TEST-1", small, PATIENT)

    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.certificate) == (Stage.CONNECTING, True)
    assert proxy.heads == []


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses(small: Body, status: str) -> None:
    with (
        Server(answering(said(b"no", status))) as proxy,
        calling("https://jira.invalid", proxy=proxy.url) as client,
    ):
        outcome = client.upload("3", "TEST-1", small, PATIENT)

    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.certificate) == (Stage.CONNECTING, False)
    assert status in outcome.error


def test_a_proxy_that_hangs_up(small: Body) -> None:
    with Server(lambda connection: None) as proxy, calling("https://jira.invalid", proxy=proxy.url) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "connecting"


def test_a_proxy_that_says_nothing(small: Body) -> None:
    """What the reply to a large file may take is no time to wait for a proxy."""
    timeouts = replace(TIMEOUTS, connect=SHORT)
    with (
        silent() as port,
        calling("https://jira.invalid", timeouts=timeouts, proxy=f"http://127.0.0.1:{port}") as client,
    ):
        outcome, seconds = took(lambda: client.upload("3", "TEST-1", small, PATIENT))

    assert outcome == "connecting"
    assert SHORT <= seconds < PATIENT / 2


def test_a_proxy_that_is_not_there(small: Body) -> None:
    with calling("https://jira.invalid", proxy="http://127.0.0.1:1") as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "connecting"


# --- Certificates ---------------------------------------------------------------------------------------------------


def refused_certificate(outcome: Exchange) -> bool:
    assert isinstance(outcome, Broken)
    assert outcome.stage is Stage.CONNECTING
    return outcome.certificate


def test_an_authority_of_ones_own(secured: Standin, authority: Authority, small: Body) -> None:
    with calling(secured.url, tls=authority.context()) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"
    with calling(secured.url) as client:
        assert refused_certificate(client.upload("3", "TEST-1", small, PATIENT))

    assert len(secured.store.all_attachments()) == 1


def test_a_certificate_of_another_name(secured: Standin, authority: Authority, small: Body) -> None:
    url = secured.url.replace("127.0.0.1", "localhost")
    with calling(url, tls=authority.context()) as client:
        assert refused_certificate(client.upload("3", "TEST-1", small, PATIENT))


def test_tls_where_none_is_spoken_is_no_fault_of_a_certificate(jira: Standin, small: Body) -> None:
    with calling(jira.url.replace("http:", "https:")) as client:
        assert not refused_certificate(client.upload("3", "TEST-1", small, PATIENT))


def hang_up(connection: socket.socket) -> None:
    """With the client's bytes unread: a reset."""


def hang_up_in_order(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.shutdown(socket.SHUT_WR)
    until_gone(connection)


@pytest.mark.parametrize("act", [hang_up, hang_up_in_order])
def test_a_handshake_that_is_cut_is_no_fault_of_a_certificate(small: Body, act: Act) -> None:
    with Server(act) as server, calling(server.url.replace("http:", "https:")) as client:
        assert not refused_certificate(client.upload("3", "TEST-1", small, PATIENT))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://jira.invalid"])
def test_nobody_there(small: Body, url: str) -> None:
    with calling(url) as client:
        assert not refused_certificate(client.upload("3", "TEST-1", small, PATIENT))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown_where_it_is_asked_for(
    authority: Authority, small: Body, version: ssl.TLSVersion
) -> None:
    server = Server(answering(said()), tls=authority.serving(asks=True, at_most=version))
    with server, calling(server.url, tls=authority.context(with_client=True)) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"


def test_a_client_certificate_that_is_missing_is_named(authority: Authority, small: Body) -> None:
    """TLS 1.3: the server's refusal comes when the client has already sent."""
    seen: list[bytes] = []
    act = answering(said(), seen=seen)
    server = Server(act, act, tls=authority.serving(asks=True))
    with server, calling(server.url, tls=authority.context()) as client:
        question, upload = client.myself("3"), client.upload("3", "TEST-1", small, PATIENT)

    for outcome in (question, upload):
        assert isinstance(outcome, Broken)
        assert outcome.certificate
        assert "alert" in outcome.error
    assert seen == []


# --- One connection, used again -------------------------------------------------------------------------------------


def test_a_connection_is_kept(small: Body, large: Body) -> None:
    with Server(answering(*[said()] * 4)) as server, calling(server.url) as client:
        found = [
            came_to(client.upload("3", "TEST-1", small, PATIENT)),
            came_to(client.listing("3", "TEST-1")),
            came_to(client.upload("3", "TEST-1", large, PATIENT)),
            came_to(client.myself("3")),
        ]

    assert found == ["200"] * 4
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_not_used_again(small: Body) -> None:
    with Server(answering(said()), answering(said())) as server, calling(server.url) as client:
        first = came_to(client.upload("3", "TEST-1", small, PATIENT))
        assert server.closed.acquire(timeout=PATIENT)
        second = came_to(client.upload("3", "TEST-1", small, PATIENT))

    assert (first, second) == ("200", "200")
    assert server.connections == 2


def test_a_server_that_was_started_anew(jira: Standin, small: Body) -> None:
    with calling(jira.url) as client:
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"
        jira.restart()
        assert came_to(client.upload("3", "TEST-1", small, PATIENT)) == "200"

    assert len(jira.store.all_attachments()) == 2


def test_a_connection_that_was_idle_for_long_is_not_used_again(small: Body, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_SECONDS", 0.0)
    act = answering(said(), said())
    with Server(act, act) as server, calling(server.url) as client:
        assert [came_to(client.myself("3")) for _ in range(2)] == ["200", "200"]

    assert server.connections == 2


# --- What goes wrong on our side ------------------------------------------------------------------------------------


def stopped(body: Body, error: Exception) -> Body:
    """The same parts, failing before the closing boundary."""

    def fail(_: Sequence[bytes]) -> None:
        raise error

    return Body(body.parts, fail)


@pytest.mark.parametrize("error", [Changed("it has shrunk"), Cut("stopping"), OSError(5, "Input/output error")])
def test_a_body_that_we_end(jira: Standin, large: Body, error: Exception) -> None:
    with calling(jira.url) as client:
        outcome = client.upload("3", "TEST-1", stopped(large, error), PATIENT)
        assert came_to(client.upload("3", "TEST-1", large, PATIENT)) == "200"

    assert isinstance(outcome, Broken)
    assert (outcome.stage, outcome.ours) == (Stage.SENDING, error)
    assert jira.log.wait(lambda log: all(request.ended for request in log), PATIENT)
    assert [len(request.committed) for request in jira.requests] == [0, 1]


def test_a_bug_or_a_fault_of_the_journal_is_raised_and_nothing_is_stored(jira: Standin, large: Body) -> None:
    with calling(jira.url) as client:
        with pytest.raises(ZeroDivisionError):
            client.upload("3", "TEST-1", stopped(large, ZeroDivisionError()), PATIENT)
        assert came_to(client.upload("3", "TEST-1", large, PATIENT)) == "200"

    assert jira.log.wait(lambda log: all(request.ended for request in log), PATIENT)
    assert [len(request.committed) for request in jira.requests] == [0, 1]


class Failing(httpx.BaseTransport):
    """Takes a request whole, and fails in a way that no httpx error stands for."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        assert len(b"".join(request.stream)) == int(request.headers.get("content-length", 0))
        raise OSError(5, "Input/output error")


def test_an_error_behind_the_body_is_not_the_files(small: Body, large: Body) -> None:
    client = Client(
        "http://jira.invalid", credentials(), Failing(), timeouts=TIMEOUTS, deadline=Deadline(), user_agent="x"
    )
    outcomes = [client.upload("3", "TEST-1", small, PATIENT), client.upload("3", "TEST-1", large, PATIENT)]
    outcomes.append(client.myself("3"))
    client.close()

    assert outcomes == [Broken(Stage.REPLY, "[Errno 5] Input/output error")] * 3


def test_a_body_that_found_nobody_is_sent_anew(jira: Standin, small: Body, large: Body) -> None:
    for body in (small, large):
        with calling("http://127.0.0.1:1") as client:
            assert came_to(client.upload("3", "TEST-1", body, PATIENT)) == "connecting"
        assert not body.begun
        with calling(jira.url) as client:
            assert came_to(client.upload("3", "TEST-1", body, PATIENT)) == "200"

    assert [one.size for one in jira.store.all_attachments()] == [len(SMALL), len(LARGE)]


def test_a_file_that_shrinks_under_way(jira: Standin, tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(LARGE)

    def shrink() -> bool:
        os.truncate(path, MIB)
        return False

    descriptor = os.open(path, os.O_RDONLY)
    try:
        with calling(jira.url) as client:
            outcome = client.upload("3", "TEST-1", Body([claimed(descriptor)], cut=shrink), PATIENT)
            assert came_to(client.myself("3")) == "200"
    finally:
        os.close(descriptor)

    assert isinstance(outcome, Broken)
    assert outcome.stage is Stage.SENDING
    assert isinstance(outcome.ours, Changed)
    assert jira.store.all_attachments() == []


def test_memory_is_flat(tmp_path: Path) -> None:
    """256 MiB are sent with a few pieces of them in memory at a time."""
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 256 * MIB)

    def drain(connection: socket.socket) -> None:
        buffer = bytearray(MIB)
        head = connection.recv(4096, socket.MSG_PEEK).partition(b"\r\n\r\n")[0]
        left = len(head) + 4 + int(header(head, "Content-Length")[0])
        while left:
            left -= connection.recv_into(buffer)
        connection.sendall(said())

    with body_of(path) as body, Server(drain) as server, calling(server.url) as client:
        tracemalloc.start()
        try:
            outcome = came_to(client.upload("3", "TEST-1", body, PATIENT))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert outcome == "200"
    assert body.sent > 256 * MIB
    assert peak < 8 * MIB


# --- What an attachment holds ---------------------------------------------------------------------------------------


def read(client: Client, number: str, size: int, version: str = "3") -> Content:
    return client.content(version, Attachment(number, "a.bin", size, None, None), PATIENT)


NOT_LOGGED_IN = {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
LOGIN = {"location": "/login.jsp?permissionViolation=true"}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("status", status=302, headers=LOGIN), (Unreadable, True)),
        (Fault("status", status=401), (Unreadable, True)),
        (Fault("status", status=403), (Unreadable, True)),
        (Fault("html200"), (Unreadable, True)),
        (Fault("status", status=200, body="content", headers=NOT_LOGGED_IN), (Unreadable, True)),
        (Fault("status", status=404), (Unreadable, False)),
        (Fault("status", status=429), (NotYet, None)),
        (Fault("status", status=500), (NotYet, None)),
        (Fault("status", status=503), (NotYet, None)),
        (Fault("status", status=200, body="short"), (NotYet, None)),
        (Fault("reset"), (NotYet, None)),
        (Fault("reset", point="reply-body", bytes=3), (NotYet, None)),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)  # fmt: skip
def test_what_data_center_answers_in_the_place_of_a_content(
    tmp_path: Path, fault: Fault, expected: tuple[type, bool | None]
) -> None:
    """A login is for ever, an outage passes, and a 404 is about one attachment."""
    with Standin(tmp_path, page=False, issues=["TEST-1"], deployment="Server") as jira:
        attachment = jira.store.attach("TEST-1", "a.bin", b"content")
        jira.faults.add(replace(fault, where="content"))
        with calling(jira.url) as client:
            found = read(client, attachment.id, 7, "2")
            then = read(client, attachment.id, 7, "2")

    assert (type(found), getattr(found, "everywhere", None)) == expected
    assert then == Digest(hashlib.sha256(b"content").digest())


def test_the_checksum_of_an_attachment(jira: Standin) -> None:
    attachments = {content: jira.store.attach("TEST-1", "a.bin", content) for content in (b"", b"content", LARGE)}

    with calling(jira.url) as client:
        found = {content: read(client, it.id, it.size) for content, it in attachments.items()}

    assert found == {content: Digest(hashlib.sha256(content).digest()) for content in attachments}
    assert {request.query for request in jira.requests} == {"redirect=false"}


@pytest.mark.parametrize("difference", [-1, 1])
def test_the_checksum_of_an_attachment_of_another_size_is_not_known(jira: Standin, difference: int) -> None:
    attachment = jira.store.attach("TEST-1", "a.bin", b"content")

    with calling(jira.url) as client:
        assert isinstance(read(client, attachment.id, attachment.size + difference), NotYet)
        assert came_to(client.myself("3")) == "200"


def test_an_attachment_that_is_too_large_is_not_read_to_its_end() -> None:
    to_the_end = False

    def act(connection: socket.socket) -> None:
        nonlocal to_the_end
        take(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            connection.sendall(bytes(MIB))
        to_the_end = True

    with Server(act) as server, calling(server.url) as client:
        assert isinstance(read(client, "1", 100_000), NotYet)

    assert server.connections == 1
    assert not to_the_end


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=404),
        Fault("status", status=503),
        Fault("redirect"),
        Fault("html200"),
        Fault("reset"),
        Fault("reset", point="headers"),
        Fault("close", point="reply-body", bytes=3),
        Fault("reset", point="reply-body", bytes=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.point}",
)
def test_a_checksum_that_cannot_be_had(jira: Standin, fault: Fault) -> None:
    attachment = jira.store.attach("TEST-1", "a.bin", b"content")
    jira.faults.add(replace(fault, where="content"))

    with calling(jira.url) as client:
        assert isinstance(read(client, attachment.id, 7), NotYet)
        assert read(client, attachment.id, 7) == Digest(hashlib.sha256(b"content").digest())


def test_a_download_that_never_ends() -> None:
    with Server(trickling(b"HTTP/1.1 200 OK\r\n\r\n")) as server, calling(server.url) as client:
        begun = time.monotonic()
        assert isinstance(client.content("3", Attachment("1", "a.bin", 10**9, None, None), SHORT), NotYet)

    assert SHORT <= time.monotonic() - begun < PATIENT / 2


def test_no_other_host_sees_who_we_are() -> None:
    with Server(until_gone) as elsewhere:
        there = said(b"", "303 See Other", f"Location: {elsewhere.url}/file")
        with Server(answering(there)) as server, calling(server.url) as client:
            assert isinstance(read(client, "1", 7), NotYet)

    assert elsewhere.connections == 0


def test_a_session_of_the_server_is_never_sent_back() -> None:
    """With its cookie an account would look alive after its token had ended."""
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, json={}, headers={"set-cookie": "JSESSIONID=1; Path=/"})

    limits = Timeouts(1.0, 1.0, 1.0)
    made = Client(
        "https://jira.example.com",
        Credentials("anonymous", "", None),
        httpx.MockTransport(answer),
        timeouts=limits,
        deadline=Deadline(),
        user_agent="test",
    )
    with contextlib.closing(made):
        made.myself("3")
        made.myself("3")

    assert seen == [None, None]
