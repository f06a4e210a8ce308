"""One life and its death: laid out, lived until the death that is set, recovered, and looked at by the oracle."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from installation import Place
from system.crash import disks, oracle, tracing
from system.crash import scene as scenes
from system.crash.scene import Scene, Site
from system.crash.workloads import ALL, Workload

#: A death that is never reached.
NEVER = 10**6
#: Every so many lives a further start is made, which must change nothing, and send nothing.
IDLE_EVERY = 6


@dataclass(frozen=True, slots=True)
class Death:
    """How and where a life ends: before its ``at``-th call ("kill", "cut"), or with that call refused ("fail")."""

    workload: str
    how: str
    at: int
    #: "kill": the first recovery is killed too, before this call of it. "fail": which of the errors that are plausible.
    then: int = 0


@dataclass(slots=True)
class Told:
    """What came of it."""

    death: Death
    calls: int = 0
    call: str = ""
    error: str = ""
    reached: bool = False
    #: All calls that it made, in order, of a life that was let live.
    names: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)


class Grounds:
    """Where lives are lived: installations that are used again and again, one for each workload, and one stand-in."""

    def __init__(self, home: Path, url: str, *, power: bool = False) -> None:
        """Make everything below *home*; with *power* on disks whose power can be cut."""
        self._home, self._jira, self._power = home, Site(url), power
        self._places: dict[str, tuple[Place, disks.Disk | None, Path]] = {}
        #: Issue numbers that nobody else on this stand-in uses.
        self._number = int.from_bytes(os.urandom(5)) * 1000
        self._warm = False

    def live(self, death: Death) -> Told:
        """Live one life. The installation is thrown away where something was wrong, so that the next begins clean."""
        workload, told = ALL[death.workload], Told(death)
        place, disk = self._place(workload)
        self._number += 1
        scene = Scene(place, self._jira, self._number)
        self._jira.clear_faults()
        workload.lay(scene)
        if disk is not None:
            disk.sync()
        try:
            self._die(scene, workload, told, disk)
            if not told.wrong:
                self._recover(scene, workload, told)
        except scenes.Hung:
            told.wrong.append(f"B7 it did not end within {scenes.LIFE_SECONDS} s")
        told.crashed = oracle.tracebacks(place)
        if told.wrong or workload.fresh:
            self._leave(workload)
        else:
            scenes.clear(place)
        return told

    def end(self) -> None:
        """Take everything away."""
        for name in list(self._places):
            self._leave(ALL[name])

    # --- parts ---

    def _die(self, scene: Scene, workload: Workload, told: Told, disk: disks.Disk | None) -> None:
        death = told.death

        def decide(call: tracing.Call) -> tracing.Decision:
            if death.at == NEVER:
                told.names.append(call.name)
            if death.how == "fail" and not told.reached and call.number >= death.at:
                # The next call that can fail, with one of the errors that are plausible for it.
                if not (errors := tracing.ERRORS.get(call.name)):
                    return None
                error = errors[death.then % len(errors)]
                told.reached, told.call, told.error = True, call.name, errno.errorcode[error]
                return tracing.Refuse(error)
            if call.number != death.at or told.reached:
                return None
            told.reached, told.call = True, call.name
            if death.how == "cut" and disk is not None:
                disk.cut()
            return tracing.KILL

        numbers = tracing.CALLS | tracing.READING if death.how == "fail" else tracing.CALLS
        actor = workload.actor
        acting = None if actor is None else lambda leader: actor(scene, leader)
        told.calls = scenes.traced(scene.place, workload.words(scene), decide, numbers, acting).calls
        if death.how == "cut" and disk is not None:
            disk.restart()
        told.wrong += [f"at death: {each}" for each in oracle.at_death(scene)]

    def _recover(self, scene: Scene, workload: Workload, told: Told) -> None:
        workload.between(scene)
        if told.death.how == "kill" and told.death.then:
            at = told.death.then
            scenes.traced(
                scene.place, ("once",), lambda call: tracing.KILL if call.number == at else None, tracing.CALLS, None
            )
            told.wrong += (
                [f"at the second death: {each}" for each in oracle.at_death(scene)] if not workload.mend else []
            )
        if workload.mend is not None:
            scenes.once(scene.place, "--wait", "1")
            workload.mend(scene)
        code = scenes.until_quiet(scene.place)
        told.wrong += [*oracle.when_quiet(scene, code), *workload.also(scene, told.death.how)]
        if self._number % IDLE_EVERY == 0 and not told.wrong:
            before = {issue: self._jira.uploads(issue) for issue in scene.issues}
            if (code := scenes.once(scene.place)) != 0 or any(
                self._jira.uploads(issue) != count for issue, count in before.items()
            ):
                told.wrong.append(f"B10 a start with nothing to do ended with {code}, or sent something")
            told.wrong += [f"B10 {each}" for each in oracle.when_quiet(scene, 0)]

    def _place(self, workload: Workload) -> tuple[Place, disks.Disk | None]:
        if workload.name not in self._places:
            home = Path(tempfile.mkdtemp(dir=self._home, prefix=f"{workload.name}-"))
            disk = disks.Disk(home) if self._power else None
            self._places[workload.name] = self._made(home, workload, disk), disk, home
        return self._places[workload.name][:2]

    def _made(self, home: Path, workload: Workload, disk: disks.Disk | None) -> Place:
        """An installation; what is apart, or on another device, is off the disk whose power is cut, or on it alone."""
        home = home if disk is None or workload.apart or workload.devices else disk.path
        place = Place(home, self._jira.url)
        folders = ""
        for name in workload.elsewhere(cut=disk is not None):
            getattr(place, name).rmdir()
            above = disk.path if disk is not None else disks.other_device(home)
            setattr(place, name, Path(tempfile.mkdtemp(dir=above, prefix=f"attachd-{name}-")))
        for name in ("inbox", "done", "failed", "state"):
            folders += f'{name} = "{getattr(place, name)}"\n'
        place.configure(self._jira.url, scenes.SETTINGS, folders)
        place.config.write_text(_merged(place.config.read_text(), workload.settings.format(site=self._jira.url)))
        if not self._warm:
            scenes.preload(place)
            self._warm = True
            if workload.fresh:
                shutil.rmtree(place.state)
                shutil.rmtree(place.inbox / ".attachd")
                (place.home / "log").unlink()
        elif not workload.fresh:
            scenes.once(place)
        return place

    def _leave(self, workload: Workload) -> None:
        place, disk, home = self._places.pop(workload.name)
        for name in workload.elsewhere(cut=disk is not None):
            shutil.rmtree(getattr(place, name))
        if disk is not None:
            disk.close()
        shutil.rmtree(home)


def _merged(config: str, more: str) -> str:
    """Add the lines of a table to that table, or the table."""
    table, _, lines = more.partition("\n")
    return config.replace(table, f"{table}\n{lines}") if table and table in config else f"{config}{more}\n"
