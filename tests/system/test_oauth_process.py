"""OAuth as the installed command does it: through a death at the worst moment, beside ``check``, and without a trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until

SEED, SECRET = "not-a-refresh-token", "not-a-client-secret"
#: The command, killed as soon as the endpoint has answered and before a byte of that is on disk.
KILLED = """
import os, signal, sys
from attachd.cli.main import main
from attachd.service.credentials import TokenFile
TokenFile.write = lambda self, kept: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["attachd", "once", "-c", sys.argv[1]]
main()
"""


@pytest.fixture
def signed(place: Place, jira: Jira) -> Place:
    """A place whose service is an application with a refresh token."""
    jira.tell("set", {"refresh_token": SEED, "client_secret": SECRET, "anonymous_fallthrough": False})
    configure(place, jira, 'token = { file = "refresh" }')
    return place


def configure(place: Place, jira: Jira, more: str) -> None:
    put(place, "refresh", SEED)
    put(place, "client-secret", SECRET)
    place.configure(jira.url)
    text = place.config.read_text().replace(
        'user = "demo@example.com"\ntoken = { file = "token" }',
        f"""
kind = "oauth2"
client_id = "standin-client"
client_secret = {{ file = "client-secret" }}
{more}""",
    )
    place.config.write_text(text)


def put(place: Place, name: str, secret: str) -> None:
    fresh = place.home / f"{name}.fresh"
    fresh.touch(0o600)
    fresh.write_text(f"{secret}\n")
    fresh.rename(place.home / name)


def asked(jira: Jira) -> list[int | None]:
    return [request["status"] for request in jira.ask("requests") if request["path"].endswith("/token")]


def attached(jira: Jira) -> list[str]:
    return sorted(each["filename"] for each in jira.attachments())


def status(place: Place) -> str:
    return place.run("status").stdout


@contextmanager
def running(place: Place, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stderr:
        daemon = place.start(stderr=stderr)
        try:
            yield daemon
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0


def secrets(place: Place) -> set[str]:
    kept = json.loads((place.state / "oauth.json").read_text())["refresh_token"]
    return {SEED, SECRET, kept, "standin-access-", "standin-refresh-"}


def leaks(place: Place, jira: Jira, *told: str) -> list[str]:
    """Where a secret is that should not be: in any file but its own, in what was printed, in what was asked."""
    own = {"refresh", "client-secret", "oauth.json"}
    files = {str(path): path.read_bytes() for path in place.home.rglob("*") if path.is_file() and path.name not in own}
    texts = files | {f"told {number}": text.encode() for number, text in enumerate(told)}
    texts["requests"] = json.dumps(jira.ask("requests")).encode()
    return [name for name, text in texts.items() if any(secret.encode() in text for secret in secrets(place))]


def test_an_application_attaches_and_leaves_no_secret_anywhere(signed: Place, jira: Jira) -> None:
    signed.config.write_text(signed.config.read_text() + '[log]\nlevel = "debug"\n')
    signed.drop("TEST-1/a.txt", b"a")

    ended = signed.run("once")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert attached(jira) == ["a.txt"]
    assert "file.attached" in ended.stderr
    assert leaks(signed, jira, ended.stdout, ended.stderr) == []


def test_client_credentials_attach(place: Place, jira: Jira) -> None:
    jira.tell("set", {"client_secret": SECRET})
    configure(place, jira, "")
    place.drop("TEST-1/a.txt", b"a")

    checked, ended = place.run("check"), place.run("once")

    assert checked.returncode == 0, checked.stdout
    assert "ok       jira.auth: Jira knows attachd as 712020:" in checked.stdout
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (place.state / "oauth.json").exists()


def test_a_death_between_the_answer_and_the_disk_is_told_and_ended_by_a_new_token(
    signed: Place, jira: Jira, tmp_path: Path
) -> None:
    jira.tell("set", {"echo_tokens": True})
    signed.drop("TEST-1/a.txt", b"a")
    died = subprocess.run([sys.executable, "-c", KILLED, signed.config], capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert asked(jira) == [200]
    assert [request["path"] for request in jira.ask("requests")] == ["/rest/oauth2/latest/token"], "nothing came of it"

    log = tmp_path / "log"
    with running(signed, log):
        wait_until(lambda: "paused" in status(signed))
        told = status(signed)
        assert "403 invalid_grant" in told
        assert "put the new refresh token where jira.auth.token says" in told
        assert "waiting    " in told or "1 waiting" in told
        assert attached(jira) == []
        assert signed.files(signed.inbox) == {b"TEST-1/a.txt": b"a"}

        jira.tell("set", {"refresh_token": "not-a-second-token"})
        put(signed, "refresh", "not-a-second-token")
        wait_until(lambda: signed.files(signed.done) == {b"TEST-1/a.txt": b"a"})

    assert attached(jira) == ["a.txt"]
    assert leaks(signed, jira, told, log.read_text()) == []
    assert "not-a-second-token" not in told + log.read_text()


def test_a_check_beside_the_service_costs_it_nothing(signed: Place, jira: Jira, tmp_path: Path) -> None:
    with running(signed, tmp_path / "log"):
        for number in range(3):
            signed.drop(f"TEST-1/{number}.txt", str(number).encode())
            wait_until(lambda number=number: len(signed.files(signed.done)) == number + 1)  # type: ignore[misc]
            checked = signed.run("check")
            assert checked.returncode == 0, checked.stdout
            assert "ok       jira.auth: Jira knows attachd as 712020:" in checked.stdout
            # The next file draws a 401, and the service refreshes with what the check left for it.
            jira.tell("set", {"access_tokens": {}})

    assert attached(jira) == ["0.txt", "1.txt", "2.txt"]
    assert set(asked(jira)) == {200}
    assert leaks(signed, jira, checked.stdout, checked.stderr, (tmp_path / "log").read_text()) == []


def test_a_check_before_the_first_start_spends_no_token(signed: Place, jira: Jira) -> None:
    """It may run as somebody else, for whom the state folder is another: the next token would be lost there."""
    checked = signed.run("check")

    assert checked.returncode == 0, checked.stdout
    assert "the refresh token was not" in checked.stdout
    assert asked(jira) == []
    assert not signed.state.exists()
    signed.drop("TEST-1/a.txt", b"a")
    assert signed.run("once").returncode == 0


def test_a_check_with_a_dead_token_says_what_to_do(signed: Place, jira: Jira) -> None:
    assert signed.run("once").returncode == 0
    signed.drop("TEST-1/a.txt", b"a")
    jira.tell("set", {"refresh_token": "revoked", "echo_tokens": True})
    ended = signed.run("once")
    assert ended.returncode == 4

    checked = signed.run("check")

    assert checked.returncode == 1
    assert "failed   jira.auth: the token endpoint gives no access token (403 invalid_grant" in checked.stdout
    assert "put the new refresh token where jira.auth.token says" in checked.stdout
    assert "put the new refresh token where jira.auth.token says" in ended.stdout
    assert SEED not in checked.stdout + checked.stderr + ended.stdout + ended.stderr
    assert SECRET not in checked.stdout + checked.stderr + ended.stdout + ended.stderr
