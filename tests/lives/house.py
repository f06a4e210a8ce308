"""The folders, the service and the verbs of one life: all that the driver has, besides the Jira."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

#: When the service looks for the last time at an issue for a file in doubt, in seconds. A Jira of ours commits and lists what it
#: has before that, with seconds to spare, or much later.
LAST_LOOK = 4.0
#: For how long an answer is waited for.
REPLY = 4.0
#: What the service writes for people.
OURS = ("_STATUS.txt", "_WHY.txt")
#: Makes a wall clock that can be set for the program alone, where there is a C compiler.
_CLOCK_SOURCE = Path(__file__).with_name("clock.c")
#: How long a verb or a start may take on a busy machine, in seconds.
LONGEST = 120.0

_CONFIG = """
[folders]
inbox = "{inbox}"
done = "{done}"
failed = "{failed}"
state = "{state}"
[jira]
url = "{url}"
[jira.auth]
user = "us@example.com"
token = {{ file = "token" }}
[settle]
quiet_seconds = 0.05
quiet_seconds_unproven = 0.2
empty_seconds = 0.1
incomplete_seconds = 0.0
rescan_seconds = 0.3
[upload]
parallel = 2
reply_seconds = {reply}
slowest_bytes_per_second = 100000000
[doubt]
looks_seconds = [0.3, 1.0, {last_look}]
[fuse]
hold_minutes = 0.01
[log]
format = "json"
level = "debug"
"""
_RETENTION = """
[retention]
done_days = 1
"""


def _is_regular(path: Path) -> bool:
    """Whether it is a file: a pipe would be waited for, and what has gone meanwhile is none."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


class Died(Exception):
    """The service ended, and nobody had told it to."""


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Look until *condition* holds; False where it does not within *seconds*: people do not wait for ever either."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


class Service:
    """One `attachd run`, with a state folder of its own."""

    def __init__(self, house: House, name: str, state: Path) -> None:
        self.house, self.name, self.state = house, name, state
        self.config = house.home / f"{name}.toml"
        self.process: subprocess.Popen[bytes] | None = None
        self.said = house.home / f"{name}.log"
        self.configure(house.jira_url)

    def configure(self, url: str) -> None:
        """Write the configuration."""
        house = self.house
        folders = {"inbox": house.inbox, "done": house.done, "failed": house.failed, "state": self.state}
        told = _CONFIG.format(**folders, url=url, last_look=LAST_LOOK, reply=REPLY)
        self.config.write_text(told + (_RETENTION if house.retention else ""))

    def start(self, *, expect_running: bool = True) -> None:
        """Start it, and wait until it says that it is ready. Raises ``Died`` where it ends instead."""
        if self.process is not None:
            return
        self.house.done_comes_back()  # Without its folders it does not begin.
        address = str(self.house.home / f"{self.name}.sock")
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.said.open("ab") as said:
            ready.bind(address)
            ready.settimeout(0.1)
            env = self.house.env | {"NOTIFY_SOCKET": address}
            command = [self.house.program, "run", "-c", str(self.config)]
            self.process = subprocess.Popen(
                command, env=env, stdout=said, stderr=said, stdin=subprocess.DEVNULL, preexec_fn=self.house.limit
            )
            until = time.monotonic() + LONGEST
            while time.monotonic() < until:
                with suppress(TimeoutError):
                    if b"READY=1" in ready.recv(4096):
                        return
                if self.process.poll() is not None:
                    code, self.process = self.process.returncode, None
                    if expect_running and code != 75:
                        raise Died(f"{self.name} did not start: {code}")
                    return
        raise Died(f"{self.name} was not ready in time")

    def check(self) -> None:
        """Raise ``Died`` where it has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            code, self.process = self.process.returncode, None
            if code != 75:
                raise Died(f"{self.name} ended: {code}")

    def send(self, number: int) -> None:
        """Send it a signal; nothing where it does not run."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it. Raises ``Died`` where it ended before, or does not heed the signal."""
        self.check()
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            self.process.wait(LONGEST / 2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Died(f"{self.name} did not end when asked to") from None
        finally:
            self.process = None


class House:
    """One installation, a new one for each life."""

    def __init__(
        self,
        home: Path,
        program: str,
        jira_url: str,
        *,
        small: Path | None = None,
        apart: bool = False,
        retention: bool = False,
    ) -> None:
        """*small*: a small disk of its own for the state folder or, if *apart*, for done and failed. *retention*: what is in done
        for longer than a day is to be deleted.
        """
        self.home, self.program, self.jira_url = home, program, jira_url
        self.inbox = home / "inbox"
        self.small, self.retention = small, retention
        away = small if small and apart else home
        self.done, self.failed, self.away = away / "done", away / "failed", away / "done, away"
        self.states = (home if apart else small or home) / "state", home / "state-2"
        for folder in (self.inbox, self.done, self.failed):
            folder.mkdir(parents=True)
        token = home / "token"
        token.write_text("not-a-secret\n")
        token.chmod(0o600)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self.limit: Callable[[], None] | None = None
        self.has_own_clock, self._set, self._slept = False, 0, 0
        self.first, self.second = Service(self, "first", self.states[0]), Service(self, "second", self.states[1])
        self.outputs: list[str] = []

    def with_own_clock(self) -> bool:
        """Have the program read clocks that ``set_clock`` and ``sleep`` set; False where that cannot be had."""
        if (compiler := shutil.which("cc")) is None:
            return False
        library = self.home / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O", "-o", library, _CLOCK_SOURCE, "-ldl"], check=True)
        self.set_clock(0)
        self.has_own_clock = True
        self.env |= {"LD_PRELOAD": str(library), "LIVES_CLOCK": str(self.home / "clock")}
        return True

    def set_clock(self, seconds: int) -> None:
        """Set the program's wall clock so many seconds off the machine's."""
        self._set = seconds
        clock = os.open(self.home / "clock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        # Never shortened: it is mapped.
        os.pwrite(clock, struct.pack("qq", self._set + self._slept, self._slept), 0)
        os.close(clock)

    def sleep(self, seconds: int) -> None:
        """Have the machine sleep for so long, as far as the program can see: of its clocks CLOCK_MONOTONIC alone stands still."""
        self._slept += seconds
        self.set_clock(self._set)

    def verb(self, *words: str, service: Service | None = None, seconds: float = LONGEST) -> int:
        """Run a verb to its end; its exit code. What it said is kept."""
        config = (service or self.first).config
        command = [self.program, words[0], "-c", str(config), *words[1:]]
        try:
            ended = subprocess.run(
                command,
                env=self.env,
                capture_output=True,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                preexec_fn=self.limit,
            )
        except subprocess.TimeoutExpired:
            raise Died(f"`attachd {' '.join(words)}` did not end") from None
        self.outputs.append((ended.stdout + ended.stderr).decode("utf-8", "replace"))
        if ended.returncode < 0:
            raise Died(f"`attachd {' '.join(words)}` was ended by {signal.Signals(-ended.returncode).name}")
        return ended.returncode

    def begin_verb(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a verb that will be killed."""
        command = [self.program, words[0], "-c", str(self.first.config), *words[1:]]
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.env, stdout=nowhere, stderr=nowhere, stdin=nowhere)

    def files(self, root: Path) -> Iterator[Path]:
        """Every regular file below a folder that is a person's."""
        for above, folders, names in os.walk(root):
            if Path(above) == root and ".attachd" in folders:
                folders.remove(".attachd")
            yield from (path for name in names if name not in OURS and _is_regular(path := Path(above, name)))

    def fill(self, leave: int = 0) -> None:
        """Leave no room on the small disk, or so many bytes."""
        if self.small is None:
            return
        kept = self.small / "kept"
        with suppress(OSError):
            kept.write_bytes(b"x" * leave)
        with suppress(OSError), (self.small / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size):
                        pass
            os.fsync(filler.fileno())  # ext4 gives blocks out when it writes.
        kept.unlink(missing_ok=True)

    def free(self) -> None:
        """Make room again."""
        if self.small is not None:
            (self.small / "filler").unlink(missing_ok=True)

    def done_comes_back(self) -> None:
        """Have done at its place again."""
        if self.away.exists():
            self.away.rename(self.done)

    def logs(self) -> str:
        """All that the services and the verbs have said."""
        said = [each.said.read_text("utf-8", "replace") for each in (self.first, self.second) if each.said.exists()]
        return "\n".join([*said, *self.outputs])

    def end(self) -> None:
        """End what still runs, without a word."""
        for service in (self.first, self.second):
            if service.process is not None:
                service.process.kill()
                service.process.wait()
                service.process = None

    def remove(self) -> None:
        """Take it all away."""
        self.end()
        self.free()
        for folder in (self.done, self.failed, *self.states, self.home):
            shutil.rmtree(folder, ignore_errors=True)
