"""The web page over real sockets: who may see it, what it shows, and what its buttons do."""

from __future__ import annotations

import errno
import functools
import html
import json
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from attachd.delivery import pause
from attachd.journal import lookup
from attachd.model import Cure, Scope
from attachd.model import Fault as Trouble
from attachd.report import health, share_texts, share_writer, status, status_text
from attachd.service.engine import Engine
from attachd.web import server as serving_module
from attachd.web import token as web_token
from attachd.web.access import Gate
from attachd.web.server import PageServer
from attachd.web.view import Sums
from memory_jira import World, world
from waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A world whose page is served, and a browser that keeps cookies."""

    def __init__(self, w: World, serving: PageServer, client: httpx.Client) -> None:
        self.w, self.serving, self.client = w, serving, client

    @property
    def token(self) -> str:
        found = web_token.read(self.w.home / "state")
        assert found
        return found

    def sign_in(self) -> None:
        assert self.client.get(f"/?token={self.token}", follow_redirects=True).status_code == 200

    def page(self, path: str = "/") -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def words(self, path: str = "/") -> str:
        """What a person reads."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", self.page(path))).split())

    def press(self, action: str, **fields: str) -> httpx.Response:
        form = re.search(r'name="form" value="([0-9a-f]+)"', self.page())
        assert form
        origin = str(self.client.base_url).rstrip("/")
        return self.client.post(f"/{action}", data={"form": form[1], **fields}, headers={"Origin": origin})

    def press_and_read(self, action: str, **fields: str) -> str:
        answer = self.press(action, **fields)
        assert answer.status_code == 303, answer.text
        return self.words("/" + answer.headers["location"].removeprefix("./"))


def served(home: Path, listen: str, **tables: Any) -> Iterator[Site]:
    structlog.reset_defaults()
    with world(home, web={"listen": listen, "hosts": ["drop.example.com"]}, **tables) as w:
        serving = PageServer(Engine(w.held), w.home / "state")
        serving.start()
        if listen.startswith("unix:"):
            path = listen.removeprefix("unix:")
            client = httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost")
        else:
            client = httpx.Client(base_url=f"http://{listen}")
        wait_until(lambda: _answers(client))
        try:
            yield Site(w, serving, client)
        finally:
            client.close()
            serving.stop()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    quick = {"quiet_seconds": 0.0, "quiet_seconds_unproven": 0.0, "empty_seconds": 30.0}
    yield from served(tmp_path, f"127.0.0.1:{free_port()}", settle=quick)


@pytest.fixture
def on_socket(tmp_path: Path) -> Iterator[Site]:
    yield from served(tmp_path, f"unix:{tmp_path}/web.sock")


# --- A fuse that is blown ---------------------------------------------------------------------------------------


def test_a_blown_fuse_is_told_by_everything_that_tells_of_pauses(site: Site) -> None:
    """Nothing is filed as refused for it, so that silence would look like files that wait their turn."""
    w = site.w
    w.jira.missing |= {"BAD-1", "BAD-2", "BAD-3", "BAD-4"}
    for issue in sorted(w.jira.missing):
        w.drop(f"{issue}/x.txt", issue.encode())
    w.deliver()

    found = status.collect(w.runtime.config, w.home / "state", w.runtime.reader, w.clock.now())
    (held,) = found["pauses"]
    assert (held["scope"], held["kind"], held["ends_by"], held["until"]) == ("account", "fuse", "hand", None)
    assert held["reason"].startswith("4 issues (BAD-1, BAD-2, BAD-3 and 1 more) were refused with the same error")
    assert "(Issue does not exist" in held["reason"]
    assert [row["next"] for row in found["waiting_for"]] == [None] * 4
    assert any(
        line.startswith("paused     until `attachd resume`: 4 issues (") for line in status_text.lines(found, 0.0)
    )
    assert site.client.get("/readyz").text == "degraded\npaused: account, fuse\n"
    assert 'attachd_paused{reason="fuse",scope="account"} 1.0' in site.client.get("/metrics").text
    share = share_texts.status(share_writer.gather(w.runtime), running=True)
    assert any(line.startswith("  Refused files have been held since") and "must resume it" in line for line in share)
    site.sign_in()
    assert "Refused files have been held since" in site.words()

    site.press("resume")
    w.deliver()

    assert status.collect(w.runtime.config, w.home / "state", w.runtime.reader, w.clock.now())["pauses"] == []
    assert w.states() == ["FAILED"] * 4


# --- Who may see it ---------------------------------------------------------------------------------------------


def test_a_port_asks_for_the_token_and_what_machines_ask_does_not(site: Site) -> None:
    for path in ("/", "/?q=x", "/events", "/page.css", "/?token=wrong", "/metrics/", "//metrics", "/healthz/../"):
        assert site.client.get(path).status_code in (401, 404), path
        assert "inbox" not in site.client.get(path).text
    for path in ("/metrics", "/healthz", "/readyz"):
        assert site.client.get(path).status_code == 200, path


def test_the_token_becomes_a_cookie_and_leaves_the_address(site: Site) -> None:
    answer = site.client.get(f"/?token={site.token}")

    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert site.token.lower() not in cookie
    assert "attachd" in site.page()


def test_the_token_is_the_owners_alone_and_outlives_a_restart(site: Site) -> None:
    file = site.w.home / "state/web-token"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert web_token.made(site.w.home / "state") == site.token


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_a_token_that_a_full_disk_has_left_empty_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "web-token").write_bytes(content)

    assert len(web_token.made(tmp_path)) > 30


def test_a_socket_needs_no_token_and_is_open_to_the_group_alone(on_socket: Site) -> None:
    path = on_socket.w.home / "web.sock"

    assert "attachd" in on_socket.page()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    on_socket.serving.stop()
    assert not path.exists()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        *(("127.0.0.1:{port}", True), ("localhost:{port}", True), ("drop.example.com", True), ("127.0.0.1", False)),
        *(("evil.example.com:{port}", False), ("127.0.0.1.evil.example:{port}", False), ("localhost:1", False)),
        *(("127.0.0.1:{port}@evil", False), ("", False), ("[", False), ("a:b:c", False)),
    ],
)
def test_a_name_that_is_pointed_here_is_not_believed(site: Site, host: str, known: bool) -> None:
    host = host.format(port=site.client.base_url.port)

    assert site.client.get("/healthz", headers={"Host": host}).status_code in ((200,) if known else (421, 400))


def test_every_answer_has_its_headers(site: Site) -> None:
    site.sign_in()
    for path in ("/", "/page.js", "/metrics", "/none", "/?token=wrong"):
        headers = site.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


# --- Who may press ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, "right"),
        ({"Origin": "http://evil.example"}, "right"),
        ({"Origin": "null"}, "right"),
        ({"Origin": "own"}, "wrong"),
        ({"Origin": "own"}, ""),
    ],
)
def test_another_page_cannot_press_a_button(site: Site, headers: dict[str, str], form: str) -> None:
    site.sign_in()
    own = str(site.client.base_url).rstrip("/")
    right = re.search(r'name="form" value="([0-9a-f]+)"', site.page())
    assert right
    headers = {name: own if value == "own" else value for name, value in headers.items()}

    answer = site.client.post("/pause", data={"form": right[1] if form == "right" else form}, headers=headers)

    assert answer.status_code == 403
    assert site.w.pauses() == set()


@pytest.mark.parametrize("body", [b"form=" + b"x" * 5000, b"\xff\xfe", b"", b"a&b&=&;"])
def test_nonsense_in_a_form_is_refused(site: Site, body: bytes) -> None:
    site.sign_in()
    headers = {"Origin": str(site.client.base_url).rstrip("/"), "Content-Type": "application/x-www-form-urlencoded"}

    assert site.client.post("/retry", content=body, headers=headers).status_code == 403


def test_who_is_not_signed_in_cannot_press(site: Site) -> None:
    gate = Gate(site.token.encode(), site.token, 1)

    answer = site.client.post(
        "/pause", data={"form": gate.form}, headers={"Origin": str(site.client.base_url).rstrip("/")}
    )

    assert answer.status_code == 401
    assert site.w.pauses() == set()


def test_everything_is_paused_and_resumed(site: Site) -> None:
    site.sign_in()

    assert "Paused everything until it is resumed" in site.press_and_read("pause")
    assert "Everything has been paused by hand since" in site.words()
    site.w.drop("TEST-1/a.txt")
    site.w.deliver()
    assert site.w.jira.stored == []

    assert "Ended: the pause by hand" in site.press_and_read("resume", issue="")

    site.w.deliver()
    assert site.w.jira.names("TEST-1") == ["a.txt"]


def test_a_failed_file_is_tried_again(site: Site) -> None:
    site.sign_in()
    site.w.jira.missing.add("TEST-1")
    site.w.drop("TEST-1/a.txt")
    site.w.settle()
    assert "The issue does not exist, or attachd may not see it" in site.words()
    site.w.jira.missing.clear()

    said = site.press_and_read("retry", id=site.w.row("TEST-1/a.txt").ident)

    assert "back in the inbox as TEST-1/a.txt" in said
    site.w.settle()
    assert site.w.jira.names("TEST-1") == ["a.txt"]
    assert "it is no longer there" in site.press_and_read("retry", id="F1")
    assert "no longer among the failed files" in site.press_and_read("retry", id="F99999999999999999999")


def test_nothing_is_taken_back_into_an_inbox_that_is_not_there(site: Site) -> None:
    site.sign_in()
    site.w.jira.missing.add("TEST-1")
    site.w.drop("TEST-1/a.txt")
    site.w.settle()
    (site.w.inbox / ".attachd/id").unlink()

    said = site.press_and_read("retry", id="F1")

    assert "Nothing was moved" in said
    assert (site.w.failed / "TEST-1/a.txt").exists()


# --- What it shows ----------------------------------------------------------------------------------------------


def test_an_empty_page_says_what_to_do(site: Site) -> None:
    site.sign_in()

    assert "0 waiting" in site.words()
    assert "Put a file into a folder of the inbox that is named like its issue" in site.words()


def test_what_waits_is_shown_with_its_reason(site: Site) -> None:
    site.sign_in()
    pause.pause(site.w.runtime, Trouble(Scope.ACCOUNT, "refused", "the token expired", cure=Cure.PROBE))
    site.w.drop("TEST-1/a.txt")
    site.w.drop("no key/b.txt")
    for number in range(6):
        site.w.drop(f"TEST-1/later {number}.txt")
    site.w.scan()
    site.w.scanner.scan()
    site.w.drop("TEST-2/empty.txt", b"")
    site.w.scan()

    said = site.words()

    assert "8 waiting" in said
    assert "Everything has been paused since" in said
    assert "the token expired" in said
    assert "TEST-1 7 files" in said
    assert re.search(r"([a-z0-9 ]+\.txt ?,? ){5}and 2 more Paused\.", said)
    assert re.search(
        r"TEST-2/empty\.txt \S+ It is empty: attachd waits 30 s for its content. After that it waits", said
    )
    assert "`attachd" not in said
    assert "'no key' is not an issue key" in said


def test_each_queue_says_what_holds_it(site: Site) -> None:
    site.sign_in()
    fault = Trouble(Scope.PROJECT, "forbidden", "the account lost a right", cure=Cure.PROBE, subject="OPS")
    pause.pause(site.w.runtime, fault)
    for path in ("OPS-2/a.txt", "TEST-1/b.txt"):
        site.w.drop(path)
    site.w.scan()

    said = site.words()

    assert "a.txt The first is waiting because project OPS has been paused since" in said
    assert "b.txt The first is next for TEST-1. It is sent as soon as an upload is free." in said


def test_refusals_that_wait_for_a_persons_word_have_a_button(site: Site) -> None:
    site.sign_in()
    assert "Resume" not in site.words()
    site.w.jira.missing |= {"TEST-1", "TEST-2", "TEST-3"}
    for number in (1, 2, 3):
        site.w.drop(f"TEST-{number}/a.txt")
    site.w.deliver()
    site.w.clock.advance(700)
    site.w.deliver()

    said = site.words()

    assert "the account may have lost access" in said
    assert "run “Resume”" in said
    assert 'action="resume"' in site.page()
    site.press_and_read("resume", issue="")
    site.w.settle()
    assert "3 failed" in site.words()


def test_names_are_text_whatever_stands_in_them(site: Site) -> None:
    site.sign_in()
    evil = '<img src=x onerror="alert(1)">\u202egpj.exe'
    site.w.drop(f"TEST-1/{evil}")
    site.w.drop(b"TEST-1/\xff\x1b[31m.txt")
    site.w.deliver()

    page = site.page("/?q=%3Cscript%3E") + site.page("/?q=img")

    assert "<img" not in page
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "<script>" not in page


def test_the_history_is_searched(site: Site) -> None:
    site.sign_in()
    for name in ("Ärger.pdf", "100%_sure.txt"):
        site.w.drop(f"TEST-1/{name}")
        site.w.deliver()

    assert "Ärger.pdf" in site.words("/?q=rger").partition("History")[2]
    assert "100%_sure.txt" in site.words("/?q=100%25_").partition("History")[2]
    assert "Ärger.pdf" not in site.words("/?q=100%25_").partition("History")[2]
    assert "No file matches" in site.words("/?q=nothing-like-it")
    assert "Ärger.pdf" in site.words("/?q=10001").partition("History")[2]
    assert "Ärger.pdf" in site.words("/?q=F1").partition("History")[2]


def test_a_search_that_ends_before_the_oldest_file_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sign_in()
    for number in range(3):
        site.w.drop(f"TEST-1/{number}.txt", bytes([number]))
        site.w.deliver()
    assert "searched names back" not in site.words("/?q=0.txt")
    monkeypatch.setattr(lookup, "_SEARCHED_AT_ONCE", 1)
    monkeypatch.setattr(lookup, "search", functools.partial(lookup.search, seconds=0.0))

    said = site.words("/?q=0.txt").partition("History")[2]

    assert "No file matches 0.txt" in said
    assert re.search(r"attachd searched names back to \S+.*\. Older files are found by their issue", said)


def test_the_chart_counts_what_was_attached_by_the_hour(site: Site) -> None:
    site.sign_in()
    site.w.drop("TEST-1/a.txt", b"x" * 2048)
    site.w.deliver()

    assert "Attached in the last 48 hours: 1 file, 2.0 KiB" in site.words()


def test_what_takes_long_is_summed_for_a_twentieth_of_the_time() -> None:
    now, calls = 0.0, list[float]()

    def slow() -> int:
        nonlocal now
        now += 1.0
        calls.append(now)
        return len(calls)

    sums = Sums(lambda: now, lambda: now)
    answers = []
    for _ in range(43):
        answers.append(sums.of("all", slow))
        now += 1.0

    assert calls == [1.0, 22.0, 43.0]
    assert answers == [1] * 20 + [2] * 20 + [3] * 3
    assert sums.of("another", lambda: "x") == "x"


def test_a_browser_that_looks_on_is_told_what_is_new(site: Site) -> None:
    site.sign_in()

    with site.client.stream("GET", "/events", timeout=20) as events:
        lines = (line for line in events.iter_lines() if line.startswith("data: "))
        assert "welcome" not in json.loads(next(lines)[6:])
        site.w.drop("TEST-1/welcome.txt")
        site.w.deliver()
        assert "welcome.txt" in json.loads(next(lines)[6:])
        site.serving.stop()
        assert list(lines) == []


# --- Machines ---------------------------------------------------------------------------------------------------


def test_it_is_ready_also_while_it_is_paused_and_says_so(site: Site) -> None:
    assert site.client.get("/readyz").text == "ready\n"
    pause.pause(site.w.runtime, Trouble(Scope.ISSUE, "rate-limit", "too many", subject="SECRET-1", wait=60.0))

    answer = site.client.get("/readyz")

    assert (answer.status_code, answer.text) == (200, "degraded\npaused: issue, rate-limit\n")


def test_a_loop_that_is_stuck_is_unhealthy(site: Site) -> None:
    site.w.runtime.beats.beat()
    site.w.clock.advance(1000)

    answer = site.client.get("/healthz")

    assert answer.status_code == 503
    assert "has been stuck for" in answer.text


# --- Where it cannot be -----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_once_and_files_go_on(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        structlog.reset_defaults()
        with world(tmp_path, web={"listen": f"127.0.0.1:{other.getsockname()[1]}"}) as w, capture_logs() as lines:
            serving = PageServer(Engine(w.held), w.home / "state")
            serving.start()
            wait_until(lambda: bool(lines))
            serving.stop()

    assert [line["event"] for line in lines] == ["page.not_served"]
    assert "in use" in lines[0]["reason"]


def on_full_disk(name: str, flags: int, *rest: Any, real: Callable[..., int] = os.open, **options: Any) -> int:
    """As ``os.open``, where no file can be made."""
    if flags & os.O_CREAT:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(name, flags, *rest, **options)


def test_a_full_disk_keeps_no_page_from_being_served_whose_token_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = web_token.made(tmp_path)
    monkeypatch.setattr(os, "open", on_full_disk)

    assert web_token.made(tmp_path) == token


def test_a_page_that_has_no_token_on_a_full_disk_is_served_later_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "_AGAIN_SECONDS", 0.01)
    listen = f"127.0.0.1:{free_port()}"
    with world(tmp_path, web={"listen": listen}) as w, httpx.Client(base_url=f"http://{listen}") as client:
        serving = PageServer(Engine(w.held), w.home / "state")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", on_full_disk)
            serving.start()
            wait_until(lambda: w.runtime.page_trouble is not None)
            told = [str(each) for each in health.of_runtime(w.runtime)]

        wait_until(lambda: _answers(client))
        serving.stop()
        assert health.of_runtime(w.runtime) == []
        assert list((w.home / "state").glob("web-token.*")) == []

    (said,) = told
    assert said == (
        f"the web page is not available at {listen}: the page's token cannot be written to {w.home}/state (No space left on "
        "device). Make room there, or correct the folder's mode"
    )


def test_a_socket_that_a_killed_process_left_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    (tmp_path / "one").mkdir()
    for site in served(tmp_path / "one", f"unix:{path}"):
        assert "attachd" in site.page()

    path.write_text("mine")
    (tmp_path / "other").mkdir()
    with world(tmp_path / "other", web={"listen": f"unix:{path}"}) as w, capture_logs() as lines:
        serving = PageServer(Engine(w.held), w.home / "state")
        serving.start()
        wait_until(lambda: bool(lines))
        serving.stop()
    assert lines[0]["event"] == "page.not_served"
    assert path.read_text() == "mine"


def test_connections_that_ask_nothing_use_up_no_descriptors(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "_FIRST_SECONDS", 0.3)
    port = site.client.base_url.port or 0
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(130)]
    try:
        before = len(os.listdir("/proc/self/fd"))
        assert before < 2 * 130 + 100, "those above the limit are closed at once"
        # Those that ask nothing are closed after a while.
        wait_until(lambda: _answers(site.client))
    finally:
        for each in idle:
            each.close()


@pytest.mark.parametrize("origin", ["http://[", "http://]:x", "//", ""])
def test_an_origin_that_is_none_is_refused(site: Site, origin: str) -> None:
    site.sign_in()

    assert site.client.post("/pause", headers={"Origin": origin}).status_code == 403


def test_a_browser_leaves_out_port_80() -> None:
    gate = Gate(b"x", "token", 80)

    assert gate.knows_host("localhost")
    assert gate.knows_host("127.0.0.1:80")
    assert not gate.knows_host("localhost:81")
