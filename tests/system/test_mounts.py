"""The installed service on real mounts, which come and go while it runs. Each daemon has a mount namespace of its own.

NFS and SMB need a kernel with their clients, and are tried by hand in a virtual machine: ``tests/shares/try-shares``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from installation import Jira, Place
from waiting import wait_until


def _may_mount() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(not _may_mount(), reason="mounts need root, and a system that lets it mount")

#: A scan would find everything: here it comes too late to help.
LATE = "rescan_seconds = 600.0"


class Namespace:
    """A running daemon, and commands that see the mounts that it sees."""

    def __init__(self, place: Place, before: str) -> None:
        words = " ".join(f"'{word}'" for word in place.command("run"))
        script = f"mount --make-rprivate / && {before} && exec {words}"
        self.process = subprocess.Popen(["unshare", "-m", "sh", "-ec", script], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if "service.started" in line:
                break

    def run(self, script: str) -> None:
        subprocess.run(["nsenter", "-t", str(self.process.pid), "-m", "sh", "-ec", script], check=True)

    def end(self) -> None:
        self.process.terminate()
        _, rest = self.process.communicate(timeout=30)
        self.said += rest.splitlines()


@contextmanager
def running(place: Place, before: str = "true") -> Iterator[Namespace]:
    made = Namespace(place, before)
    try:
        yield made
    finally:
        made.end()
    assert made.process.returncode == 0, "".join(made.said)


def names(jira: Jira) -> set[str]:
    return {attachment["filename"] for attachment in jira.attachments()}


def late(place: Place, jira: Jira) -> None:
    place.configure(jira.url)
    place.config.write_text(place.config.read_text().replace("rescan_seconds = 1.0", LATE))


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "ext4"])
def test_on_local_file_systems_events_are_enough(place: Place, jira: Jira, kind: str) -> None:
    late(place, jira)
    home = place.home
    match kind:
        case "tmpfs":
            before = f"mount -t tmpfs none {place.inbox}"
        case "overlay":
            for name in ("disk", "lower"):
                (home / name).mkdir()
            options = f"lowerdir={home}/lower,upperdir={home}/disk/upper,workdir={home}/disk/work"
            before = (
                f"mount -t tmpfs none {home}/disk && mkdir {home}/disk/upper {home}/disk/work"
                f" && mount -t overlay none -o {options} {place.inbox}"
            )
        case _:
            before = (
                f"truncate -s 16M {home}/image && mkfs.ext4 -q {home}/image && mount -o loop {home}/image {place.inbox}"
            )
    with running(place, before) as daemon:
        daemon.run(f"mkdir -p {place.inbox}/TEST-1/sub && echo content > {place.inbox}/TEST-1/sub/a.txt")
        wait_until(lambda: names(jira) == {"sub-a.txt"})
        daemon.run(f"echo more > {place.inbox}/TEST-1/b.txt")
        wait_until(lambda: names(jira) == {"sub-a.txt", "b.txt"})
        wait_until(lambda: len(place.files(place.done)) == 2)

    assert "watch.blind" not in "".join(daemon.said)


def test_a_file_system_mounted_in_the_inbox_while_it_runs_is_served_and_may_go_again(place: Place, jira: Jira) -> None:
    """In an issue's folder; what lies under the mount point is hidden meanwhile, and nobody concludes that it is gone."""
    place.configure(jira.url)
    folder = place.inbox / "TEST-1"
    folder.mkdir()
    with running(place) as daemon:
        place.run("pause", "--issue", "TEST-1")
        place.drop("TEST-1/hidden.txt", b"hidden")
        wait_until(lambda: waiting(place) == 1)
        daemon.run(f"mount -t tmpfs none {folder} && echo x > {folder}/mounted.txt")
        wait_until(lambda: waiting(place) == 2)
        place.run("resume", "--issue", "TEST-1")
        wait_until(lambda: sorted(place.files(place.done)) == [b"TEST-1/mounted.txt"])
        # Until it is closed the service has the folder open, and the kernel would say that it is busy.
        wait_until(
            lambda: (
                "TEST-1/mounted.txt"
                in [row["file"] for row in json.loads(place.run("status", "--json").stdout)["last"]]
            )
        )
        daemon.run(f"umount {folder}")
        wait_until(lambda: sorted(place.files(place.done)) == [b"TEST-1/hidden.txt", b"TEST-1/mounted.txt"], 60)

    assert names(jira) == {"mounted.txt", "hidden.txt"}


def test_a_bind_mount_in_the_inbox_that_goes_leaves_nothing_to_conclude_from(place: Place, jira: Jira) -> None:
    """It is on the inbox's own file system, and so on its device: only the kernel's list of mounts tells."""
    place.configure(jira.url)
    folder, real = place.inbox / "TEST-1", place.home / "real"
    folder.mkdir()
    real.mkdir()
    with running(place, f"mount --bind {real} {folder}") as daemon:
        place.run("pause", "--issue", "TEST-1")
        daemon.run(f"echo x > {folder}/a.txt")
        wait_until(lambda: waiting(place) == 1)
        daemon.run(f"umount {folder}")
        wait_until(lambda: "not listed TEST-1" in place.run("status").stdout)
        for number in range(4):  # Full scans, each of which misses it.
            place.drop(f"no key {number}/a.txt", b"x")
            wait_until(lambda: place.run("status").stdout.count("no issue") == number + 1)  # noqa: B023 - awaited here
        assert waiting(place) == 1
        daemon.run(f"mount --bind {real} {folder}")
        place.run("resume", "--issue", "TEST-1")
        wait_until(lambda: sorted(place.files(place.done)) == [b"TEST-1/a.txt"])

    assert [row["word"] for row in json.loads(place.run("history", "--json").stdout)] == ["attached"]


def waiting(place: Place) -> int:
    found = json.loads(place.run("status", "--json").stdout)
    return int(found["files"]["waiting"])


def test_an_inbox_that_is_unmounted_while_it_runs_is_waited_for_and_watched_again(place: Place, jira: Jira) -> None:
    """A bind mount goes and comes back: what lies on it then is found, by its event, too."""
    late(place, jira)
    real = place.home / "real"
    real.mkdir()
    with running(place, f"mount --bind {real} {place.inbox}") as daemon:
        daemon.run(f"mkdir {place.inbox}/TEST-1 && echo 1 > {place.inbox}/TEST-1/first.txt")
        wait_until(lambda: names(jira) == {"first.txt"})
        daemon.run(f"umount -l {place.inbox}")  # as when a share is lost: the lock in it is held
        (real / "TEST-1/away.txt").write_bytes(b"dropped on the server meanwhile")
        daemon.run(f"mount --bind {real} {place.inbox}")
        wait_until(lambda: "away.txt" in names(jira), 30)
        daemon.run(f"echo 3 > {place.inbox}/TEST-1/last.txt")
        wait_until(lambda: names(jira) == {"first.txt", "away.txt", "last.txt"})

    assert os.listdir(place.inbox) == [], "nothing was made in the folder under the mount point"
