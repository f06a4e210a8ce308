"""What a service that was taken over could do: run in its place, under its unit, and prints what it got, as JSON.

By nothing but the standard library, and by itself: it is copied into the machine.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

_NEW_USER_NAMESPACE = 0x10000000
#: Unlike an attach, it does not stop the other process (ptrace(2)).
_SEIZE = 0x4206
_PLACES = (
    *("/", "/boot", "/dev", "/dev/shm", "/etc", "/etc/attachd", "/etc/systemd/system", "/home", "/home/alice", "/opt"),
    *("/opt/attachd", "/root", "/run", "/srv", "/srv/attachd", "/srv/attachd/done", "/srv/attachd/failed"),
    *("/srv/attachd/inbox", "/sys", "/tmp", "/usr/bin", "/usr/lib", "/var", "/var/lib", "/var/lib/attachd"),
    *("/var/lib/jira", "/var/log", "/var/spool", "/var/tmp"),
)


def main() -> None:
    """Try everything; a call that succeeds is named."""
    libc = ctypes.CDLL(None, use_errno=True)
    tries: dict[str, Callable[[], object]] = {
        "read the token's file": lambda: Path("/etc/attachd/token").read_text(),
        "read the passwords": lambda: Path("/etc/shadow").read_text(),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "become root": lambda: os.setuid(0),
        "give a file away": lambda: os.chown(_file("/tmp"), 0, 0),
        "make a setuid file": lambda: os.chmod(_file("/tmp"), 0o4755),
        "make code at run time": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
        "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "set the host's name": lambda: socket.sethostname(socket.gethostname()),
        "mount": lambda: _called(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
        "trace another process": lambda: _called(libc.ptrace(_SEIZE, 1, 0, 0)),
        "signal the first process": lambda: os.kill(1, 0),
        "work in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        # The last one: where it succeeds, it changes what this process is.
        "make a user namespace": lambda: _called(libc.unshare(_NEW_USER_NAMESPACE)),
    }
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "writable": [place for place in _PLACES if _succeeds(lambda place=place: _file(place))],
        "did": [what for what, do in tries.items() if _succeeds(do)],
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "capabilities": int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapBnd"], 16),
        "credentials": os.listdir(os.environ["CREDENTIALS_DIRECTORY"]),
    }
    print(json.dumps(found))
    sys.stdout.flush()


def _file(folder: str) -> str:
    path = os.path.join(folder, "planted")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def _called(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _succeeds(do: Callable[[], object]) -> bool:
    try:
        do()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
