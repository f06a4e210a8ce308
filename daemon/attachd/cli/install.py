"""``install`` and ``uninstall``: choose the service, take and print the steps, and say what is left to do by hand."""

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
    """Install the service. Raises ``errors.Mistake``."""
    with _permissions_explained():
        aim = _aim(file, instance, user=user, dry_run=dry_run)
        prefixes = Path(sys.prefix), Path(sys.base_prefix)
        misplaced = None if user else setup_steps.misplaced(aim.command, prefixes)
        settings = _settings(aim)
        steps = setup_steps.for_user(aim, settings) if user else setup_steps.for_system(aim, settings, _is_ours)
        problems = [*([misplaced] if misplaced else []), *([] if refresh else setup_steps.conflicts(steps))]
        # --dry-run prints the steps even if something is in the way.
        if dry_run or not problems:
            _take(steps, dry_run=dry_run, as_json=as_json)
        if problems:
            raise Mistake(*problems, exit_code=1)
        if not dry_run and not as_json:
            _print_next(aim, settings)


def uninstall_service(file: Path | None, instance: str | None, *, user: bool, dry_run: bool, as_json: bool) -> None:
    """Remove the service. Raises ``errors.Mistake``."""
    with _permissions_explained():
        aim = _aim(file, instance, user=user, dry_run=dry_run)
        _take(setup_steps.undone(aim, setup_steps.installed() - {aim.service}), dry_run=dry_run, as_json=as_json)
    if not dry_run and not as_json:
        kept = "Configuration, token, journal, folders and the user remain. Remove them by hand if you no longer need them."
        print(f"\n{kept}")


@contextmanager
def _permissions_explained() -> Iterator[None]:
    """Turn a PermissionError into a mistake: `--dry-run` without root may not look at every file."""
    try:
        yield
    except PermissionError as error:
        problem = Problem(str(error.filename), "cannot be read by this user.", "Use sudo.")
        raise Mistake(problem, exit_code=1) from error


def _aim(file: Path | None, instance: str | None, *, user: bool, dry_run: bool) -> Aim:
    """Return the service that the options mean. Raises ``errors.Mistake``."""
    command = Path(sys.executable).with_name("attachd")
    if user:
        if instance:
            raise Mistake(Problem("--instance", "cannot be combined with --user.", "Use -c FILE."), exit_code=2)
        home = loader.home(os.environ)
        return Aim(command, (file or home / ".config/attachd/config.toml").absolute(), home=home)
    if os.geteuid() != 0 and not dry_run:
        what = "needs root, because it creates a user, folders and units."
        raise Mistake(Problem("install", what, "Use sudo, --user or --dry-run."), exit_code=1)
    if file and instance:
        raise Mistake(Problem("--instance", "cannot be combined with -c.", "Give one of them."), exit_code=2)
    chosen = loader.of_instance(instance) if instance else file or loader.SYSTEM_FOLDER / loader.FILE_NAME
    if units.in_home(chosen.absolute()):
        what = "is in a home, which the service cannot see."
        raise Mistake(Problem(str(chosen), what, f"Put it in {loader.SYSTEM_FOLDER}, or use --user."), exit_code=1)
    if not instance and chosen.absolute().parent == loader.SYSTEM_FOLDER and chosen.name != loader.FILE_NAME:
        what = f"is the configuration of the instance {chosen.stem}."
        remedy = f"Give --instance {chosen.stem}, or put the file elsewhere."
        raise Mistake(Problem(str(chosen), what, remedy), exit_code=2)
    return Aim(command, chosen.absolute(), instance)


def _settings(aim: Aim) -> Config:
    """Return the existing configuration, or the sample that install will write. Raises ``errors.Mistake``."""
    if aim.file.exists():
        return configuration.load(aim.file, check_token=False)
    inbox = aim.home / "attachd" / "inbox" if aim.home else None
    return configuration.parse(
        units.sample(aim.instance, inbox), base=aim.file.parent, file=aim.file, check_token=False
    )


def _is_ours(folder: Path) -> bool:
    """Return True if a folder is the service's or missing, and all above it are root's, as systemd-tmpfiles requires."""
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
        # Print the steps before one that failed, too.
        if as_json:
            common.print_json({"dry_run": dry_run, "steps": taken})


def _for_programs(step: Step, done: str | None) -> dict[str, Any]:
    """Return one step as ``--json`` prints it. *done* is None if it was not taken."""
    action = {Write: "write", Run: "run", setup_steps.Folder: "make", Remove: "remove"}[type(step)]
    text = step.text if isinstance(step, Write) else None
    return {"action": action, "subject": setup_steps.subject(step), "text": text, "done": done}


def _described(step: Step) -> str:
    match step:
        case Write(path=path, kept=True):
            return f"write {path} (unless it exists)"
        case Write(path=path, text=text):
            return f"write {path}" + "".join(f"\n    {line}".rstrip() for line in text.splitlines())
        case setup_steps.Folder(path=path):
            return f"create {path}"
        case Remove(path=path):
            return f"remove {path} (if it exists)"
        case Run(words=words):
            return f"run {' '.join(words)}"


def _print_next(aim: Aim, settings: Config) -> None:
    """Print what is left to do by hand."""
    others = [] if aim.home else [each for each in units.needed(settings) if not _is_ours(each.path)]
    if others:
        print(
            "\nattachd did not create these folders, because users other than root own the path. Create them like this:"
        )
        print(*(f"    {command}" for each in others for command in each.commands), sep="\n")
    if not aim.home and len(units.roots(settings)) > 1:
        print(
            "\ninbox, done and failed have no parent folder of their own, so each move is a copy. Put them in one folder."
        )
    secrets = [aim.file.with_name("token")] if aim.home else units.credential_files(settings, aim.instance)
    into = f" and the token in {secrets[0]}" if secrets else ""
    print(f"\nNext: put site and account in {aim.file}{into}. Then run")
    print(f"    {aim.systemctl} enable --now {aim.service}")
    if aim.home:
        print("    loginctl enable-linger     (so that it also runs while you are signed out)")
    else:
        print(f"To let a user drop files into {settings.folders.inbox}: usermod -aG attachd-drop USER")
    words = f" --instance {aim.instance}" if aim.instance else " --user" if aim.home else ""
    print(f"To remove the service: attachd uninstall{words}")


User = Annotated[bool, typer.Option("--user", help="The service of your own user, without root.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the steps without taking them.")]
Refresh = Annotated[
    bool,
    typer.Option("--refresh", help="Replace existing units, after an upgrade or a change of folders."),
]


def install(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    refresh: Refresh = False,
    as_json: common.AsJson = False,
) -> None:
    """Install a systemd service: user, group for people who drop files, folders and unit.

    Does not start the service. Writes a sample configuration if there is none.
    Never replaces a configuration or a token, and other files only with `--refresh`.
    """
    with common.mistakes_printed():
        install_service(config, instance, user=user, dry_run=dry_run, refresh=refresh, as_json=as_json)


def uninstall(
    config: common.ConfigFile = None,
    instance: common.Instance = None,
    user: User = False,
    dry_run: DryRun = False,
    as_json: common.AsJson = False,
) -> None:
    """Stop the service and remove everything `install` created, except your data.

    Configuration, token, journal, folders and the user remain.
    """
    with common.mistakes_printed():
        uninstall_service(config, instance, user=user, dry_run=dry_run, as_json=as_json)
