"""The steps of `install` and `uninstall`, as a list that is complete before the first step is taken."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attachd.config import Config
from attachd.errors import Mistake, Problem
from attachd.fs.whole_file import write_whole
from attachd.setup import units

_SYSTEM = Path("/etc/systemd/system")
_SYSUSERS, _TMPFILES = Path("/etc/sysusers.d"), Path("/etc/tmpfiles.d")
_DROP_IN = "10-attachd.conf"


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this text. An existing file stays (*kept*), or must have this text already unless --refresh is given."""

    path: Path
    text: str
    mode: int = 0o644
    group: str | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A command. *may_fail*: it may have nothing to do."""

    words: tuple[str, ...]
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the user."""

    path: Path
    mode: int = 0o700


@dataclass(frozen=True, slots=True)
class Remove:
    """A file that attachd installed, and its folder if that is empty then."""

    path: Path


Step = Write | Run | Folder | Remove


@dataclass(frozen=True, slots=True)
class Aim:
    """The service to install: the system's, an *instance* of it, or that of the user whose home is *home*."""

    command: Path
    file: Path
    instance: str | None = None
    home: Path | None = None

    @property
    def service(self) -> str:
        """The name of the service for systemctl."""
        return f"attachd@{self.instance}" if self.instance else "attachd"

    @property
    def systemctl(self) -> str:
        """The systemctl command that controls the service."""
        return "systemctl --user" if self.home else "systemctl"

    @property
    def unit(self) -> Path:
        """The file of the unit."""
        if self.home:
            return self.home / ".config/systemd/user/attachd.service"
        return _SYSTEM / ("attachd@.service" if self.instance else "attachd.service")

    @property
    def drop_in(self) -> Path:
        """The drop-in with what the configuration changes."""
        return _SYSTEM / f"{self.service}.service.d" / _DROP_IN

    @property
    def tmpfiles(self) -> Path:
        """The tmpfiles.d file with its folders."""
        return _TMPFILES / (f"attachd-{self.instance}.conf" if self.instance else "attachd.conf")


def for_system(aim: Aim, config: Config, is_ours: Callable[[Path], bool]) -> list[Step]:
    """The steps to a service of the system. *is_ours*: whether a folder may be made, or given owner and mode."""
    folders = units.tmpfiles(each for each in units.needed(config) if is_ours(each.path))
    name = "attachd@.service" if aim.instance else "attachd.service"
    own = aim.file if not aim.instance else None
    steps: list[Step] = [
        Write(_SYSUSERS / "attachd.conf", units.shipped("attachd.sysusers.conf")),
        Run(("systemd-sysusers", str(_SYSUSERS / "attachd.conf"))),
        Write(aim.tmpfiles, folders),
        Run(("systemd-tmpfiles", "--create", str(aim.tmpfiles))),
        Write(aim.file, units.sample(aim.instance), 0o640, "attachd", kept=True),
        *(Write(path, "", 0o600, kept=True) for path in units.credential_files(config, aim.instance)),
        Write(aim.unit, units.unit(name, aim.command, own)),
    ]
    if text := units.drop_in(config, aim.instance):
        steps.append(Write(aim.drop_in, text))
    else:
        steps.append(Remove(aim.drop_in))
    return [*steps, Run(("systemctl", "daemon-reload"))]


def for_user(aim: Aim, config: Config) -> list[Step]:
    """Return the steps that install a user's own service."""
    folders = config.folders
    return [
        Folder(aim.file.parent),
        Write(aim.file, units.sample(None, folders.inbox), 0o600, kept=True),
        Write(aim.file.with_name("token"), "", 0o600, kept=True),
        *(Folder(path) for path in (folders.inbox, folders.done, folders.failed)),
        Write(aim.unit, units.unit("attachd-user.service", aim.command, aim.file)),
        Run(("systemctl", "--user", "daemon-reload")),
    ]


def undone(aim: Aim, others: Collection[str]) -> list[Step]:
    """Return the steps that uninstall. Data and configuration stay, and so does what *others* (names of services) need."""
    if aim.home:
        return [
            Run(("systemctl", "--user", "disable", "--now", "attachd"), may_fail=True),
            Remove(aim.unit),
            Run(("systemctl", "--user", "daemon-reload")),
        ]
    steps: list[Step] = [
        Run(("systemctl", "disable", "--now", aim.service), may_fail=True),
        Remove(aim.drop_in),
        Remove(aim.tmpfiles),
    ]
    if not (aim.instance and any(name.startswith("attachd@") for name in others)):
        steps.append(Remove(aim.unit))
    if not others:
        steps.append(Remove(_SYSUSERS / "attachd.conf"))
    return [*steps, Run(("systemctl", "daemon-reload"))]


def installed() -> set[str]:
    """Return the names of installed system services: each has a tmpfiles.d file, or is at least enabled."""
    made = {path.stem.replace("attachd-", "attachd@", 1) for path in _TMPFILES.glob("attachd*.conf")}
    enabled = {path.name.removesuffix(".service") for path in _SYSTEM.glob("*.wants/attachd*.service")}
    changed = {path.name.removesuffix(".service.d") for path in _SYSTEM.glob("attachd*.service.d")}
    return (made | enabled | changed) - {"attachd@"}


def misplaced(command: Path, prefixes: Iterable[Path]) -> Problem | None:
    """Return why a system service cannot run this program, or None.

    It runs only what root alone can change, and it cannot see homes. *prefixes* are those of the environment and of its
    interpreter.
    """
    remedy = "Install attachd where only root can write: python3 -m venv /opt/attachd (see README)."
    for place in prefixes:
        if units.in_home(place) or units.in_home(place.resolve()):
            return Problem(str(place), "is in a home, which the service cannot see.", remedy)
    if not command.exists():
        return Problem(str(command), "does not exist, because attachd was not installed by pip.", remedy)
    for place in (command, *command.parents):
        status = place.stat()
        if status.st_uid != 0 or stat.S_IMODE(status.st_mode) & 0o022:
            return Problem(str(place), "can be changed by users other than root.", remedy)
    return None


def conflicts(steps: Sequence[Step]) -> list[Problem]:
    """Return existing files that differ, because somebody may have changed them. Raises ``OSError`` if one cannot be read."""
    return [
        Problem(str(step.path), "already exists with different content.", "`--refresh` replaces it.")
        for step in steps
        if (isinstance(step, Write) and not step.kept and _differs(step))
        or (isinstance(step, Remove) and step.path.exists() and not step.path.read_text().startswith(units.MADE))
    ]


def _differs(step: Write) -> bool:
    return os.path.lexists(step.path) and (not step.path.exists() or step.path.read_text() != step.text)


def subject(step: Step) -> str:
    """Return the path or the command of a step."""
    return " ".join(step.words) if isinstance(step, Run) else str(step.path)


def take(step: Step) -> str:
    """Take one step, and return the result in a word. Raises ``errors.Mistake``."""
    try:
        match step:
            case Write():
                return _write(step)
            case Folder():
                there = step.path.is_dir()
                step.path.mkdir(step.mode, parents=True, exist_ok=True)
                return "kept" if there else "made"
            case Remove():
                there = step.path.exists()
                _remove(step.path)
                return "removed" if there else "absent"
            case Run():
                return "ran" if _run(step) else "failed"
    except OSError as error:
        raise Mistake(Problem(str(getattr(step, "path", "")), f"{error.strerror}.", ""), exit_code=1) from error


def _write(step: Write) -> str:
    if os.path.lexists(step.path) and (step.kept or not _differs(step)):
        return "kept"
    step.path.parent.mkdir(parents=True, exist_ok=True)
    # Where nothing lies now, nothing that comes meanwhile is replaced.
    there, name = os.path.lexists(step.path), os.fsencode(step.path.name)
    write_whole(step.path.parent, name, step.text.encode(), replace=there, mode=step.mode, exact=True, group=step.group)
    return "replaced" if there else "wrote"


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.name.endswith(".service.d") and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _run(step: Run) -> bool:
    if shutil.which(step.words[0]) is None:
        raise Mistake(
            Problem(step.words[0], "is missing, so this system has no systemd.", "Start `attachd run` in another way.")
        )
    done = subprocess.run(  # noqa: S603  commands of our own
        step.words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and not step.may_fail:
        said = (done.stderr or done.stdout).strip().splitlines()
        what = f"ended with exit status {done.returncode}: {said[-1] if said else 'no message'}."
        raise Mistake(
            Problem(" ".join(step.words), what, "Correct that, then run the same command again."), exit_code=1
        )
    return done.returncode == 0
