"""What ``install`` and ``uninstall`` do: for which service, its steps taken and told, and what is left to do by hand."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from attachd import config as configuration
from attachd.cli import common
from attachd.config import Config, loader
from attachd.errors import Mistake, Problem
from attachd.setup import steps as setup_steps
from attachd.setup import units
from attachd.setup.steps import Aim, Remove, Run, Step, Write


def install_service(
    file: Path | None, instance: str | None, *, user: bool, dry_run: bool, refresh: bool, as_json: bool
) -> None:
    """Make the service. Raises ``errors.Mistake``."""
    with _rights_told():
        aim = _aim(file, instance, user=user, dry_run=dry_run)
        prefixes = Path(sys.prefix), Path(sys.base_prefix)
        misplaced = None if user else setup_steps.misplaced(aim.command, prefixes)
        settings = _settings(aim)
        steps = setup_steps.for_user(aim, settings) if user else setup_steps.for_system(aim, settings, _is_ours)
        problems = [*([misplaced] if misplaced else []), *([] if refresh else setup_steps.conflicts(steps))]
        # What would be done is shown also where something is in the way.
        if dry_run or not problems:
            _take(steps, dry_run=dry_run, as_json=as_json)
        if problems:
            raise Mistake(*problems, exit_code=1)
        if not dry_run and not as_json:
            _tell_next(aim, settings)


def uninstall_service(file: Path | None, instance: str | None, *, user: bool, dry_run: bool, as_json: bool) -> None:
    """Undo it. Raises ``errors.Mistake``."""
    with _rights_told():
        aim = _aim(file, instance, user=user, dry_run=dry_run)
        _take(setup_steps.undone(aim, setup_steps.installed() - {aim.service}), dry_run=dry_run, as_json=as_json)
    if not dry_run and not as_json:
        kept = (
            "Configuration, token, journal, folders and the user are still there; remove them by hand if you are sure."
        )
        print(f"\n{kept}")


@contextmanager
def _rights_told() -> Iterator[None]:
    """What `--dry-run` may not look at, as another user than root."""
    try:
        yield
    except PermissionError as error:
        problem = Problem(str(error.filename), "may not be looked at by this user.", "Use sudo.")
        raise Mistake(problem, exit_code=1) from error


def _aim(file: Path | None, instance: str | None, *, user: bool, dry_run: bool) -> Aim:
    """Which service. Raises ``errors.Mistake``."""
    command = Path(sys.executable).with_name("attachd")
    if user:
        if instance:
            raise Mistake(Problem("--instance", "cannot be given together with --user.", "Use -c FILE."), exit_code=2)
        home = loader.home(os.environ)
        return Aim(command, (file or home / ".config/attachd/config.toml").absolute(), home=home)
    if os.geteuid() != 0 and not dry_run:
        what = "needs root: it makes a user, folders and units."
        raise Mistake(Problem("install", what, "Use sudo; or --user, or --dry-run."), exit_code=1)
    if file and instance:
        raise Mistake(Problem("--instance", "cannot be given together with -c.", "Give one of them."), exit_code=2)
    chosen = loader.of_instance(instance) if instance else file or loader.SYSTEM_FOLDER / loader.FILE_NAME
    if units.in_home(chosen.absolute()):
        what = "lies below a home, of which the service sees nothing."
        raise Mistake(Problem(str(chosen), what, f"Put it into {loader.SYSTEM_FOLDER}; or use --user."), exit_code=1)
    if not instance and chosen.absolute().parent == loader.SYSTEM_FOLDER and chosen.name != loader.FILE_NAME:
        what = f"would be the configuration of the instance {chosen.stem}."
        remedy = f"Give --instance {chosen.stem}, or put it elsewhere."
        raise Mistake(Problem(str(chosen), what, remedy), exit_code=2)
    return Aim(command, chosen.absolute(), instance)


def _settings(aim: Aim) -> Config:
    """The configuration that is there, or the one that is begun. Raises ``errors.Mistake``."""
    if aim.file.exists():
        return configuration.load(aim.file, check_token=False)
    inbox = aim.home / "attachd" / "inbox" if aim.home else None
    return configuration.parse(
        units.sample(aim.instance, inbox), base=aim.file.parent, file=aim.file, check_token=False
    )


def _is_ours(folder: Path) -> bool:
    """Whether a folder is the service's, or nobody's yet; below folders of root's, as systemd-tmpfiles wants it."""
    above_it = all(_owner(above) in (0, None) for above in folder.parents)
    return above_it and _owner(folder) in (None, _service_user())


def _owner(folder: Path) -> int | None:
    try:
        return folder.lstat().st_uid
    except FileNotFoundError:
        return None


def _service_user() -> int | None:
    try:
        return pwd.getpwnam("attachd").pw_uid
    except KeyError:
        return None


def _take(steps: Sequence[Step], *, dry_run: bool, as_json: bool) -> None:
    taken = []
    try:
        for step in steps:
            done = None if dry_run else setup_steps.take(step)
            taken.append(_for_programs(step, done))
            if not as_json:
                print(f"{done:8} {setup_steps.subject(step)}" if done else f"would: {_described(step)}")
    finally:
        # Also what was done before a step that failed.
        if as_json:
            common.print_json({"dry_run": dry_run, "steps": taken})


def _for_programs(step: Step, done: str | None) -> dict[str, Any]:
    """One step as it is printed with ``--json``; *done* is None where it was not taken."""
    action = {Write: "write", Run: "run", setup_steps.Folder: "make", Remove: "remove"}[type(step)]
    text = step.text if isinstance(step, Write) else None
    return {"action": action, "subject": setup_steps.subject(step), "text": text, "done": done}


def _described(step: Step) -> str:
    match step:
        case Write(path=path, kept=True):
            return f"write {path} (if it is not there)"
        case Write(path=path, text=text):
            return f"write {path}" + "".join(f"\n    {line}".rstrip() for line in text.splitlines())
        case setup_steps.Folder(path=path):
            return f"make {path}"
        case Remove(path=path):
            return f"remove {path} (if it is there)"
        case Run(words=words):
            return f"run {' '.join(words)}"


def _tell_next(aim: Aim, settings: Config) -> None:
    """What is left to do, by hand."""
    others = [] if aim.home else [each for each in units.needed(settings) if not _is_ours(each.path)]
    if others:
        print("\nNot only root has a say where these folders lie, so they were left to you. What attachd needs there:")
        print(*(f"    {command}" for each in others for command in each.commands), sep="\n")
    if not aim.home and len(units.roots(settings)) > 1:
        print(
            "\ninbox, done and failed have no folder of their own in common: each move is a copy. Put them below one."
        )
    secrets = [aim.file.with_name("token")] if aim.home else units.credential_files(settings, aim.instance)
    into = f" and the token into {secrets[0]}" if secrets else ""
    print(f"\nNext: put site and account into {aim.file}{into}; then")
    print(f"    {aim.systemctl} enable --now {aim.service}")
    if aim.home:
        print("    loginctl enable-linger     (so that it runs while you are not signed in)")
    else:
        print(f"Whoever may drop files into {settings.folders.inbox}: usermod -aG attachd-drop SOMEBODY")
    words = f" --instance {aim.instance}" if aim.instance else " --user" if aim.home else ""
    print(f"`attachd uninstall{words}` undoes this.")


User = Annotated[bool, typer.Option("--user", help="A service of your own, without root.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done.")]
Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Replace units that are there: after an upgrade, or when the folders have changed."),
]


def install(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    refresh: Refresh = False,
    as_json: common.AsJson = False,
) -> None:
    """Make a service of systemd: its user, the group of those who drop files, folders, unit; starts nothing.

    A configuration that is not there yet is begun from the sample.

    No file is replaced without `--refresh`, and no configuration or token ever.
    """
    # Loaded here: the service itself, and every other verb, starts without.

    with common.mistakes_printed():
        install_service(config, instance, user=user, dry_run=dry_run, refresh=refresh, as_json=as_json)


def uninstall(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    as_json: common.AsJson = False,
) -> None:
    """Stop the service and take away what `install` has made, but for what is anybody's data.

    Configuration, token, journal, folders and the user stay.
    """

    with common.mistakes_printed():
        uninstall_service(config, instance, user=user, dry_run=dry_run, as_json=as_json)
