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

SLOW = {"kind": "slow", "delay": 0.2, "times": -1}


class Host(Place):
    """One of the two; its service is started again whenever it has ended."""

    def __init__(self, place: Place, name: str, url: str) -> None:
        self.home, self.config = place.home, place.home / f"{name}.toml"
        self.inbox, self.done, self.failed, self.state = place.inbox, place.done, place.failed, place.home / name
        self.configure(url, RULES, f'inbox = "inbox"\nstate = "{name}"')
        self.log = (place.home / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.codes: collections.Counter[int] = collections.Counter()
        self.frozen = self.resting = False
        self.until = self.more = 0.0

    def tend(self, other: Host) -> None:
        """Start it again where it has ended; one that is frozen or rests goes on some time after the *other* works."""
        if self.process is not None and self.process.poll() is not None:
            self.codes[self.process.returncode] += 1
            self.process = None
        if (self.frozen or self.resting) and (other.holds() or time.monotonic() >= self.until):
            self.until = min(self.until, time.monotonic() + self.more)
            if time.monotonic() >= self.until:
                self.frozen = self.resting = False
                self.signal(signal.SIGCONT)
        if self.process is None and not self.resting:
            self.process = self.start(stderr=self.log, stdout=self.log)

    def holds(self) -> bool:
        """Return True if its own name stands in the inbox's lock."""
        if self.process is None or self.frozen:
            return False
        with contextlib.suppress(OSError):
            return f'"pid": {self.process.pid},' in (self.inbox / ".attachd/lock").read_text()
        return False

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self, more: float, *, frozen: bool) -> None:
        """Be frozen, or stay down, until *more* seconds after the other works; not for ever."""
        self.frozen, self.resting, self.more = frozen, not frozen, more
        self.until = time.monotonic() + 15.0
        self.signal(signal.SIGSTOP if frozen else signal.SIGKILL)

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


@pytest.mark.timeout(2 * SECONDS + 200)
@pytest.mark.parametrize("exchanges", [False, True], ids=["killed and frozen", "and exchanged"])
def test_two_services_on_one_inbox_attach_each_file_once(place: Place, jira: Jira, *, exchanges: bool) -> None:
    chance = random.Random(SEED)
    hosts = [Host(place, name, jira.url) for name in ("state-a", "state-b")]
    for host in hosts:  # Each has worked here before: no journal is new.
        host.run("once")
    dropped: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    until, next_fault = time.monotonic() + SECONDS, time.monotonic() + 2.0
    # Answers that take a while have files wait, in both journals, and uploads be under way at each fault.
    jira.tell("faults", SLOW)
    try:
        while time.monotonic() < until:
            tend(hosts)
            content = f"{len(dropped)} {chance.random()}".encode()
            place.drop(f"TEST-{chance.randint(1, 6)}/{len(dropped)}.txt", content)
            dropped[hashlib.sha256(content).hexdigest()] += 1
            time.sleep(0.1)  # What was doubted is sent alone, after a look: some files a second.
            if time.monotonic() >= next_fault and any(host.holds() for host in hosts):
                next_fault = time.monotonic() + chance.uniform(0.5, 2.5)
                faults[strike(hosts, jira, chance, first=not faults, exchanges=exchanges)] += 1
        jira.clear_faults()

        def is_done() -> bool:
            tend(hosts)
            return place.is_emptied()

        with contextlib.suppress(AssertionError):  # what is left is printed below
            wait_until(is_done, 120.0 + SECONDS, 0.1)
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


def tend(hosts: list[Host]) -> None:
    for host, other in zip(hosts, reversed(hosts), strict=True):
        host.tend(other)


def strike(hosts: list[Host], jira: Jira, chance: random.Random, *, first: bool, exchanges: bool) -> str:
    """One fault, of the host that works; its name. The first one has both at work."""
    host = next((host for host in hosts if host.holds()), hosts[0])
    kinds = ["killed", "killed, and the other takes over", "frozen with a lost lock", "answer lost", "ended"]
    kind = chance.choice([*kinds, "exchanged", "exchanged"] if exchanges else kinds)
    match "frozen with a lost lock" if first else kind:
        case "killed" as kind:
            host.signal(signal.SIGKILL)
        case "killed, and the other takes over" as kind:
            host.wait(chance.uniform(0.0, 2.0), frozen=False)
        case "frozen with a lost lock" as kind:
            host.wait(chance.uniform(0.0, 3.0), frozen=True)
            with contextlib.suppress(OSError):
                (host.inbox / ".attachd/lock").unlink()
        case "answer lost" as kind:
            jira.clear_faults()
            jira.tell("faults", {"kind": "reset", "point": "reply"})
            jira.tell("faults", SLOW)
        case "ended" as kind:
            host.signal(signal.SIGTERM)
        case _:
            return exchange(host.inbox, chance)
    return kind
