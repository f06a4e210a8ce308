"""Words to the service manager: over a real datagram socket, or to nobody without complaint."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd.service import watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Give the service manager's end, on both kinds of address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify")
        listening.bind(name if request.param == "path" else f"\0{name}")
        listening.settimeout(5)
        yield listening


def environ(manager: socket.socket) -> dict[str, str]:
    address = manager.getsockname()
    return {"NOTIFY_SOCKET": address if isinstance(address, str) else f"@{address[1:].decode()}"}


@pytest.mark.parametrize(
    ("fields", "datagram"),
    [
        ({"ready": True}, b"READY=1"),
        ({"stopping": True}, b"STOPPING=1"),
        ({"watchdog": True}, b"WATCHDOG=1"),
        ({"status": "3 files wait"}, b"STATUS=3 files wait"),
        ({"status": ""}, b"STATUS="),
        ({"status": "ümlaut"}, "STATUS=ümlaut".encode()),
        ({"extend_timeout_usec": 5_000_000}, b"EXTEND_TIMEOUT_USEC=5000000"),
        ({"ready": True, "status": "up"}, b"READY=1\nSTATUS=up"),
        ({"status": "a\nWATCHDOG=trigger\x1b\udcff"}, b"STATUS=a?WATCHDOG=trigger??"),
        ({"status": "x" * 5000}, b"STATUS=" + b"x" * 500),
    ],
)
def test_a_word_arrives_as_one_datagram(manager: socket.socket, fields: dict[str, Any], datagram: bytes) -> None:
    watchdog.send(**fields, environ=environ(manager))

    assert manager.recv(65536) == datagram


def test_the_variable_of_the_process_counts(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", environ(manager)["NOTIFY_SOCKET"])

    watchdog.send(ready=True)

    assert manager.recv(65536) == b"READY=1"


def test_nothing_to_say_is_not_said(manager: socket.socket) -> None:
    manager.setblocking(False)

    watchdog.send(environ=environ(manager))

    with pytest.raises(BlockingIOError):
        manager.recv(65536)


@pytest.mark.parametrize(
    "address",
    [None, "", "/nowhere/notify", "@nobody-listens-here", "relative", "vsock:2:1", "/" + "x" * 200, "/a\0b", "/\udcff"],
)
def test_nobody_to_tell_is_no_error(address: str | None) -> None:
    watchdog.send(ready=True, status="up", environ={} if address is None else {"NOTIFY_SOCKET": address})


def test_a_manager_that_does_not_read_holds_nobody_for_long(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SEND_SECONDS", 0.001)

    for _ in range(1000):
        watchdog.send(watchdog=True, environ=environ(manager))

    assert manager.recv(65536) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_time_is_that_of_this_process(variables: dict[str, str], seconds: float | None) -> None:
    assert watchdog.watchdog_seconds(variables) == seconds
