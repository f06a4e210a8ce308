"""One life: made up from a seed, lived, healed, and judged."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lives.fake_jira import FakeJira
from lives.house import Died, House, wait_for
from lives.ledger import Violation, digest, key_of
from lives.people import DEEDS, FORGETTING, Deed, Life, move_back, not_attached, welcome, write_more
from lives.plots import OFTEN, PLOTS, Layout, Plot

#: How long a healed installation may take until nothing waits any more, in seconds.
HEALED = 40.0


@dataclass(frozen=True)
class Script:
    """A life before it is lived."""

    seed: int
    layout: Layout
    deeds: tuple[Deed, ...]
    #: The plot that it is, if it is one.
    name: str = ""


@dataclass
class Outcome:
    """What a life came to."""

    script: Script
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0
    logs: str = ""

    @property
    def kinds(self) -> set[str]:
        """The promises that were broken."""
        return {each.kind for each in self.violations}


def write(seed: int) -> Script:
    """Make up a life. The same seed makes the same life, on any machine."""
    chance = random.Random(seed)
    plots = [chance.choice(PLOTS)]
    while chance.random() < 0.35:
        other = chance.choice(PLOTS)
        if other.layout in (plots[0].layout, Layout()):
            plots.append(other)
    site = chance.choice(plots[0].sites)
    layout = replace(plots[0].layout, site=site)
    story: list[Deed] = []
    for plot in plots:
        story += plot.deeds
        for _ in range(chance.choice((0, 0, 1, 2))):
            story.insert(chance.randint(0, len(story)), _some(chance))
    if chance.random() < 0.3:
        story = [_some(chance) for _ in range(chance.randint(6, 16))]
    return Script(seed, layout, tuple(story))


def _some(chance: random.Random) -> Deed:
    return chance.choice(OFTEN), chance.randint(0, 9999), chance.randint(0, 9999)


def of_plot(plot: Plot, seed: int) -> Script:
    """The life that is nothing but this plot."""
    site = random.Random(seed).choice(plot.sites)
    return Script(seed, replace(plot.layout, site=site), plot.deeds, plot.name)


def live(script: Script, jira: FakeJira, program: str, folder: Path, small: Path | None) -> Outcome:
    """Live a life, and say what was broken. *small*: where a small disk is mounted."""
    began, outcome = time.monotonic(), Outcome(script)
    jira.forget(script.layout.site)
    jira.forgotten = any(name in FORGETTING for name, _, _ in script.deeds)
    home = Path(tempfile.mkdtemp(prefix="life-", dir=folder))
    disk = Path(tempfile.mkdtemp(dir=small)) if small and script.layout.small else None
    apart, retention = script.layout.apart, script.layout.retention
    house = House(home, program, jira.url, small=disk, apart=apart, retention=retention)
    life = Life(house, jira, random.Random(script.seed))
    if script.layout.largest:
        largest = script.layout.largest
        house.limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if script.layout.clock:
        house.with_own_clock()
    try:
        house.first.start()
        for name, first, second in script.deeds:
            DEEDS[name](life, first, second)
        for item in life.ledger.items:
            # What done cannot hold is attached, and stays.
            item.may_stay |= 0 < script.layout.largest < item.size
        # One file that done cannot hold is no trouble of the others': they need no person.
        helped = not script.layout.largest or any(name == "pause" for name, _, _ in script.deeds)
        outcome.violations += _heal(life, helped=helped)
        told = house.verb("once", "--wait", "5") == 4
        if told and not list(house.files(house.inbox)):
            # What was taken out of the inbox in doubt has its looks yet.
            told = house.verb("once", "--wait", "20") == 4
        outcome.violations += life.ledger.violations(house, jira, told_that_some_wait=told)
    except Died as died:
        outcome.violations.append(Violation("died", str(died)))
    finally:
        outcome.logs = house.logs()
        jira.calm()
        house.remove()
        if disk:
            shutil.rmtree(disk, ignore_errors=True)
    if "Traceback (most recent call last)" in outcome.logs:
        outcome.violations.append(Violation("traceback", _last_traceback(outcome.logs)))
    outcome.seconds = time.monotonic() - began
    return outcome


def _last_traceback(logs: str) -> str:
    lines = logs[logs.rindex("Traceback (most recent call last)") :].splitlines()
    return next((line for line in lines[1:] if line and not line.startswith(" ")), lines[-1])[:200]


def _heal(life: Life, *, helped: bool) -> list[Violation]:
    """Put right whatever troubles this life, and let everything come to its end while the service runs.

    *helped*: somebody says ``attachd resume``, instead of waiting for that.
    """
    house, jira = life.house, life.jira
    welcome(life, 0, 0)
    write_more(life, 0, 0)
    jira.calm()
    house.free()
    house.done_comes_back()
    house.second.stop()
    house.first.start()
    house.first.send(signal.SIGCONT)
    if helped:
        house.verb("resume")
    waiting = _left(life)
    for _ in range(3):
        failed = [str(path) for path in not_attached(life)]
        if not failed:
            break
        # A person looked at the issues: these are not there. (Earlier versions have no word for that.)
        if house.verb("retry", "--not-attached", *failed) == 2:
            house.verb("retry", *failed)
        # What a lost journal knew of can only be moved by hand.
        for path in not_attached(life):
            move_back(life, path)
        house.verb("resume")
        waiting = _left(life)
    house.first.stop()
    return [Violation("stuck", f"{path} waits although nothing troubles it") for path in waiting]


def _left(life: Life) -> list[str]:
    """What lies in the inbox and has to go, once nothing does, or after a long wait."""
    stay = {item.sha256 for item in life.ledger.items if item.may_stay}
    left: list[str] = []

    def quiet() -> bool:
        life.house.first.check()
        with suppress(OSError):
            left[:] = [str(path) for path in life.house.files(life.house.inbox) if _goes(life, path, stay)]
        return not left

    wait_for(quiet, HEALED)
    return left


def _goes(life: Life, path: Path, stay: set[str]) -> bool:
    below = str(path.relative_to(life.house.inbox))
    if key_of(below) is None or path.name == ".attachdignore":
        return False
    return digest(path.read_bytes()) not in stay


def shrink(script: Script, kinds: set[str], again: Callable[[Script], Outcome], tries: int = 2) -> Script:
    """Leave out deeds as long as one of the same promises is broken; each shorter life is tried so many times."""
    deeds_left: Sequence[Deed] = script.deeds
    step = max(1, len(deeds_left) // 2)
    while True:
        for start in range(0, len(deeds_left), step):
            shorter = replace(script, deeds=(*deeds_left[:start], *deeds_left[start + step :]))
            if any(again(shorter).kinds & kinds for _ in range(tries)):
                deeds_left = shorter.deeds
                break
        else:
            if step == 1:
                return replace(script, deeds=tuple(deeds_left))
            step //= 2
