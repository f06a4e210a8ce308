"""What all verbs share: options, the configuration and journal they work with, and how their mistakes are printed."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import pwd
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from attachd import config
from attachd.clock import Clock
from attachd.config import Config, credentials
from attachd.errors import Mistake, Problem
from attachd.intake import router as intake_router
from attachd.journal import database, timeline
from attachd.journal.database import Journal
from attachd.model import printable
from attachd.share import paths

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="The configuration file.",
        show_default=False,
        rich_help_panel="Which attachd",
    ),
]
Instance = Annotated[
    str | None,
    typer.Option(
        "--instance",
        metavar="NAME",
        help="Use /etc/attachd/NAME.toml.",
        show_default=False,
        rich_help_panel="Which attachd",
    ),
]
Issue = Annotated[
    str | None,
    typer.Option("--issue", metavar="KEY", help="Only this issue.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def mistakes_printed() -> Iterator[None]:
    """Print a user's mistake, one line for each problem, and end with its exit code."""
    try:
        yield
    except Mistake as mistake:
        for problem in mistake.problems:
            print(f"attachd: {problem}", file=sys.stderr)
        raise typer.Exit(mistake.exit_code) from None


def load(file: Path | None, instance: str | None, *, check_token: bool = True) -> Config:
    """Find and read the configuration. Raises ``errors.Mistake``."""
    return config.load(config.find(file, instance, os.environ), check_token=check_token)


#: Modules that Python loads at first use. After the change of user they may lie in a home that the process cannot read.
_LOADED_LATE = ("encodings.ascii", "encodings.latin_1", "encodings.idna", "importlib.readers")


def act_as_owner(state: Path) -> None:
    """As root, become the owner of the state folder, so that the service can use every file that a verb leaves there."""
    if os.geteuid() != 0 or not state.is_dir():
        return
    owner = state.stat()
    if owner.st_uid == 0:
        return
    for name in _LOADED_LATE:
        importlib.import_module(name)
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        os.setgroups([owner.st_gid])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def prepared(file: Path | None, instance: str | None, *, check_token: bool = True) -> tuple[Config, Path]:
    """Return the configuration and the state folder, acting as that folder's owner. Raises ``errors.Mistake``."""
    where = config.find(file, instance, os.environ)
    try:
        quick = config.load(where, check_token=False)
    except Mistake as mistake:
        raise _with_token(mistake, where) if check_token else mistake from None
    state = paths.state_folder(quick, os.environ)
    if check_token:
        credentials.read_by_root(quick)
    act_as_owner(state)
    return config.load(where, check_token=check_token), state


@dataclass(frozen=True, slots=True)
class Session:
    """What a verb works with: its configuration and the state folder."""

    config: Config
    state: Path

    def issue(self, given: str | None) -> str:
        """Return the key that ``--issue`` names, or "" if it is not given. Raises ``errors.Mistake`` (2)."""
        return issue_key(self.config, given) if given is not None else ""

    @contextmanager
    def reading(self) -> Iterator[Journal]:
        """Open the journal for reading. Raises ``errors.Mistake`` (1) if there is none yet."""
        journal = database.open_for_reading(self.state)
        if journal is None:
            raise no_journal(self.state)
        with closing(journal):
            yield journal

    @contextmanager
    def changing(self) -> Iterator[tuple[sqlite3.Connection, timeline.Timeline]]:
        """Change the journal in one transaction, beside a running daemon or without one. Raises ``errors.Mistake``."""
        with database.changing(self.state) as connection:
            if connection is None:
                raise no_journal(self.state)
            yield connection, timeline.read(connection, Clock())


@contextmanager
def session(file: Path | None, instance: str | None, *, check_token: bool = False) -> Iterator[Session]:
    """Begin a verb: find its configuration, act as the owner of the state folder, and print the user's mistakes."""
    with mistakes_printed():
        yield Session(*prepared(file, instance, check_token=check_token))


_NOT_FOR_ROOT = re.compile("names a credential|neither root's nor the service's")


def _with_token(mistake: Mistake, where: Path) -> Mistake:
    """Return all mistakes at once: those of the token too, although the rest of the configuration is wrong."""
    try:
        config.load(where)
    except Mistake as both:
        # Root has other groups than the service, and reads credentials in another way: some of these are not mistakes.
        more = [each for each in both.problems if os.geteuid() != 0 or not _NOT_FOR_ROOT.search(each.what)]
        return Mistake(*more, exit_code=both.exit_code)
    return mistake


def issue_key(settings: Config, given: str) -> str:
    """Return the key of an issue in capital letters, with aliases followed. Raises ``errors.Mistake`` (2).

    The project need not be in folders.projects: its files may have been dropped when it still was.
    """
    folders = settings.folders
    router = intake_router.Router(folders.key_pattern, (), folders.numeric_ids, settings.aliases)
    routed = router.route(os.fsencode(given))
    if isinstance(routed, intake_router.Routed):
        return routed.key
    what = f"needs an issue key or an alias, but got '{printable(os.fsencode(given))}'."
    raise Mistake(Problem("--issue", what, "Give a key such as TEST-123."), exit_code=2)


def print_json(found: Any) -> None:
    """Print the result of a verb for programs."""
    json.dump(found, sys.stdout, indent=2)
    print()


def no_journal(state: Path) -> Mistake:
    """Return the mistake of a verb that needs a journal before the first start."""
    remedy = "`attachd run` or `attachd once` creates it."
    return Mistake(Problem(str(state), "has no journal yet.", remedy), exit_code=1)


# Times on the command line: a length, or a moment in the past.

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: A longer time is certainly a typo. Without ``--for`` a pause has no end.
_LONGEST_SECONDS = 366 * 86400


def length(text: str, option: str) -> float:
    """Return the seconds of ``90s``, ``30m``, ``2h`` or ``3d``, at most a year. Raises ``errors.Mistake`` (2)."""
    seconds = _seconds(text)
    if seconds and seconds <= _LONGEST_SECONDS:
        return seconds
    what = f"allows at most a year, but got {_shown(text)}." if seconds else f"needs a time, but got {_shown(text)}."
    remedy = "Leave it out to pause until `attachd resume`." if seconds else "Write it like 90s, 30m, 2h or 3d."
    raise Mistake(Problem(option, what, remedy), exit_code=2)


def since(text: str, option: str, now: float) -> float:
    """Return a moment in seconds since the epoch: so long ago (``2h``), or a day or time of RFC 3339.

    It is local time if it names no offset, and ``2026-11-22`` is its midnight. Raises ``errors.Mistake`` (2).
    """
    if seconds := _seconds(text):
        return now - seconds
    try:
        return datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        what = f"needs a time or a day, but got {_shown(text)}."
        remedy = "Write it like 2h or 7d, 2026-11-22 or 2026-11-22T08:30."
        raise Mistake(Problem(option, what, remedy), exit_code=2) from None


def _seconds(text: str) -> float:
    """Return the seconds of a number and a unit, or 0 for anything else."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip(), re.ASCII)
    return float(int(found[1]) * _UNITS[found[2]]) if found else 0.0


def _shown(text: str) -> str:
    return f"'{printable(text.encode('utf-8', 'surrogateescape'))}'"
