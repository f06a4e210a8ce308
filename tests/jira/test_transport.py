"""httpx as it is set up: a deadline over all reads, one connection, and nothing taken from the environment."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpcore
import httpx
import pytest

from attachd.jira import transport
from attachd.jira.transport import Deadline, Tls


class Time:
    """``time.monotonic``, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock that deadlines read."""
    clock = Time()
    monkeypatch.setattr(transport, "time", clock)
    return clock


# --- Deadline -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0.5, 60.0])
def test_without_a_deadline_each_read_has_its_own_time(clock: Time, timeout: float | None) -> None:
    assert Deadline().shorten(timeout) == timeout


def test_a_read_gets_what_is_left(clock: Time) -> None:
    deadline = Deadline()
    deadline.start(10.0)
    assert (deadline.shorten(60.0), deadline.shorten(3.0), deadline.shorten(None)) == (10.0, 3.0, 10.0)

    clock.now += 8.0

    assert (deadline.shorten(60.0), deadline.shorten(1.0), deadline.shorten(None)) == (2.0, 1.0, 2.0)


@pytest.mark.parametrize("late", [10.0, 11.0])
def test_nothing_is_read_after_it(clock: Time, late: float) -> None:
    deadline = Deadline()
    deadline.start(10.0)
    clock.now += late

    with pytest.raises(httpcore.ReadTimeout):
        deadline.shorten(60.0)


def test_an_armed_one_counts_from_the_first_read(clock: Time) -> None:
    deadline = Deadline()
    deadline.arm(10.0)
    clock.now += 3600.0

    assert deadline.shorten(60.0) == 10.0
    clock.now += 4.0
    assert deadline.shorten(60.0) == 6.0
    clock.now += 6.0
    with pytest.raises(httpcore.ReadTimeout):
        deadline.shorten(60.0)


def test_the_last_word_counts(clock: Time) -> None:
    deadline = Deadline()

    deadline.start(1.0)
    deadline.arm(10.0)
    assert deadline.shorten(None) == 10.0
    deadline.arm(5.0)
    deadline.start(1.0)
    assert deadline.shorten(None) == 1.0
    deadline.arm(5.0)
    deadline.clear()
    assert deadline.shorten(None) is None


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_without_files_the_systems_store_decides() -> None:
    context = Tls().context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("field", ["ca_file", "client_cert_file"])
def test_files_that_cannot_be_used(tmp_path: Path, field: str) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    with pytest.raises(ssl.SSLError):
        Tls(**{field: str(garbage)}).context()
    with pytest.raises(OSError, match="No such file"):
        Tls(**{field: str(tmp_path / "missing.pem")}).context()


# --- The client -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:3128", "https://127.0.0.1:3128"])
def test_the_pool_is_ours_whatever_the_proxy(proxy: str | None) -> None:
    """httpcore's private name is still the one that we set, and the limits arrived."""
    with transport.transport(Tls().context(), proxy, Deadline()) as wire:
        pool = wire._pool
        assert isinstance(pool, httpcore.ConnectionPool)
        assert isinstance(pool, httpcore.HTTPProxy) is (proxy is not None)
        connection = pool.create_connection(httpcore.Origin(b"https", b"jira.example.com", 443))

        backend = getattr(connection, "_network_backend", None) or connection._connection._network_backend  # type: ignore[attr-defined]
        assert isinstance(backend, transport._Backend)
        assert (pool._max_connections, pool._max_keepalive_connections) == (1, 1)
        assert pool._keepalive_expiry == transport.KEEPALIVE_SECONDS
        assert pool._retries == 0


def test_the_headers_of_every_request_and_no_redirect_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(302, headers={"Location": "https://elsewhere.example.com/"})

    requests = transport.Requests(httpx.MockTransport(answer), "attachd/1")
    with requests.stream("GET", "https://jira.example.com/", httpx.Timeout(1.0), {}, None) as response:
        assert response.status_code == 302

    (request,) = seen
    assert request.headers["user-agent"] == "attachd/1"
    assert request.headers["accept"] == "application/json"
    assert request.headers["x-atlassian-token"] == "no-check"
