"""``init`` as it is installed: by options, on a terminal, and where something is wrong."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import subprocess
import termios
import tomllib
from pathlib import Path
from typing import Any

import pytest

from attachd.setup import sign_in
from installation import ATTACHD, Jira
from waiting import wait_until

TOKEN = "standin-token"


class Home:
    """A user without anything yet."""

    def __init__(self, home: Path, jira: Jira) -> None:
        self.home, self.jira = home, jira
        self.config = home / ".config/attachd/config.toml"
        self.environ = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}

    def init(self, *words: str, token: str = TOKEN, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ATTACHD, "init", "-c", self.config, *words],
            env=self.environ, input=token, capture_output=True, text=True, timeout=60, **options,
        )  # fmt: skip

    def by_options(self, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        given = ("--url", f"{self.jira.url}/browse/X-1", "--user", "demo@example.com", "--token-file", "-")
        return self.init(*given, "--folder", str(self.home / "drop"), *words, token=token)

    def attachd(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [ATTACHD, words[0], "-c", self.config, *words[1:]]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)


@pytest.fixture
def home(tmp_path: Path, jira: Jira) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder, jira)


def test_by_options_a_file_is_attached_a_moment_later(home: Home, jira: Jira) -> None:
    ended = home.by_options("--projects", "TEST", "--token-expires", "2099-03-01")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "is Jira Cloud." in ended.stdout
    assert "All tests passed." in ended.stdout
    assert TOKEN not in ended.stdout + ended.stderr + home.config.read_text()
    token = home.config.parent / "token"
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == (f"{TOKEN}\n", 0o600)
    (home.home / "drop/inbox/TEST-1").mkdir()
    (home.home / "drop/inbox/TEST-1/a.txt").write_text("a")
    assert home.attachd("once").returncode == 0
    assert [each["filename"] for each in jira.attachments()] == ["a.txt"]


def test_an_application_that_acts_for_itself_is_set_up(home: Home, jira: Jira) -> None:
    jira.tell("set", {"client_secret": "not-a-client-secret", "anonymous_fallthrough": False})
    words = ("--url", jira.url, "--kind", "oauth2", "--client-id", "standin-client", "--client-secret-file", "-")
    drop = ("--folder", str(home.home / "drop"), "--token-url", f"{jira.url}/oauth/token")
    wrong = home.init(*words, *drop, token="wrong")
    assert (wrong.returncode, "Compare id and secret" in wrong.stderr) == (1, True)
    assert not home.config.parent.exists()

    ended = home.init(*words, *drop, token="not-a-client-secret")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Jira knows this account as 712020:" in ended.stdout
    secret = home.config.parent / "client-secret"
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("not-a-client-secret\n", 0o600)
    assert sorted(os.listdir(home.config.parent)) == ["client-secret", "config.toml"]
    (home.home / "drop/inbox/TEST-1").mkdir()
    (home.home / "drop/inbox/TEST-1/a.txt").write_text("a")
    assert home.attachd("once").returncode == 0
    assert [each["filename"] for each in jira.attachments()] == ["a.txt"]


def test_a_refresh_token_is_left_for_the_service(home: Home, jira: Jira) -> None:
    refresh, secret = "not-a-refresh-token", "not-a-client-secret"
    jira.tell("set", {"refresh_token": refresh, "client_secret": secret, "anonymous_fallthrough": False})
    (home.home / "secret").write_text(secret)
    words = ("--kind", "oauth2", "--client-id", "standin-client", "--client-secret-file", str(home.home / "secret"))
    given = ("--url", jira.url, "--token-file", "-", "--folder", str(home.home / "drop"))
    given += ("--token-url", f"{jira.url}/oauth/token")

    ended = home.init(*given, *words, token=refresh)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "init does not test the refresh token" in ended.stdout
    assert not [each for each in jira.ask("requests") if each["path"].endswith("/token")]
    assert refresh not in ended.stdout + ended.stderr + home.config.read_text()
    (home.home / "drop/inbox/TEST-1").mkdir()
    (home.home / "drop/inbox/TEST-1/a.txt").write_text("a")
    assert home.attachd("once").returncode == 0
    assert [each["filename"] for each in jira.attachments()] == ["a.txt"]


def test_a_file_that_would_not_be_written_is_no_obstacle(home: Home) -> None:
    home.config.parent.mkdir(parents=True)
    (home.config.parent / "client-secret").write_text("of another configuration")

    assert home.by_options().returncode == 0
    assert (home.config.parent / "client-secret").read_text() == "of another configuration"


def test_a_scoped_token_leads_to_the_gateway(home: Home, jira: Jira) -> None:
    jira.tell("set", {"scoped": True})

    ended = home.by_options()

    # The address of the stand-in does not end as those of Jira Cloud do, so that its gateway is not asked for.
    assert ended.returncode == 1
    assert "Create an API token" in ended.stderr
    assert not home.config.exists()


def test_nothing_is_replaced(home: Home) -> None:
    home.config.parent.mkdir(parents=True)
    home.config.write_text("mine")

    ended = home.by_options()

    assert ended.returncode == 1
    assert "already exists, and init replaces nothing." in ended.stderr
    assert home.config.read_text() == "mine"
    assert os.listdir(home.config.parent) == ["config.toml"]
    home.config.unlink()
    (home.config.parent / "token").write_text("mine")
    assert "already exists, and init replaces nothing." in home.by_options().stderr
    assert os.listdir(home.config.parent) == ["token"]


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (("--token-file", "-"), "wrong", "Jira rejects the account or its token"),
        (("--url", "http://127.0.0.1:1"), TOKEN, "Check the address, the proxy and the network."),
        (("--url", "ftp://x.example.com"), TOKEN, "does not begin with"),
        (("--projects", "test"), TOKEN, "Write “TEST”."),
        (("--token-expires", "soon"), TOKEN, "Write it like 2027-03-01"),
        (("--user", "a:b"), TOKEN, "contains “:”"),
        (("--kind", "digest"), TOKEN, "must be basic, bearer or oauth2."),
        (("--kind", "oauth2"), TOKEN, "--client-id is missing"),
        (("--kind", "oauth2", "--client-id", "a b"), TOKEN, "contains a space"),
        (("--kind", "oauth2", "--client-id", "a", "--client-secret-file", "-"), TOKEN, "cannot both come from stdin"),
        (("--client-id", "a"), TOKEN, "are only for oauth2. Give --kind oauth2"),
        (("--token-file", "/nonexistent"), TOKEN, "cannot be read"),
        (("--token-file", "-"), "two words", "contains no token"),
        (("--ca-file", "/nonexistent"), TOKEN, "jira.ca_file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    home: Home, words: tuple[str, ...], token: str, said: str
) -> None:
    ended = home.by_options(*words, token=token)

    assert ended.returncode in (1, 2, 78)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert token not in ended.stderr
    assert list(home.home.iterdir()) == []


def test_without_a_terminal_what_is_missing_is_named(home: Home) -> None:
    ended = home.init()

    assert ended.returncode == 2
    assert "--url is missing, and there is no terminal to ask on." in ended.stderr


def test_on_a_terminal_it_asks_and_shows_no_token(home: Home, jira: Jira, request: pytest.FixtureRequest) -> None:
    ours, theirs = pty.openpty()
    # A hidden question is asked on the terminal that controls the process.
    command = [ATTACHD, "init", "-c", home.config]
    process = subprocess.Popen(command, env=home.environ, preexec_fn=lambda: os.login_tty(theirs))
    request.addfinalizer(process.wait)
    request.addfinalizer(process.kill)
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = b""

    def reads(words: bytes) -> bool:
        nonlocal shown
        with contextlib.suppress(OSError):
            shown += os.read(ours, 65536)
        return words in shown

    for question, answer in [
        (b"Address of your Jira", jira.url),
        (b"E-mail address", "demo@example.com"),
        (b"API token", "wrong-token"),
        (b"Create an API token", ""),
        (b"E-mail address", "demo@example.com"),
        (b"API token", TOKEN),
        (b"Projects", ""),
        (b"Last day", "tomorrow"),
        (b"not a date", ""),
        (b"Last day", ""),
        (b"Folder", f"{home.home}/drop"),
    ]:
        wait_until(lambda question=question: reads(question), 20)  # type: ignore[misc]
        shown = shown.partition(question)[2]
        if question == b"API token":
            # What is typed before the echo is off is thrown away (getpass: TCSAFLUSH).
            wait_until(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO, 20)
        if answer or question in (b"Projects", b"Last day"):
            os.write(ours, f"{answer}\n".encode())
    wait_until(lambda: reads(b"All tests passed."), 20)
    wait_until(lambda: process.poll() is not None)
    os.close(ours)

    assert process.returncode == 0
    assert b"wrong-token" not in shown
    assert TOKEN.encode() not in shown
    written = tomllib.loads(home.config.read_text())
    assert written["folders"] == {"inbox": f"{home.home}/drop/inbox", "projects": []}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("acme", "https://acme.atlassian.net"),
        ("acme.atlassian.net", "https://acme.atlassian.net"),
        (" https://ACME.atlassian.net/jira/software/c/projects/X/boards/1?x=1#a ", "https://acme.atlassian.net"),
        ("https://jira.example.com/browse/TEST-1", "https://jira.example.com"),
        ("https://example.com/jira", "https://example.com"),
        ("https://example.com/tracker/browse/TEST-1", "https://example.com/tracker"),
        ("jira.example.com:8443/secure/Dashboard.jspa", "https://jira.example.com:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://[", "https://["),
        ("", "https://"),
    ],
)
def test_what_people_copy_becomes_an_address(given: str, address: str) -> None:
    assert sign_in.address(given) == address
