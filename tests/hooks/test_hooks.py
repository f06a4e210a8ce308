"""Hooks: everybody hears everything at least once and in order, however often it fails, and no file ever waits for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from attachd.delivery import pause
from attachd.hooks import comment, dispatcher, webhook
from attachd.journal import by_hand, outbox
from attachd.model import Cure, Scope
from attachd.model import Fault as Trouble
from attachd.service import reminders
from memory_jira import World, world
from raw_connections import Proxy, Server, take
from waiting import wait_until

ENDED = threading.Event()
KEY = base64.b64encode(b"not-a-secret-but-a-key-0").decode()


class Receiver:
    """A server that keeps what is posted to it, and answers as a test says."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                if status < 300:
                    receiver.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?key=x"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def kinds(self) -> list[str]:
        return [json.loads(body)["event"] for _, body in self.posts]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(tmp_path: Path, receiver: Receiver) -> Iterator[World]:
    structlog.reset_defaults()
    (tmp_path / "secret").write_text(f"whsec_{KEY}\n")
    (tmp_path / "secret").chmod(0o600)
    with world(tmp_path, hooks={"url": receiver.url, "secret": {"file": str(tmp_path / "secret")}}) as made:
        dispatcher.Hooks(made.runtime, dispatcher.targets(made.runtime))
        yield made


def tell(w: World, target: dispatcher.Target | None = None, failures: int = 0) -> list[tuple[bool, str]]:
    """Steps until there is nothing to tell, or it failed."""
    target, progress = target or dispatcher.targets(w.runtime)[0], dispatcher.Progress(failures)
    results = []
    while (result := dispatcher.step(w.runtime, target, progress, ENDED)) != (False, ""):
        results.append(result)
        if result[1]:
            break
    return results


# --- The webhook ------------------------------------------------------------------------------------------------


def test_an_attached_file_is_told_with_all_that_is_known(hooked: World, receiver: Receiver) -> None:
    hooked.drop("TEST-1/a.txt", b"content")
    hooked.deliver()

    tell(hooked)

    [(headers, body)] = receiver.posts
    told = json.loads(body)
    row = hooked.row("TEST-1/a.txt")
    assert told.pop("at") == row.verdict_at
    assert told.pop("text") == "TEST-1/a.txt was attached to TEST-1."
    assert told == {
        "version": 1,
        "id": 1,
        "event": "attached",
        "instance": "",
        "file": {
            "id": "F1",
            "file": "TEST-1/a.txt",
            "word": "attached",
            "issue": "TEST-1",
            "folder_key": "TEST-1",
            "address": "https://jira.example.com/browse/TEST-1",
            "attachment": "10001",
            "stored_as": "a.txt",
            "bytes": 7,
            "sha256": hashlib.sha256(b"content").hexdigest(),
            "reason": None,
        },
    }
    assert headers["content-type"] == "application/json"


def test_it_is_signed_as_standard_webhooks_has_it(hooked: World, receiver: Receiver) -> None:
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()
    tell(hooked)

    [(headers, body)] = receiver.posts

    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert KEY not in str(headers)


def test_the_signature_of_a_known_message() -> None:
    # Computed with openssl: printf '%s' 'msg_1.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -hmac key -binary | base64
    found = webhook.signature(b"key", "msg_1", 1614265330, b'{"test": 2432232314}')

    assert found == "v1,JYEBfyq5bxCpG1AwdnAXovrjhgNdJUQo9x0/izmGveQ="


def test_failures_pauses_and_their_end_and_what_is_stuck_are_told(hooked: World, receiver: Receiver) -> None:
    hooked.jira.missing.add("TEST-9")
    hooked.drop("TEST-9/a.txt")
    hooked.settle()
    pause.pause(hooked.runtime, Trouble(Scope.ACCOUNT, "refused", "the token expired", cure=Cure.PROBE))
    hooked.drop("TEST-1/b.txt")
    hooked.scan()
    hooked.clock.advance(2 * 3600)
    reminders.remind(hooked.runtime)
    hooked.settle()

    tell(hooked)

    assert receiver.kinds() == ["failed", "paused", "stuck", "resumed", "attached"]
    told = [json.loads(body) for _, body in receiver.posts]
    assert "does not exist" in told[0]["file"]["reason"]
    assert told[1]["pause"]["reason"] == "the token expired"
    assert told[2]["stuck"]["files"] == 1
    assert told[3]["pause"]["scope"] == "account"


def test_a_pause_by_hand_and_its_end_are_told(hooked: World, receiver: Receiver) -> None:
    with hooked.runtime.journal.transaction() as connection:
        by_hand.pause(connection, "", hooked.clock.time, None)
        by_hand.pause(connection, "", hooked.clock.time, 60.0)
        by_hand.resume(connection, "", hooked.clock.time)

    tell(hooked)

    assert receiver.kinds() == ["paused", "resumed"]


def test_only_what_is_asked_for_is_told(tmp_path: Path, receiver: Receiver) -> None:
    with world(tmp_path, hooks={"url": receiver.url, "events": ["failed"]}) as w:
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        w.jira.missing.add("TEST-2")
        w.drop("TEST-1/a.txt")
        w.deliver()
        w.drop("TEST-2/a.txt")
        w.settle()

        tell(w)

    assert receiver.kinds() == ["failed"]


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_what_is_not_taken_is_told_again_in_order_and_said_once(hooked: World, receiver: Receiver, status: int) -> None:
    receiver.answers = [status, status]
    for name in ("a", "b"):
        hooked.drop(f"TEST-1/{name}.txt")
        hooked.deliver()

    with capture_logs() as lines:
        assert tell(hooked) == [(False, f"the receiver answered {status}")]
        tell(hooked, failures=1)
        tell(hooked, failures=2)

    assert [json.loads(body)["file"]["file"] for _, body in receiver.posts] == ["TEST-1/a.txt", "TEST-1/b.txt"]
    assert [line["event"] for line in lines if line["event"].startswith("hook.")][:2] == [
        "hook.failed",
        "hook.recovered",
    ]
    assert "key=x" not in str(lines)


def test_what_is_not_taken_within_a_day_is_given_up(hooked: World, receiver: Receiver) -> None:
    receiver.answers = [500, 500]
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()
    tell(hooked)
    hooked.clock.advance(dispatcher.GIVE_UP_SECONDS)

    with capture_logs() as lines:
        dispatcher.step(hooked.runtime, dispatcher.targets(hooked.runtime)[0], dispatcher.Progress(5), ENDED)

    assert [line["event"] for line in lines] == ["hook.given_up"]
    assert tell(hooked) == []


def test_what_happened_while_nobody_was_told_is_told_after_a_restart(hooked: World, receiver: Receiver) -> None:
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()
    hooked.restart()
    dispatcher.Hooks(hooked.runtime, dispatcher.targets(hooked.runtime))

    tell(hooked)

    assert receiver.kinds() == ["attached"]


def test_a_hook_that_is_new_is_not_told_what_was_before(tmp_path: Path, receiver: Receiver) -> None:
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt")
        w.deliver()
        w.tables["hooks"] = {"url": receiver.url}
        w.restart()
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        assert tell(w) == []
        w.tables.pop("hooks")
        w.restart()
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        w.drop("TEST-1/b.txt")
        w.deliver()
        assert w.runtime.journal.value("SELECT count(*) FROM event") == 0, "nobody wants to know"


def test_events_that_all_were_told_are_forgotten_and_ids_go_on(hooked: World) -> None:
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()
    tell(hooked)
    assert hooked.runtime.journal.value("SELECT count(*) FROM event") == 0

    hooked.drop("TEST-1/b.txt")
    hooked.deliver()

    assert [each.id for each in outbox.after(hooked.runtime.journal, "url", 10)] == [2]


def test_a_hook_whose_secret_cannot_be_read_is_tried_again(hooked: World, receiver: Receiver) -> None:
    (hooked.home / "secret").unlink()
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()

    [(told, reason)] = tell(hooked)

    assert not told
    assert "hooks.secret" in reason
    assert receiver.posts == []


# --- The command ------------------------------------------------------------------------------------------------


def commanded(tmp_path: Path, script: str) -> tuple[World, Any]:
    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return World(tmp_path, hooks={"command": [str(program), "one"]}), program


def test_a_command_gets_the_event_and_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIRA_TOKEN", "not-a-secret")
    w, _ = commanded(tmp_path, 'echo "$1 $ATTACHD_EVENT" > told; cat >> told; env > environ; cd /')
    monkeypatch.chdir(tmp_path)
    dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    w.drop("TEST-1/a.txt")
    w.deliver()

    tell(w)

    first, _, rest = (tmp_path / "told").read_text().partition("\n")
    assert first == "one attached"
    assert json.loads(rest)["file"]["file"] == "TEST-1/a.txt"
    assert "not-a-secret" not in (tmp_path / "environ").read_text()
    w.end()


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    w, program = commanded(tmp_path, "echo no >&2; exit 3")
    dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert tell(w) == [(False, f"{program} failed with exit status 3: no")]
    program.unlink()
    assert tell(w) == [(False, f"{program} cannot start: No such file or directory")]
    w.end()


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attachd.hooks.command.COMMAND_SECONDS", 0.3)
    w, _ = commanded(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    w.drop("TEST-1/a.txt")
    w.deliver()

    [(_, reason)] = tell(w)

    assert "was killed after 0.3 s" in reason
    child = (tmp_path / "child").read_text().strip()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())
    w.end()


def test_a_hook_that_hangs_holds_up_no_file_and_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LAST_SECONDS", 0.2)
    w, _ = commanded(tmp_path, "sleep 300")
    told = dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    told.start()
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.jira.names("TEST-1") == ["a.txt"]
    time.sleep(0.1)
    began = time.monotonic()

    w.runtime.stopping.set()
    told.stop()

    assert time.monotonic() - began < 5
    assert outbox.after(w.runtime.journal, "command", 1), "the next process tells it"
    w.end()


# --- The comment ------------------------------------------------------------------------------------------------


def event(number: int, at: float, w: World, path: str) -> outbox.Event:
    return outbox.Event(number, "attached", at, w.row(path), {})


def test_when_files_are_named(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt")
        w.drop("TEST-2/b.txt")
        w.drop("TEST-1/c.txt")
        w.deliver()
        found = [
            event(n, 100.0 + n, w, path) for n, path in enumerate(("TEST-1/a.txt", "TEST-2/b.txt", "TEST-1/c.txt"))
        ]

        assert not comment.is_ready(found, 120.0, 1000)
        assert comment.is_ready(found, 132.0, 1000)
        assert comment.is_ready(found, 120.0, 3)
        assert comment.is_ready([found[0], event(9, 399.0, w, "TEST-1/c.txt")], 400.0, 1000)
        named = [([row.name for row in rows], at) for rows, at in comment.batches(found)]
    assert named == [(["a.txt", "c.txt"], 100.0), (["b.txt"], 101.0)]


def test_a_name_is_no_markup() -> None:
    assert comment.plain("[~admin] *x* {code}!a.png!") == "\\[\\~admin\\] \\*x\\* \\{code\\}\\!a.png\\!"


def commented(w: World, issue: str) -> list[str]:
    return [body for key, body in w.comments if key == issue]


class Commented(World):
    """A world whose Jira takes comments, or fails to, as a test says."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, hooks={"issue_comment": True})
        self.comments: list[tuple[str, str]] = []
        self.answers: dict[str, list[Any]] = {}
        answer = self.jira._answer

        def with_comments(request: httpx.Request, path: str) -> httpx.Response:
            match = re.search(r"/issue/([^/]+)/comment$", path)
            if not match:
                return answer(request, path)
            if request.method == "GET":
                return self.jira._reply(200, {"comments": [{"body": b} for k, b in self.comments if k == match[1]]})
            fault = self.answers.get(match[1], [None]).pop(0) if self.answers.get(match[1]) else None
            if isinstance(fault, int):
                return self.jira._reply(fault, {})
            self.comments.append((match[1], json.loads(request.read())["body"]))
            if fault is not None:
                raise fault("as told")
            return self.jira._reply(201, {})

        self.jira._answer = with_comments  # type: ignore[method-assign]


@pytest.fixture
def commenting_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commented]:
    structlog.reset_defaults()
    w = Commented(tmp_path)
    monkeypatch.setattr("attachd.jira.connection.make_client", lambda config, credentials, context: w.connect())
    dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    yield w
    w.end()


def comment_step(w: World, target: dispatcher.Target, progress: dispatcher.Progress) -> tuple[bool, str]:
    w.clock.advance(comment.QUIET_SECONDS)
    return dispatcher.step(w.runtime, target, progress, ENDED)


def test_a_comment_whose_answer_was_lost_is_not_made_again_although_more_was_attached(
    commenting_world: Commented,
) -> None:
    w, progress = commenting_world, dispatcher.Progress()
    target = dispatcher.targets(w.runtime)[0]
    w.answers["TEST-1"] = [httpx.ReadError]
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert "as told" in comment_step(w, target, progress)[1]
    w.drop("TEST-1/b.txt")
    w.deliver()

    comment_step(w, target, progress)

    first, second = commented(w, "TEST-1")
    assert "a.txt" in first
    assert "a.txt" not in second
    assert "b.txt" in second


def test_one_issue_that_fails_makes_no_other_be_commented_on_again(commenting_world: Commented) -> None:
    w, progress = commenting_world, dispatcher.Progress()
    target = dispatcher.targets(w.runtime)[0]
    w.answers["TEST-2"] = [429, 429, 429]
    for number in (1, 2):
        w.drop(f"TEST-{number}/a.txt")
    w.deliver()
    for _ in range(4):
        comment_step(w, target, progress)

    assert len(commented(w, "TEST-1")) == len(commented(w, "TEST-2")) == 1


def test_nothing_is_commented_on_while_it_is_paused(commenting_world: Commented) -> None:
    w, progress = commenting_world, dispatcher.Progress()
    target = dispatcher.targets(w.runtime)[0]
    w.drop("TEST-1/a.txt")
    w.deliver()
    pause.pause(w.runtime, Trouble(Scope.ACCOUNT, "captcha", "a CAPTCHA", cure=Cure.PROBE))
    w.jira.requests.clear()

    assert comment_step(w, target, progress) == (False, "")

    assert w.jira.requests == []


def test_a_token_that_cannot_be_read_is_no_crash_of_a_hook(commenting_world: Commented) -> None:
    w, progress = commenting_world, dispatcher.Progress()
    w.drop("TEST-1/a.txt")
    w.deliver()
    w.restart()
    (w.home / "token").unlink()

    told, reason = comment_step(w, dispatcher.targets(w.runtime)[0], progress)

    assert not told
    assert "jira.auth.token" in reason


@pytest.mark.parametrize("url", ["https://a..b/x", f"https://{'x' * 70}.example.com", "https://xn--a/"])
def test_a_host_that_cannot_be_is_a_failure_and_no_crash(tmp_path: Path, url: str) -> None:
    with world(tmp_path, hooks={"url": "https://hooks.example.com"}) as w:
        # The configuration refuses it; should one come here all the same, nothing dies of it.
        told_there = w.runtime.config.hooks.model_copy(update={"url": url})
        w.runtime.reconfigure(w.runtime.config.model_copy(update={"hooks": told_there}))
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        w.drop("TEST-1/a.txt")
        w.deliver()

        [(told, reason)] = tell(w)

    assert not told
    assert reason


def test_a_blown_fuse_is_told_at_once(hooked: World, receiver: Receiver) -> None:
    hooked.jira.missing |= {"NO-1", "NO-2", "NO-3"}
    for issue in sorted(hooked.jira.missing):
        hooked.drop(f"{issue}/a.txt", issue.encode())
    hooked.deliver()
    hooked.clock.advance(hooked.runtime.config.fuse.hold_minutes * 60 + 1)
    hooked.deliver()

    tell(hooked)

    [(_, body)] = receiver.posts
    stuck = json.loads(body)["stuck"]
    assert (stuck["cause"], stuck["issues"], stuck["files"]) == ("refusals.contested", ["NO-1", "NO-2", "NO-3"], 3)
    assert "attachd resume" in stuck["remedy"]


def test_an_answer_that_comes_in_drops_is_waited_for_no_longer_than_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that sends a byte before each time-out would otherwise hold its hook for ever."""
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.5)
    over = threading.Event()

    def dripping(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nx-drop: ")
        for _ in range(200):
            if over.wait(0.1):
                break
            connection.sendall(b".")

    with Server(dripping) as server, world(tmp_path, hooks={"url": f"{server.url}/hook"}) as w:
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        w.drop("TEST-1/a.txt")
        w.deliver()

        [(told, reason)] = tell(w)
        over.set()
    assert not told
    assert "ReadTimeout" in reason


def test_a_receiver_beyond_a_proxy_is_told(tmp_path: Path, receiver: Receiver) -> None:
    with Proxy() as proxy, world(tmp_path, hooks={"url": receiver.url, "proxy": proxy.url}) as w:
        dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
        w.drop("TEST-1/a.txt")
        w.deliver()

        assert tell(w) == [(True, "")]

    assert receiver.kinds() == ["attached"]
    assert proxy.heads[0].startswith(f"POST {receiver.url} HTTP/1.1".encode())


def test_what_was_told_is_not_told_again_while_the_journals_disk_is_full(
    hooked: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, progress = dispatcher.targets(hooked.runtime)[0], dispatcher.Progress()
    hooked.drop("TEST-1/a.txt")
    hooked.deliver()

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "told", full)
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError):
                dispatcher.step(hooked.runtime, target, progress, ENDED)
    while dispatcher.step(hooked.runtime, target, progress, ENDED)[0]:
        pass

    assert receiver.kinds() == ["attached"]
    assert outbox.after(hooked.runtime.journal, "url", 1) == []


def test_a_command_may_leave_something_running(tmp_path: Path) -> None:
    w, _ = commanded(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; exit 0")
    dispatcher.Hooks(w.runtime, dispatcher.targets(w.runtime))
    w.drop("TEST-1/a.txt")
    w.deliver()

    assert tell(w) == [(True, "")]
    os.kill(int((tmp_path / "child").read_text()), 15)
    w.end()


def test_a_comment_is_known_again_by_the_ids_in_it() -> None:
    assert comment.idents("x\n(attachd F1 F3..F5 F9)") == {"F1", "F3", "F4", "F5", "F9"}
    assert comment.idents("(attachd )") == comment.idents("no comment of ours") == set()
    assert len(comment.idents("(attachd F1..F999999999999)")) == 1001
