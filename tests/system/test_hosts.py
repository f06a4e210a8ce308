"""Two installed services on one inbox, each with a state folder of its own, as on two hosts that mount one share.

Each is started again when it ends, as systemd does. Meanwhile they are killed and frozen, their lock is lost, and their folder in
the inbox is renamed, deleted and exchanged. ``ATTACHD_HOSTS_SECONDS`` and ``ATTACHD_HOSTS_SEED`` make a campaign of it.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until

SECONDS = float(os.environ.get("ATTACHD_HOSTS_SECONDS", "6"))
SEED = int(os.environ.get("ATTACHD_HOSTS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
#: The last look comes so late that what a frozen host sends by an old look has arrived by then.
RULES = (
    "[doubt]\nlooks_seconds = [0.3, 1.0, 3.0]\n[upload]\nreply_seconds = 2.0\nparallel = 3\n[log]\nlevel = 'warning'"
)


class Host(Place):
    """One of the two; its service is started again whenever it has ended."""

    def __init__(self, place: Place, name: str, url: str) -> None:
        self.home, self.config = place.home, place.home / f"{name}.toml"
        self.inbox, self.done, self.failed, self.state = place.inbox, place.done, place.failed, place.home / name
        self.configure(url, RULES, f'inbox = "inbox"\nstate = "{name}"')
        self.log = (place.home / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.codes: collections.Counter[int] = collections.Counter()
        self.wakes = 0.0

    def tend(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            self.codes[self.process.returncode] += 1
            self.process = None
        if self.process is None:
            self.process = self.start(stderr=self.log, stdout=self.log)
        if self.wakes and time.monotonic() >= self.wakes:
            self.signal(signal.SIGCONT)
            self.wakes = 0.0

    def holds(self) -> bool:
        """Return True if its own name stands in the inbox's lock."""
        with contextlib.suppress(OSError):
            return f'"{self.state}"' in (self.inbox / ".attachd/lock").read_text()
        return False

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def freeze(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        self.wakes = time.monotonic() + seconds

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            self.process.wait(60)
        self.log.close()


def exchange(inbox: Path, chance: random.Random) -> str:
    """Do to our folder in the inbox what a sync client, a backup or a person does."""
    ours = inbox / ".attachd"
    deed = chance.choice(["lock removed", "lock replaced", "renamed", "copied", "deleted", "linked"])
    aside = inbox.parent / f"aside-{chance.randrange(1 << 40):x}"
    with contextlib.suppress(OSError):
        match deed:
            case "lock removed":
                (ours / "lock").unlink()
            case "lock replaced":
                shutil.copy(ours / "lock", aside)
                aside.rename(ours / "lock")
            case "renamed":
                ours.rename(aside)
            case "copied":
                shutil.copytree(ours, aside)
                ours.rename(f"{aside}-old")
                aside.rename(ours)
            case "deleted":
                shutil.rmtree(ours)
            case _:
                ours.rename(aside)
                ours.symlink_to(aside)
    return deed


@pytest.mark.timeout(SECONDS + 150)
@pytest.mark.parametrize("exchanges", [False, True], ids=["killed and frozen", "and exchanged"])
def test_two_services_on_one_inbox_attach_each_file_once(place: Place, jira: Jira, *, exchanges: bool) -> None:
    chance = random.Random(SEED)
    hosts = [Host(place, name, jira.url) for name in ("state-a", "state-b")]
    dropped: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    until, next_fault = time.monotonic() + SECONDS, time.monotonic() + 2.0
    # Answers that take a while have files wait, in both journals, and uploads be under way at each fault.
    jira.tell("faults", {"kind": "slow", "delay": 0.2, "times": -1})
    try:
        while time.monotonic() < until:
            for host in hosts:
                host.tend()
            content = f"{len(dropped)} {chance.random()}".encode()
            place.drop(f"TEST-{chance.randint(1, 6)}/{len(dropped)}.txt", content)
            dropped[hashlib.sha256(content).hexdigest()] += 1
            time.sleep(0.02)
            if time.monotonic() >= next_fault:
                next_fault = time.monotonic() + chance.uniform(0.3, 2.5)
                faults[strike(hosts, jira, chance, exchanges=exchanges)] += 1
        jira.clear_faults()

        def is_done() -> bool:
            for host in hosts:
                host.tend()
            return place.is_emptied()

        with contextlib.suppress(AssertionError):  # what is left is told below
            wait_until(is_done, 90.0, 0.1)
    finally:
        for host in hosts:
            host.end()
    stored = collections.Counter(each["sha256"] for each in jira.attachments())
    twice, lost = (stored - dropped).total(), (dropped - stored).total()
    left = sorted(place.files(place.inbox))
    told = f"seed {SEED}: {len(dropped)} files, {dict(faults)}, ends {[dict(host.codes) for host in hosts]}"
    print(f"{told}: {twice} twice, {lost} missing")
    assert (twice, lost) == (0, 0), told
    assert sorted(hashlib.sha256(c).hexdigest() for c in place.files(place.done).values()) == sorted(dropped), (
        told,
        left,
    )


def strike(hosts: list[Host], jira: Jira, chance: random.Random, *, exchanges: bool) -> str:
    """One fault; its name."""
    # Mostly the one that works.
    working = [host for host in hosts if host.holds()]
    host = chance.choice(working) if working and chance.random() < 0.8 else chance.choice(hosts)
    kinds = ["killed", "frozen", "lock lost while frozen", "answer lost", "ended"]
    match kind := chance.choice([*kinds, "exchanged", "exchanged"] if exchanges else kinds):
        case "killed":
            host.signal(signal.SIGCONT)
            host.signal(signal.SIGKILL)
        case "frozen":
            host.freeze(chance.uniform(0.2, 6.0))
        case "lock lost while frozen":
            host.freeze(chance.uniform(3.0, 8.0))
            with contextlib.suppress(OSError):
                (host.inbox / ".attachd/lock").unlink()
        case "answer lost":
            jira.clear_faults()
            jira.tell("faults", {"kind": "reset", "point": "reply"})
            jira.tell("faults", {"kind": "slow", "delay": 0.2, "times": -1})
        case "ended":
            host.signal(signal.SIGTERM)
        case _:
            return exchange(host.inbox, chance)
    return kind
