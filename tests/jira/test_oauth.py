"""OAuth over real sockets: access tokens replaced in time, refresh tokens never lost by us, one worker that asks."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from attachd.delivery import pause
from attachd.jira import connection
from attachd.jira.client import Client
from attachd.jira.oauth import Application, Kept, Keys, OAuth
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.model import Fault as Wrong
from attachd.service import start
from attachd.service.credentials import TokenFile
from attachd.standin import Fault, Standin
from memory_jira import World

SEED = "not-a-refresh-token"
SECRET = "standin-client-secret"
ENDPOINT = "/rest/oauth2/latest/token"
LARGE = bytes(range(256)) * (5 * 4096)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    with Standin(tmp_path / "jira", issues=["TEST-1", "TEST-2"]) as jira:
        jira.store.refresh_token = SEED
        # A dead access token draws a 401, as at Atlassian's gateway and on Data Center.
        jira.store.anonymous_fallthrough = False
        yield jira


class Wired(World):
    """A world whose Jira is the stand-in behind a socket, and whose account is an application's."""

    def __init__(self, home: Path, server: Standin, *, refresh: bool = True) -> None:
        home.mkdir()
        self.home = home
        self.secret("client-secret", SECRET)
        self.secret("refresh", SEED)
        auth: dict[str, Any] = {"kind": "oauth2", "client_id": "standin-client"}
        auth["client_secret"] = {"file": str(home / "client-secret")}
        if refresh:
            auth["token"] = {"file": str(home / "refresh")}
        super().__init__(home, jira={"url": server.url, "auth": auth})

    def secret(self, name: str, text: str) -> None:
        """Put a secret into its file, as a careful person does."""
        path = self.home / name
        fresh = path.with_suffix(".fresh")
        fresh.touch(0o600)
        fresh.write_text(f"{text}\n")
        fresh.rename(path)

    def connect(self) -> Client:
        return connection.make_client(
            self.runtime.config, self.runtime.credentials, connection.tls_context(self.runtime.config)
        )

    @property
    def kept(self) -> dict[str, str]:
        content: dict[str, str] = json.loads((self.home / "state" / "oauth.json").read_text())
        return content

    def reasons(self) -> str:
        return " ".join(row[0] for row in self.runtime.journal.rows("SELECT reason FROM pause"))


@contextmanager
def placed(jira: Standin, **options: bool) -> Iterator[Wired]:
    made = Wired(jira.store.folder.parent / "place", jira, **options)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def world(jira: Standin) -> Iterator[Wired]:
    with placed(jira) as made:
        yield made


def asked(jira: Standin, path: str = ENDPOINT) -> list[int | None]:
    """The statuses of the requests to a path, in their order."""
    return [request.status for request in jira.requests if request.path.endswith(path)]


# --- Getting in -----------------------------------------------------------------------------------------------------


def test_client_credentials_attach_a_file_and_leave_nothing_on_disk(jira: Standin) -> None:
    with placed(jira, refresh=False) as world:
        world.drop("TEST-1/a.txt")

        world.deliver()

        assert world.states() == ["DONE"]
        assert asked(jira) == [200]
        assert not list((world.home / "state").glob("oauth*"))


def test_client_credentials_attach_a_file_on_data_center(tmp_path: Path) -> None:
    server = Standin(tmp_path / "jira", issues=["TEST-1"], deployment="Server", base_path="/jira")
    with server as jira, placed(jira, refresh=False) as world:
        world.drop("TEST-1/a.txt")

        world.deliver()

        assert world.states() == ["DONE"]
        assert [request.path for request in jira.requests if "oauth2" in request.path] == ["/jira" + ENDPOINT]


def test_a_refresh_token_attaches_a_file_and_the_next_one_is_kept(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")

    world.deliver()

    assert world.states() == ["DONE"]
    assert asked(jira) == [200]
    assert world.kept["refresh_token"] == jira.store.refresh_token != SEED
    assert SEED not in str(world.kept)
    assert stat.S_IMODE((world.home / "state" / "oauth.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in (world.home / "state").glob("oauth*")) == ["oauth.json", "oauth.lock"]


def test_a_restart_goes_on_with_the_token_that_was_kept(world: Wired, jira: Standin) -> None:
    for number in range(3):
        world.drop(f"TEST-1/{number}.txt", str(number).encode())
        world.deliver()
        world.restart()

    assert world.states() == ["DONE"] * 3
    assert asked(jira) == [200] * 3


def test_another_configured_token_wins_over_the_one_that_was_kept(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")
    world.deliver()
    jira.store.refresh_token = "not-a-second-token"
    world.secret("refresh", "not-a-second-token")

    world.restart()
    world.drop("TEST-1/b.txt", b"b")
    world.deliver()

    assert world.states() == ["DONE"] * 2
    assert world.kept["refresh_token"] == jira.store.refresh_token


def test_a_server_that_does_not_rotate_needs_nothing_to_be_kept(world: Wired, jira: Standin) -> None:
    jira.store.rotate = False
    for number in range(2):
        world.drop(f"TEST-1/{number}.txt", str(number).encode())
        world.deliver()
        world.clock.advance(3600.0)

    assert asked(jira) == [200, 200]
    assert not (world.home / "state" / "oauth.json").exists()


# --- Staying in -----------------------------------------------------------------------------------------------------


def test_an_access_token_is_replaced_ahead_of_its_end_and_not_before(world: Wired, jira: Standin) -> None:
    for number, (seconds, requests) in enumerate([(0.0, 1), (3400.0, 1), (90.0, 2)]):
        world.clock.advance(seconds)
        world.drop(f"TEST-1/{number}.txt", str(number).encode())
        world.deliver()

        assert len(asked(jira)) == requests

    assert world.states() == ["DONE"] * 3
    assert 401 not in [request.status for request in jira.requests]


def test_setting_the_wall_clock_ends_no_access_token(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")
    world.deliver()

    world.clock.time += 86_400.0
    world.drop("TEST-1/b.txt", b"b")
    world.deliver()

    assert asked(jira) == [200]


@pytest.mark.parametrize("early", [False, True])
def test_a_401_in_the_middle_of_an_upload_is_answered_by_one_new_token_and_the_whole_file(
    world: Wired, jira: Standin, early: bool
) -> None:
    world.drop("TEST-1/first.txt")
    world.deliver()
    world.drop("TEST-1/large.bin", LARGE)
    if early:
        jira.faults.add(Fault("status", status=401, early=True))
    else:
        jira.store.access_tokens.clear()

    world.scan()
    while not asked(jira, "/attachments")[1:]:
        assert world.step()

    assert asked(jira, "/attachments") == [200, 401, 200], "in one step"
    assert asked(jira) == [200, 200]
    assert [(a.filename, a.size) for a in jira.store.attachments("TEST-1")] == [
        ("first.txt", 7),
        ("large.bin", len(LARGE)),
    ]
    world.work()
    assert world.states() == ["DONE", "DONE"]
    assert [row.tries for row in world.rows()] == [1, 1]


def test_a_401_that_stays_draws_one_new_token_and_pauses_the_account(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")
    jira.faults.add(Fault("unauthorized", times=-1))

    world.deliver()

    assert asked(jira, "/attachments") == [401, 401]
    assert asked(jira) == [200, 200]
    assert world.pauses() == {"account:refused"}
    assert world.states() == ["READY"]


def test_an_access_token_that_ends_on_the_way_makes_no_issue_missing(world: Wired, jira: Standin) -> None:
    """Jira Cloud tells an anonymous caller that there is no such issue; asked again, we are somebody."""
    jira.store.anonymous_fallthrough = True
    for name in ("a.txt", "b.txt"):
        world.drop(f"TEST-1/{name}", name.encode())
        jira.store.access_tokens.clear()
        world.deliver()

    assert asked(jira, "/attachments") == [200, 404, 200]
    assert world.states() == ["DONE", "DONE"]
    assert world.files(world.failed) == {}


def test_a_missing_issue_is_still_found_missing(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")
    world.drop("TEST-99/b.txt", b"b")

    world.settle()

    assert {row.folder_key: str(row.state) for row in world.rows()} == {"TEST-1": "DONE", "TEST-99": "FAILED"}


# --- Trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", "token", status=503), "token-unreachable"),
        (Fault("ratelimit", "token"), "token-unreachable"),
        (Fault("reset", "token", point="headers"), "token-unreachable"),
        (Fault("redirect", "token"), "token-endpoint"),
        (Fault("html200", "token"), "token-endpoint"),
    ],
)
@pytest.mark.parametrize("refresh", [False, True])
def test_trouble_of_the_endpoint_moves_nothing_and_passes(
    jira: Standin, fault: Fault, kind: str, refresh: bool
) -> None:
    jira.store.rotate = False  # the fault replaces the answer, and with it the next token
    with placed(jira, refresh=refresh) as world:
        jira.faults.add(fault)
        world.drop("TEST-1/a.txt")

        world.deliver()

        assert world.pauses() == {f"account:{kind}"}
        assert (world.states(), len(asked(jira))) == (["READY"], 1)
        world.settle()
        assert world.states() == ["DONE"]
        assert world.pauses() == set()


def test_an_endpoint_that_is_not_there_moves_nothing(world: Wired, jira: Standin) -> None:
    world.drop("TEST-1/a.txt")
    jira.stop()

    world.deliver()

    assert world.pauses() == {"account:token-unreachable"}
    assert f"the token endpoint {jira.url}{ENDPOINT} cannot be reached" in world.reasons()
    jira.start()
    world.settle()
    assert world.states() == ["DONE"]


def test_an_end_of_the_token_while_files_are_sent_leaves_none_half_done(world: Wired, jira: Standin) -> None:
    """The refusal comes after the intent was written down: the file is not left as being sent."""
    world.drop("TEST-1/a.txt")
    world.deliver()
    world.drop("TEST-1/b.txt", b"b")
    jira.store.access_tokens.clear()
    jira.store.refresh_token = "revoked"

    world.deliver()

    assert world.pauses() == {"account:token-refused"}
    assert world.states() == ["DONE", "READY"]


def test_a_dead_refresh_token_waits_for_a_new_one_and_needs_no_restart(world: Wired, jira: Standin) -> None:
    jira.store.refresh_token = "another"
    jira.store.echo_tokens = True
    world.drop("TEST-1/a.txt")
    world.settle(hours=1.0)
    assert world.pauses() == {"account:token-refused"}
    assert "403 invalid_grant" in world.reasons()
    assert "put the new refresh token where jira.auth.token says; no restart is needed" in world.reasons()
    assert SEED not in world.reasons()
    assert SECRET not in world.reasons()
    assert world.states() == ["READY"]

    jira.store.refresh_token = "not-a-new-token"
    world.secret("refresh", "not-a-new-token")
    world.work()

    assert world.states() == ["DONE"], "at once, since the file has changed"
    assert world.kept["refresh_token"] == jira.store.refresh_token


def test_a_wrong_secret_waits_for_the_right_one(world: Wired, jira: Standin) -> None:
    jira.store.client_secret = "not-the-old-secret"
    world.drop("TEST-1/a.txt")
    world.deliver()
    assert world.pauses() == {"account:token-refused"}
    assert "check jira.auth.client_id" in world.reasons()

    world.secret("client-secret", "not-the-old-secret")
    world.work()

    assert world.states() == ["DONE"]


def test_a_secret_that_cannot_be_read_is_the_accounts_trouble(world: Wired) -> None:
    (world.home / "client-secret").rename(world.home / "aside")
    world.drop("TEST-1/a.txt")
    world.deliver()
    assert world.pauses() == {"account:token"}
    assert "jira.auth.client_secret" in world.reasons()

    (world.home / "aside").rename(world.home / "client-secret")
    world.settle()

    assert world.states() == ["DONE"]


def test_a_lost_answer_is_a_dead_token(world: Wired, jira: Standin) -> None:
    """The endpoint has replaced the token, and the answer with the next one never came: a person has to help."""
    jira.faults.add(Fault("reset", "token"))
    world.drop("TEST-1/a.txt")

    world.settle(hours=0.1)

    assert world.pauses() == {"account:token-refused"}
    assert world.states() == ["READY"]


# --- The disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_while_the_old_token_is_still_good(
    world: Wired, jira: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.drop("TEST-1/a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        world.deliver()
        assert world.pauses() == {"account:token-unkept"}
        assert "No space left on device" in world.reasons()
        assert (asked(jira), jira.store.refresh_token) == ([], SEED)

    world.settle()

    assert world.states() == ["DONE"]


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_no_access_token_is_used_before_the_refresh_token_that_came_with_it_is_on_disk(
    world: Wired, jira: Standin, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(self: TokenFile, kept: Kept) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            real(self, kept)

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = TokenFile.write
    world.drop("TEST-1/a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(TokenFile, "write", broken)
        world.deliver()
        assert world.pauses() == {"account:token-unkept"}
        assert {request.path for request in jira.requests} == {ENDPOINT}

    good = jira.store.refresh_token
    world.settle()

    assert world.states() == ["DONE"], "what was received is not lost while we live"
    assert good != SEED
    assert world.kept["refresh_token"] == jira.store.refresh_token


def test_a_file_of_tokens_that_is_none_is_as_good_as_missing(world: Wired, jira: Standin) -> None:
    for content in ("", "{", "[]", '{"refresh_token": 5}'):
        (world.home / "state" / "oauth.json").write_text(content)
        assert TokenFile(world.home / "state").read() is None

    world.drop("TEST-1/a.txt")
    world.deliver()

    assert world.states() == ["DONE"]


def test_two_processes_that_refresh_in_turn_do_not_kill_each_others_token(world: Wired, jira: Standin) -> None:
    """As ``attachd check`` does beside the service."""
    state = world.home / "state"
    for number in range(3):
        other = start.make_credentials(world.runtime.config, {}, state, world.clock)
        with closing(connection.asking_client(world.runtime.config, jira.url, other)) as asker:
            answer = asker.myself("3")
            assert isinstance(answer, Reply)
            assert answer.status == 200
        world.clock.advance(4000.0)
        world.drop(f"TEST-1/{number}.txt", str(number).encode())
        world.deliver()

    assert world.states() == ["DONE"] * 3
    assert asked(jira) == [200] * 6


def test_processes_that_refresh_at_the_same_time_do_so_one_after_the_other(world: Wired, jira: Standin) -> None:
    """The lock is the open file's: what holds between processes holds between these."""
    state, together = world.home / "state", threading.Barrier(8, timeout=60)
    others = [start.make_credentials(world.runtime.config, {}, state, world.clock) for _ in range(8)]
    headers: list[object] = []

    def work(number: int) -> None:
        together.wait()
        headers.append(others[number].header())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert asked(jira) == [200] * 8
    assert len(set(headers)) == 8
    assert world.kept["refresh_token"] == jira.store.refresh_token


# --- Many workers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revoked", [False, True])
def test_a_hundred_workers_cause_one_refresh(world: Wired, jira: Standin, revoked: bool) -> None:
    """Both where there is no access token yet, and where all of them draw a 401 with the same one."""
    if revoked:
        assert isinstance(world.client.myself("3"), Reply)
        jira.store.access_tokens.clear()
    before, together = len(asked(jira)), threading.Barrier(100, timeout=60)
    clients = [world.connect() for _ in range(100)]
    answers: list[Exchange] = []

    def work(client: Client) -> None:
        together.wait()
        answers.append(client.myself("3"))
        client.close()

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [answer.status for answer in answers if isinstance(answer, Reply)] == [200] * 100
    assert len(asked(jira)) == before + 1


class Queue:
    """A lock that knows how many have come to it."""

    def __init__(self) -> None:
        self._inner, self._arrived = threading.Lock(), threading.Semaphore(0)

    def __enter__(self) -> None:
        self._arrived.release()
        self._inner.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.release()

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self._arrived.acquire(timeout=60)


def test_those_who_wait_for_an_answer_hear_it_and_do_not_ask_again(tmp_path: Path) -> None:
    """A dead endpoint would otherwise hold each worker up in turn, for as long as it takes to give up."""
    queue, times = Queue(), []

    def ask(form: Mapping[str, str]) -> Exchange:
        times.append(form["grant_type"])
        if len(times) == 1:
            queue.wait_for(100)
        return Broken(Stage.CONNECTING, "refused")

    made = OAuth(
        Application("https://id.example.com", "x"), read=lambda: Keys("y"), ask=ask, safe=TokenFile(tmp_path),
        boot=lambda: 0.0, hide=lambda _: None,
    )  # fmt: skip
    made._lock = queue  # type: ignore[assignment]
    heard: list[object] = []
    threads = [threading.Thread(target=lambda: heard.append(made.header())) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(times) == 1
    assert len(heard) == 100
    assert all(isinstance(each, Wrong) for each in heard)
    assert isinstance(made.header(), Wrong)
    assert len(times) == 2, "a later caller asks again"


# --- Scopes ---------------------------------------------------------------------------------------------------------


def test_a_missing_scope_pauses_and_is_named(world: Wired, jira: Standin) -> None:
    jira.store.scoped, jira.store.scopes = True, {"read:jira-work", "read:jira-user"}
    world.tables["jira"]["url"] = f"{jira.url}/ex/jira/{jira.store.cloud_id}"
    world.tables["jira"]["auth"]["token_url"] = jira.url + ENDPOINT
    world.restart()
    world.drop("TEST-1/a.txt")

    world.deliver()

    assert world.pauses() == {"account:scope"}
    assert "Create one with read:jira-work, write:jira-work and read:jira-user" in world.reasons()
    jira.store.scopes.add("write:jira-work")
    world.settle()
    assert world.states() == ["DONE"]


@pytest.mark.parametrize(
    ("url", "kind", "told"),
    [
        (
            "https://x.atlassian.net",
            "basic",
            'an API token with scopes works only with jira.url = "https://api',
        ),
        ("https://x.atlassian.net", "oauth2", 'OAuth access tokens work only with jira.url = "https://api'),
        ("https://x.atlassian.net", "bearer", ""),
        ("https://jira.example.com", "oauth2", ""),
        ("https://api.atlassian.com/ex/jira/1", "oauth2", ""),
    ],
)
def test_a_refusal_by_the_sites_own_address_names_the_gateway(
    world: Wired, jira: Standin, url: str, kind: str, told: str
) -> None:
    config = world.runtime.config
    auth = config.jira.auth.model_copy(update={"kind": kind})
    world.runtime.config = config.model_copy(update={"jira": config.jira.model_copy(update={"url": url, "auth": auth})})

    pause.pause(world.runtime, Wrong(pause.Scope.ACCOUNT, "refused", "no"))

    assert told in world.reasons()
    assert ("CLOUD-ID" in world.reasons()) == bool(told)
