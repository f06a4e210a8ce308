"""What ``check`` finds out about the inbox's file systems: whether events come, and whether Linux tells who writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attachd.intake import mounts, reading
from attachd.intake.coverage import Coverage
from attachd.intake.gating import Writer
from attachd.intake.watching import Doorbell, Watch

#: CAP_LEASE in the effective set (capabilities(7), linux/capability.h).
_CAP_LEASE = 1 << 28


def events(inbox: Path) -> Iterator[tuple[str, str]]:
    """The mounts under *inbox* and, in a sentence, why events do not tell everything there; "" where they do."""
    watch = Watch(Doorbell())
    found = Coverage(inbox, watch)
    found.begin(0.0)
    try:
        reasons = found.reasons()
    finally:
        watch.stop()
    if not reasons:
        yield str(inbox), ""
    for mount, reason in reasons.items():
        yield mount, f"{reason}; it is looked through every {mounts.POLL_SECONDS:g} s"


def leases(inbox: Path) -> str:
    """Why it cannot be told of every file whether somebody writes it; "" where it can. Raises ``OSError``."""
    if mounts.below(inbox)[0].shared:
        return "on a network file system it cannot be told who writes a file"
    trial = inbox / f".attachd-{secrets.token_hex(4)}"
    descriptor = os.open(trial, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        answer = reading.writer(descriptor)
    finally:
        os.close(descriptor)
        trial.unlink(missing_ok=True)
    if answer is not Writer.NOBODY:
        return "the file system does not tell who writes a file (no leases)"
    return "" if _may_lease() else "of other users' files it is not told who writes them (no right CAP_LEASE)"


def _may_lease() -> bool:
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as lines:
        effective = next((line.split()[1] for line in lines if line.startswith(b"CapEff:")), b"0")
        return bool(int(effective, 16) & _CAP_LEASE)
    return False
