"""The installed service tells the service manager that it is ready, and from then on that all is well."""

from __future__ import annotations

import os
import socket
import subprocess

from installation import Jira, Place


def test_the_service_manager_hears_that_it_is_ready_and_then_again_and_again_that_all_is_well(
    place: Place, jira: Jira
) -> None:
    del jira
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place.home / "notify"))
        manager.settimeout(30.0)
        environ = os.environ | {"NOTIFY_SOCKET": str(place.home / "notify"), "WATCHDOG_USEC": "60000000"}
        with place.start(stderr=subprocess.DEVNULL, env=environ) as daemon:
            heard: list[bytes] = []
            while heard.count(b"WATCHDOG=1") < 2:
                heard.append(manager.recv(1000))
            daemon.terminate()
            while b"STOPPING=1" not in heard:
                heard.append(manager.recv(1000))
            assert daemon.wait(30) == 0

    assert heard[0].startswith(b"READY=1")
