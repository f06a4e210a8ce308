"""A token with scopes at the site's own address: ``check`` finds out and names the address at which it is good.

The addresses are Atlassian's, so that nothing in the program needs a switch for tests: a proxy leads them to the stand-in.
"""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from attachd import config
from attachd.jira import auth as jira_auth
from attachd.jira.reply import Broken, Exchange, Reply, Stage
from attachd.setup import check as setup_check
from attachd.standin import Standin
from raw_connections import pump

SITE, GATEWAY = "https://example.atlassian.net", "https://api.atlassian.com/ex/jira/"


def told(body: bytes, status: int = 200) -> Reply:
    return Reply(status, {}, body, whole=True, exhausted=True)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            told(b'{"cloudId": "12345678-9abc-4def-8000-00000000000c"}'),
            GATEWAY + "12345678-9abc-4def-8000-00000000000c",
        ),
        (told(b'{"cloudId": "../../x"}'), None),
        (told(b'{"cloudId": 7}'), None),
        (told(b"[]"), None),
        (told(b"<html>"), None),
        (told(b'{"cloudId": "12345678-9abc-4def-8000-00000000000c"}', 404), None),
        (Broken(Stage.CONNECTING, "refused"), None),
    ],
)
def test_the_address_at_the_gateway(answer: Exchange, expected: str | None) -> None:
    assert jira_auth.address(answer) == expected


class Internet(socketserver.ThreadingTCPServer):
    """A proxy for which every address leads to one port of this machine; ``heads`` are the requests that were made of it."""

    daemon_threads = False

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.to, self.heads = port, list[bytes]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Tunnel(socketserver.BaseRequestHandler):
    """One connection through the proxy."""

    server: Internet

    def handle(self) -> None:
        self.server.heads.append(self.request.recv(65536).split(b"\r\n")[0])
        with socket.create_connection(("127.0.0.1", self.server.to), 20) as there:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pump(self.request, there)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For Atlassian's names, by nobody but ourselves."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = "subjectAltName=DNS:example.atlassian.net,DNS:api.atlassian.com,DNS:auth.atlassian.com"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"]
    files = ["-out", str(cert), "-keyout", str(key), "-addext", names]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def jira(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[Standin]:
    with Standin(tmp_path / "jira", issues=["TEST-1"], tls=certificate) as jira:
        jira.store.scoped = True
        yield jira


def check(
    tmp_path: Path, jira: Standin, certificate: tuple[Path, Path], url: str, auth: str
) -> tuple[dict[str, setup_check.Finding], list[bytes]]:
    """The findings by what they are about, and what was asked of the proxy."""
    for name, secret in (("token", "standin-token"), ("client-secret", "standin-client-secret")):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(secret)
    with Internet(jira.port) as proxy:
        text = f'[folders]\ninbox = "inbox"\n[jira]\nurl = "{url}"\nproxy = "{proxy.url}"\nca_file = "{certificate[0]}"'
        settings = config.parse(f"{text}\n[jira.auth]\n{auth}", base=tmp_path)
        findings = setup_check.inspect(settings, tmp_path / "state", {}, offline=False)
    return {finding.what: finding for finding in findings}, proxy.heads


BASIC = 'user = "demo@example.com"\ntoken = { file = "token" }'
OAUTH = 'kind = "oauth2"\nclient_id = "standin-client"\nclient_secret = { file = "client-secret" }'


@pytest.mark.parametrize("auth", [BASIC, OAUTH])
def test_check_names_the_address_and_that_is_the_right_one(
    tmp_path: Path, jira: Standin, certificate: tuple[Path, Path], auth: str
) -> None:
    found, _ = check(tmp_path, jira, certificate, SITE, auth)

    expected = f"{GATEWAY}{jira.store.cloud_id}"
    assert found["jira.auth"].result == "failed"
    assert f'only with jira.url = "{expected}"' in found["jira.auth"].remedy
    found, heads = check(tmp_path, jira, certificate, expected, auth)
    assert found["jira.auth"].result == "ok", found
    asked_for_tokens = b"CONNECT auth.atlassian.com:443 HTTP/1.1" in heads
    assert asked_for_tokens == (auth == OAUTH), "the token endpoint is reached through the same proxy"


def test_the_cloud_id_is_asked_for_without_credentials(
    tmp_path: Path, jira: Standin, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, bool] = {}
    from attachd.standin import app

    real = app.caller

    def listening(settings, headers, *, gateway):  # type: ignore[no-untyped-def]
        given[jira.requests[-1].path] = "authorization" in headers
        return real(settings, headers, gateway=gateway)

    monkeypatch.setattr(app, "caller", listening)
    check(tmp_path, jira, certificate, SITE, BASIC)

    assert given["/rest/api/3/myself"]
    assert not given["/_edge/tenant_info"]


def test_a_missing_scope_is_named(tmp_path: Path, jira: Standin, certificate: tuple[Path, Path]) -> None:
    jira.store.scopes = {"read:jira-work"}

    found, _ = check(tmp_path, jira, certificate, f"{GATEWAY}{jira.store.cloud_id}", BASIC)

    assert found["jira.auth"].result == "failed"
    assert "Create one with read:jira-work, write:jira-work and read:jira-user" in found["jira.auth"].detail


def test_a_site_of_ones_own_is_not_asked_for_a_cloud_id(
    tmp_path: Path, jira: Standin, certificate: tuple[Path, Path]
) -> None:
    jira.store.scoped, jira.store.token = False, "another"

    found, _ = check(tmp_path, jira, certificate, "https://api.atlassian.com", BASIC)

    assert found["jira.auth"].remedy == "check jira.auth: kind, user and token"
    assert not [request for request in jira.requests if request.path == "/_edge/tenant_info"]
