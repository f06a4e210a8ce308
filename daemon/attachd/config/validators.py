"""The rules that types and ranges cannot say. Each is given plain values and yields what is wrong with them."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attachd import gitignore
from attachd.errors import Problem
from attachd.gitignore import NoPattern

_PROJECT = re.compile(r"[A-Z][A-Z0-9_]*")
#: What no issue's key looks like; a pattern that accepts one of them would let a folder's name out of its place.
_NO_KEYS = ("", ".", "..", "A/B-1", "A-1/..", "A B-1", "A-1?x", "A-1\n")
#: In bytes, of the 255 that a file system allows a name.
_LONGEST_SUFFIX = 64


#: How long folders are waited for whose file system does not answer, in seconds.
ANSWER_SECONDS = 2.0


def folders_apart(inbox: Path, done: Path, failed: Path, state: Path | None) -> Iterator[Problem]:
    """No two of the three folders may be or contain one another, and the state folder must be outside of all."""
    folders = {"inbox": inbox, "done": done, "failed": failed}
    real = _resolved([inbox, done, failed, *([state] if state else [])])
    for (first, one), (second, other) in itertools.combinations(folders.items(), 2):
        if relation := _relation(other, one, real):
            yield Problem(second, f"{relation} folders.{first} ({one}).", "Give each of the three a folder of its own.")
    for name, folder in folders.items():
        if state and (relation := _relation(state, folder, real)) and relation != _CONTAINS:
            yield Problem("state", f"{relation} folders.{name} ({folder}).", "Put it where nobody drops files.")


_SAME, _INSIDE, _CONTAINS = "is the same folder as", "lies inside", "contains"


def _resolved(paths: Sequence[Path]) -> dict[Path, str]:
    """The paths with symlinks resolved; as they are written where a file system does not answer, as that of a lost share.

    Every verb reads the configuration, and a share may keep it waiting for minutes or for good.
    """
    real = {path: os.path.normpath(path) for path in paths}

    def resolve() -> None:
        for path in paths:
            real[path] = os.path.realpath(path)

    resolving = threading.Thread(target=resolve, daemon=True)
    resolving.start()
    resolving.join(ANSWER_SECONDS)
    return dict(real)


def _relation(one: Path, other: Path, real: Mapping[Path, str]) -> str | None:
    """Say how *one* lies to *other*, as they are written or with symlinks resolved; None if they are apart."""
    pairs = ((os.path.normpath(one), os.path.normpath(other)), (real[one], real[other]))
    for mine, theirs in pairs:
        if mine == theirs:
            return _SAME
        if _below(mine, theirs):
            return _INSIDE
        if _below(theirs, mine):
            return _CONTAINS
    return None


def _below(inner: str, outer: str) -> bool:
    return inner.startswith(outer.rstrip("/") + "/")


#: Characters of the longest key that a folder's name is compared with; a longer beginning of a name is none.
LONGEST_KEY = 128
#: Seconds of processor time that a pattern may take to find that a name is no key. Plain patterns take microseconds.
_SLOW = 0.05
#: What folders are named after: repeated, and with something behind it that no key has, it shows how a pattern goes on trying.
_REPEATED = ("A", "1", "A1", "A-", "A-1", "A_", "a", "AB-12")


def key_pattern(text: str) -> Iterator[Problem]:
    """It must compile, must not accept what cannot be a key, and must not try for long: droppers choose the names."""
    try:
        pattern = re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        yield Problem("", f"is no regular expression: {error}.", "See Python's “re” module for the syntax.")
        return
    for wrong in _NO_KEYS:
        if pattern.fullmatch(wrong):
            yield Problem("", f"also accepts {wrong!r}, which is no issue key.", "Allow only what your keys look like.")
            return
    if slow := next((name for name in _names_of_growing_length() if _takes_long(pattern, name)), None):
        what = f"takes too long to see that “{slow[:20]}…” is no issue key."
        yield Problem("", what, "Let no repeated part contain another one, as in “([A-Z]+)+”.")


def _names_of_growing_length() -> Iterator[str]:
    for times in (*range(4, 40), LONGEST_KEY):
        for part in _REPEATED:
            yield (part * times)[: LONGEST_KEY - 1] + "!"


def _takes_long(pattern: re.Pattern[str], name: str) -> bool:
    began = time.thread_time()
    pattern.fullmatch(name)
    return time.thread_time() - began > _SLOW


def projects(names: Sequence[str]) -> Iterator[Problem]:
    """Each must be a project's key."""
    for name in names:
        if not _PROJECT.fullmatch(name):
            upper = name.strip().upper()
            remedy = (
                f"Write “{upper}”." if _PROJECT.fullmatch(upper) else "Write the part of an issue's key before “-”."
            )
            yield Problem("", f"{name!r} is no project key (capital letters, digits and “_”).", remedy)


def aliases(targets: Mapping[str, str], pattern: str, served: Sequence[str], *, numeric_ids: bool) -> Iterator[Problem]:
    """Each must be a folder's name, and lead to an issue of a project that is *served* (none named: every one)."""
    key = re.compile(pattern, re.ASCII)
    for name, target in targets.items():
        number = target.isascii() and target.isdigit()
        if not name.strip() or "/" in name or name in (".", ".."):
            yield Problem(
                "", f"{name!r} cannot be a folder's name.", "An alias is the name of one folder in the inbox."
            )
        elif not key.fullmatch(target) and not (numeric_ids and number):
            yield Problem(name, f"leads to {target!r}, which is no issue key.", "Write a key, as in “FIN-12”.")
        elif served and (number or target.rpartition("-")[0] not in served):
            what = f"leads to {target!r}, which is in no project that folders.projects names."
            yield Problem(name, what, "Add the project there, or correct the key.")


def ignore(patterns: Sequence[str]) -> Iterator[Problem]:
    """Each must be a pattern in the syntax of .gitignore."""
    for pattern in patterns:
        found = gitignore.parse(pattern)
        if isinstance(found, NoPattern):
            why = f": {found.reason}" if found.reason else ""
            yield Problem("", f"{pattern!r} is no pattern{why}.", "The syntax is that of .gitignore, as in “*.bak”.")


#: The least and the most bytes, the least and the highest age in seconds.
Bounds = tuple[int | None, int | None, float | None, float | None]


def bounds(least: int | None, most: int | None, youngest: float | None, oldest: float | None) -> Iterator[Problem]:
    """A lower bound above the upper one lets nothing through; bytes, and seconds."""
    for low, high, what in ((least, most, "bytes"), (youngest, oldest, "age_seconds")):
        if low is not None and high is not None and low > high:
            yield Problem(
                f"min_{what}", f"is {low:g}, more than max_{what} = {high:g}.", "No file could be taken then."
            )


#: Issues that accepted files within the last 30 days are witnesses (docs/design/delivery.md): the history must not be shorter.
_WITNESS_DAYS = 31


def retention(done_days: int, failed_days: int, history_days: int) -> Iterator[Problem]:
    """A file is deleted by what the history knows of it, which therefore has to last longer."""
    for name, days in (("done_days", done_days), ("failed_days", failed_days)):
        if history_days and days > history_days:
            what = f"is {history_days}, less than {name} = {days}: what is forgotten by then is never deleted."
            yield Problem("history_days", what, "Keep the history longer than the files, or for ever (0).")
    if 0 < history_days < _WITNESS_DAYS:
        what = f"is {history_days}: which issues accepted files lately tells an outage from a refusal."
        yield Problem("history_days", what, f"Keep {_WITNESS_DAYS} days at least, or all (0).")


def folders(rules: Iterable[tuple[str, Bounds]]) -> Iterator[Problem]:
    """Also what a folder's table and [settle] say together must let something through; the bounds by pattern."""
    for pattern, given in rules:
        for found in bounds(*given):
            yield Problem("", f"with match = “{pattern}”: {found.where} {found.what}", found.remedy)


def match(pattern: str) -> Iterator[Problem]:
    """It is for the name of one folder."""
    if not pattern.strip() or "/" in pattern or not pattern.isprintable():
        yield Problem(
            "", "fits no folder's name.", "Write a pattern for one name, as in “LC-*”; “*” fits every folder."
        )


def suffix(text: str) -> Iterator[Problem]:
    """It is the end of a file's name, short enough to stand behind most."""
    if text and (text.isspace() or "/" in text or not text.isprintable() or len(text.encode()) > _LONGEST_SUFFIX):
        yield Problem("", "cannot be the end of a file's name.", "Write a short one, as in “.ready”; “” asks for none.")


def looks(seconds: Sequence[float]) -> Iterator[Problem]:
    """There must be one at least, each later than the one before."""
    if not seconds:
        yield Problem("", "is empty.", "At least one look is needed before anything is sent again.")
    elif any(later <= earlier for earlier, later in itertools.pairwise(seconds)):
        yield Problem("", "must grow from entry to entry.", "Each is counted from the upload, as in [5, 30, 120].")


#: A limit below this is most probably meant in kilobytes; a request would break off for its slowness.
SLOWEST_LIMIT = 4096


def bandwidth(rate: int) -> Iterator[Problem]:
    """A limit is in bytes, and lets a request get on."""
    if 0 < rate < SLOWEST_LIMIT:
        remedy = f"It must be at least {SLOWEST_LIMIT} bytes per second, or 0 for no limit."
        yield Problem("", f"is {rate}, with which no upload gets on.", remedy)


def readable(file: Path | None) -> Iterator[Problem]:
    """A file that is named must be there, and be one that this user may read."""
    if file is None:
        return
    try:
        if not file.is_file():
            yield Problem(
                "", f"{file} is no file." if file.exists() else f"{file} does not exist.", "Correct the path."
            )
        elif not os.access(file, os.R_OK):
            yield Problem("", f"{file} cannot be read by this user.", "Change the file's owner, group or mode.")
    except OSError as error:
        yield Problem("", f"{file} cannot be read: {error.strerror}.", "Change the owner or mode of its folders.")


def folder(path: Path | None) -> Iterator[Problem]:
    """It must be a folder that is there."""
    if path is not None and not path.is_dir():
        yield Problem("", f"{path} is not a folder.", "Make it, or correct the path.")


# --- Hooks --------------------------------------------------------------------------------------------------------

#: What hooks can be told of.
EVENTS = ("attached", "failed", "paused", "resumed", "stuck")


def hook_command(words: Sequence[str] | None) -> Iterator[Problem]:
    """It must name a program by its full path."""
    if words is not None and not (words and words[0].startswith("/") and all(words) and "\0" not in "".join(words)):
        yield Problem("", "names no program by its full path.", 'Write it as in ["/usr/local/bin/attachd-hook"].')


def hook_events(names: Sequence[str]) -> Iterator[Problem]:
    """Each must be one that there is."""
    for name in names:
        if name not in EVENTS:
            yield Problem("", f"{name!r} is no event.", f"There are {', '.join(EVENTS)}; [] is all.")


# --- Signing in -------------------------------------------------------------------------------------------------


def auth(kind: str, user: str | None, *, has_token: bool) -> Iterator[Problem]:
    """Each kind needs its own keys, and a token that is not sent is a misunderstanding."""
    if kind == "anonymous":
        if has_token:
            yield Problem("token", 'is given, but kind = "anonymous" sends none.', "Choose another kind, or remove it.")
        return
    if kind == "basic" and not user:
        yield Problem(
            "user", 'is missing; kind = "basic" needs it.', "On Jira Cloud it is the account's e-mail address."
        )
    if user and (":" in user or not user.isprintable()):
        yield Problem("user", "contains “:” or a control character, which no user's name can.", "Correct it.")
    # Without a refresh token an application of OAuth acts for itself.
    if not has_token and kind != "oauth2":
        yield Problem("token", f'is missing; kind = "{kind}" needs it.', 'Write token = { file = "token" }.')


#: The keys that only kind = "oauth2" has a use for, and what to write for those that it needs.
OAUTH_KEYS: Mapping[str, str] = {
    "client_id": "Write the id that Atlassian or your Jira gave to the application.",
    "client_secret": 'Write client_secret = { file = "client-secret" }.',
    "token_url": "",
    "scope": "",
}


def oauth(kind: str, given: Sequence[str], client_id: str | None, scope: str | None) -> Iterator[Problem]:
    """OAuth needs an application that asks for tokens; no other kind has one."""
    if kind != "oauth2":
        for name in given:
            yield Problem(name, f'is given, but kind = "{kind}" has no use for it.', "Remove it, or choose oauth2.")
        return
    for name, remedy in OAUTH_KEYS.items():
        if remedy and name not in given:
            yield Problem(name, 'is missing; kind = "oauth2" needs it.', remedy)
    if client_id is not None and not re.fullmatch(r"[!-~]+", client_id):
        yield Problem("client_id", "is empty, or contains a space or what is not ASCII.", "Copy it once more.")
    if scope is not None and not re.fullmatch(r"[!-~]+( [!-~]+)*", scope):
        yield Problem("scope", "is no list of scopes.", "Write them with a space between, or leave the key out.")
