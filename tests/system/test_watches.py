"""The kernel's own limit of watches, lowered for one process by a user namespace: the rest is scanned, and it is said."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from installation import Jira, Place
from waiting import wait_until

LIMIT, FOLDERS = 20, 50
LOWER = f"echo {LIMIT} > /proc/sys/user/max_inotify_watches"


def _may_lower() -> bool:
    found = shutil.which("unshare")
    return found is not None and subprocess.run([found, "-Ur", "sh", "-c", LOWER], check=False).returncode == 0


@pytest.mark.skipif(not _may_lower(), reason="this system has no user namespaces in which the limit can be lowered")
def test_when_watches_run_out_every_folder_is_served_all_the_same_and_status_names_the_sysctl(
    place: Place, jira: Jira
) -> None:
    place.config.write_text(place.config.read_text().replace("rescan_seconds = 1.0", "rescan_seconds = 600.0"))
    for number in range(1, FOLDERS + 1):
        (place.inbox / f"TEST-{number}").mkdir()
    words = " ".join(f"'{word}'" for word in place.command("run"))
    with (place.home / "log").open("wb") as log:
        daemon = subprocess.Popen(["unshare", "-Ur", "sh", "-c", f"{LOWER} && exec {words}"], stderr=log)
    try:
        wait_until(lambda: "watch.exhausted" in (place.home / "log").read_text())
        for number in range(1, FOLDERS + 1):
            place.drop(f"TEST-{number}/a.txt", b"%d" % number)
        wait_until(lambda: len(jira.attachments()) == FOLDERS)
        status = json.loads(place.run("status", "--json").stdout)
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0

    (reason,) = status["events"]["blind"].values()
    assert "fs.inotify.max_user_watches" in reason
    assert "sysctl fs.inotify.max_user_watches=" in (place.home / "log").read_text()
