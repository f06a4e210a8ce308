"""Many lives at once: what is to be lived is dealt out to workers, and what came of it is gathered."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue

from installation import Jira
from system.crash.campaign import NEVER, Death, Told
from system.crash.workloads import ALL

_TESTS = Path(__file__).resolve().parents[2]
#: Where lives are lived: in memory, so that a synchronisation costs nothing; a power cut has disks of its own.
_GROUND = Path("/dev/shm")


@contextmanager
def workers(count: int, *, power: bool = False, package: Path | None = None) -> Iterator[list[subprocess.Popen[str]]]:
    """Start workers, each with a stand-in of its own; *package*: a folder in which another ``attachd`` lies."""
    paths = [str(package or _TESTS.parent / "daemon"), str(_TESTS)]
    # Plain http needs no authorities, and reading those of the system takes as long as the rest of a life.
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "SSL_CERT_FILE": os.devnull,
        "SSL_CERT_DIR": os.devnull,
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_GROUND, prefix="attachd-crash-"))
        started = []
        for number in range(count):
            jira = Jira(Path(folder, f"jira-{number}"))
            stack.callback(jira.close)
            words = [sys.executable, "-m", "system.crash.worker", folder, jira.url, "power" if power else ""]
            worker = subprocess.Popen(
                words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
            stack.callback(_end, worker)
            started.append(worker)
        yield started


def _end(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    with suppress(BrokenPipeError):  # one that died
        worker.stdin.close()
    worker.wait()
    worker.stdout.close()


def live(
    started: Sequence[subprocess.Popen[str]],
    deaths: Iterable[Death],
    told: Callable[[Told], None] = lambda told: None,
    until: Callable[[], bool] = lambda: False,
) -> list[Told]:
    """Have all *deaths* died; stops early where *until* says so. *told* hears of each."""
    waiting: SimpleQueue[Death] = SimpleQueue()
    for death in deaths:
        waiting.put(death)
    gathered: list[Told] = []

    def serve(worker: subprocess.Popen[str]) -> None:
        while not until():
            try:
                death = waiting.get_nowait()
            except Empty:
                return
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(json.dumps(asdict(death)) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
            values = json.loads(line) if line else {"wrong": ["its worker died, as it says on stderr"]}
            each = Told(**(values | {"death": death}))
            gathered.append(each)
            told(each)
            if not line:
                return

    threads = [threading.Thread(target=serve, args=[worker]) for worker in started]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return gathered


def lengths(started: Sequence[subprocess.Popen[str]], names: Iterable[str]) -> dict[str, int]:
    """How many calls a life of each kind has, when nothing happens to it. Raises ``AssertionError`` where that goes wrong."""
    found = live(started, [Death(name, "kill", NEVER) for name in names])
    assert not [each for each in found if each.wrong], [each for each in found if each.wrong]
    return {each.death.workload: each.calls for each in found}


def everywhere(calls: dict[str, int], how: str) -> list[Death]:
    """One death before each call of each workload; a few more, as no two lives are of one length."""
    return [Death(name, how, at) for name, count in calls.items() for at in range(1, count + count // 20 + 1)]


def drawn(dice: random.Random, calls: dict[str, int], how: str, count: int) -> list[Death]:
    """So many deaths anywhere; "pair": the recovery is killed too."""
    made = []
    for _ in range(count):
        name = dice.choice(sorted(calls))
        then = dice.randint(1, calls[name]) if how == "pair" else 0
        made.append(Death(name, "kill" if how == "pair" else how, dice.randint(1, calls[name]), then))
    return made


def refused(dice: random.Random, calls: dict[str, int], count: int) -> list[Death]:
    """So many lives of which one call fails. Which call it will be shows only when it comes, and with it which errors fit."""
    # Calls that only read are counted too here: about three times as many.
    return [
        Death(name, "fail", dice.randint(1, 3 * calls[name]), dice.randrange(1000))
        for name in (dice.choice(sorted(calls)) for _ in range(count))
    ]


def names() -> list[str]:
    """All workloads."""
    return list(ALL)


class Progress:
    """A line now and then for the person who waits; each death that went wrong at once."""

    def __init__(self, what: str, total: int) -> None:
        """Count up to *total*."""
        self._what, self._total, self._count, self._wrong = what, total, 0, 0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, told: Told) -> None:
        """One more."""
        with self._lock:
            self._count += 1
            if told.wrong:
                self._wrong += 1
                print(f"{told.death} before {told.call}:", *told.wrong, sep="\n    ", flush=True)
            if self._count % 200 == 0 or self._count == self._total:
                seconds = time.monotonic() - self._began
                print(f"{self._what}: {self._count} of {self._total}, {self._wrong} wrong, {seconds:.0f} s", flush=True)
