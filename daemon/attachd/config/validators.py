"""Checks that types and ranges cannot express. Each takes plain values and yields what is wrong with them."""

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
#: Texts that are not issue keys. A pattern that accepts one of them could turn a folder's name into another path.
_NO_KEYS = ("", ".", "..", "A/B-1", "A-1/..", "A B-1", "A-1?x", "A-1\n")
#: The longest suffix in bytes, of the 255 bytes that a file system allows for a name.
_LONGEST_SUFFIX = 64


#: How long attachd waits for a file system that does not answer, in seconds.
ANSWER_SECONDS = 2.0


def folders_apart(inbox: Path, done: Path, failed: Path, state: Path | None) -> Iterator[Problem]:
    """Check that none of the three folders is in another, and that the state folder is outside all three."""
    folders = {"inbox": inbox, "done": done, "failed": failed}
    real = _resolved([inbox, done, failed, *([state] if state else [])])
    for (first, one), (second, other) in itertools.combinations(folders.items(), 2):
        if relation := _relation(other, one, real):
            yield Problem(second, f"{relation} folders.{first} ({one}).", "Choose three separate folders.")
    for name, folder in folders.items():
        if state and (relation := _relation(state, folder, real)) and relation != _CONTAINS:
            yield Problem(
                "state", f"{relation} folders.{name} ({folder}).", "Choose a folder outside inbox, done and failed."
            )


_SAME, _INSIDE, _CONTAINS = "is the same folder as", "lies inside", "contains"


def _resolved(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the paths with symlinks resolved, or as they are written if a file system does not answer.

    Every verb reads the configuration, and a lost share may block it for minutes or for ever.
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
    """Say where *one* lies relative to *other*, as written or with symlinks resolved; None if they are separate."""
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


#: The longest key in characters. A longer beginning of a folder's name is never a key.
LONGEST_KEY = 128
#: How long a pattern may take to reject a name, in seconds of processor time. Plain patterns take microseconds.
_SLOW = 0.05
#: Parts of folder names. Repeated, and with “!” at the end, they show whether a pattern backtracks without end.
_REPEATED = ("A", "1", "A1", "A-", "A-1", "A_", "a", "AB-12")


def key_pattern(text: str) -> Iterator[Problem]:
    """Check that it compiles, rejects what cannot be a key, and is fast, because people who drop files choose the names."""
    try:
        pattern = re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        yield Problem("", f"is not a regular expression: {error}.", "Python's “re” module describes the syntax.")
        return
    for wrong in _NO_KEYS:
        if pattern.fullmatch(wrong):
            yield Problem("", f"also accepts {wrong!r}, which is not an issue key.", "Accept only your own keys.")
            return
    if slow := next((name for name in _names_of_growing_length() if _takes_long(pattern, name)), None):
        what = f"takes too long to reject “{slow[:20]}…”."
        yield Problem("", what, "Do not repeat a part that repeats itself, such as “([A-Z]+)+”.")


def _names_of_growing_length() -> Iterator[str]:
    for times in (*range(4, 40), LONGEST_KEY):
        for part in _REPEATED:
            yield (part * times)[: LONGEST_KEY - 1] + "!"


def _takes_long(pattern: re.Pattern[str], name: str) -> bool:
    began = time.thread_time()
    pattern.fullmatch(name)
    return time.thread_time() - began > _SLOW


def projects(names: Sequence[str]) -> Iterator[Problem]:
    """Check that each is a project key."""
    for name in names:
        if not _PROJECT.fullmatch(name):
            upper = name.strip().upper()
            remedy = f"Write “{upper}”." if _PROJECT.fullmatch(upper) else "Write the part of an issue key before “-”."
            yield Problem("", f"lists {name!r}, which is not a project key (capital letters, digits and “_”).", remedy)


def aliases(targets: Mapping[str, str], pattern: str, served: Sequence[str], *, numeric_ids: bool) -> Iterator[Problem]:
    """Check that each is a folder name and points to an issue of a *served* project (none given: any project)."""
    key = re.compile(pattern, re.ASCII)
    for name, target in targets.items():
        number = target.isascii() and target.isdigit()
        if not name.strip() or "/" in name or name in (".", ".."):
            yield Problem(
                "", f"has {name!r}, which cannot be a folder name.", "An alias is the name of one folder in the inbox."
            )
        elif not key.fullmatch(target) and not (numeric_ids and number):
            yield Problem(name, f"points to {target!r}, which is not an issue key.", "Write a key like “FIN-12”.")
        elif served and (number or target.rpartition("-")[0] not in served):
            what = f"points to {target!r}, whose project is not in folders.projects."
            yield Problem(name, what, "Add the project there, or correct the key.")


def ignore(patterns: Sequence[str]) -> Iterator[Problem]:
    """Check that each is a pattern in the syntax of .gitignore."""
    for pattern in patterns:
        found = gitignore.parse(pattern)
        if isinstance(found, NoPattern):
            why = f": {found.reason}" if found.reason else ""
            yield Problem(
                "",
                f"lists {pattern!r}, which is not a pattern{why}.",
                "Use the syntax of .gitignore, for example “*.bak”.",
            )


#: The smallest and largest size in bytes, the lowest and highest age in seconds.
Bounds = tuple[int | None, int | None, float | None, float | None]


def bounds(least: int | None, most: int | None, youngest: float | None, oldest: float | None) -> Iterator[Problem]:
    """Check that no lower bound is above its upper bound."""
    for low, high, what in ((least, most, "bytes"), (youngest, oldest, "age_seconds")):
        if low is not None and high is not None and low > high:
            yield Problem(f"min_{what}", f"is {low:g}, more than max_{what} = {high:g}.", "No file could pass.")


#: Issues that accepted files within the last 30 days are witnesses (docs/design/delivery.md): the history must reach further.
_WITNESS_DAYS = 31


def retention(done_days: int, failed_days: int, history_days: int) -> Iterator[Problem]:
    """Check that the history outlasts the files, because attachd deletes a file by what the history says of it."""
    for name, days in (("done_days", done_days), ("failed_days", failed_days)):
        if history_days and days > history_days:
            what = f"is {history_days}, less than {name} = {days}: attachd would forget files before it deletes them."
            yield Problem("history_days", what, "Keep the history longer than the files, or for ever (0).")
    if 0 < history_days < _WITNESS_DAYS:
        what = f"is {history_days}, but attachd needs {_WITNESS_DAYS} days of history to tell an outage from a refusal."
        yield Problem("history_days", what, f"Set at least {_WITNESS_DAYS}, or 0 for everything.")


def folders(rules: Iterable[tuple[str, Bounds]]) -> Iterator[Problem]:
    """Check the bounds that a folder's table and [settle] give together; *rules* are pairs of a pattern and its bounds."""
    for pattern, given in rules:
        for found in bounds(*given):
            yield Problem("", f"with match = “{pattern}”: {found.where} {found.what}", found.remedy)


def match(pattern: str) -> Iterator[Problem]:
    """Check that the pattern can match the name of one folder."""
    if not pattern.strip() or "/" in pattern or not pattern.isprintable():
        yield Problem("", "matches no folder name.", "Write a pattern like “LC-*”. “*” matches every folder.")


def suffix(text: str) -> Iterator[Problem]:
    """Check that it can be the end of a file name, and is short."""
    if text and (text.isspace() or "/" in text or not text.isprintable() or len(text.encode()) > _LONGEST_SUFFIX):
        yield Problem("", "cannot be the end of a file name.", "Write a short one like “.ready”, or “” for none.")


def looks(seconds: Sequence[float]) -> Iterator[Problem]:
    """Check that there is at least one look, and that each is later than the one before."""
    if not seconds:
        yield Problem("", "is empty.", "attachd looks at least once before it sends a file again.")
    elif any(later <= earlier for earlier, later in itertools.pairwise(seconds)):
        yield Problem("", "must grow from entry to entry.", "Each counts from the upload, for example [5, 30, 120].")


#: A limit below this probably means kilobytes, and a request would time out.
SLOWEST_LIMIT = 4096


def bandwidth(rate: int) -> Iterator[Problem]:
    """Check that the limit leaves an upload enough to finish."""
    if 0 < rate < SLOWEST_LIMIT:
        what = f"must be at least {SLOWEST_LIMIT} bytes per second, or 0 for no limit."
        yield Problem("", what, f"It is {rate}, too slow for any upload.")


def readable(file: Path | None) -> Iterator[Problem]:
    """Check that a named file exists and that this user may read it."""
    if file is None:
        return
    try:
        if not file.is_file():
            yield Problem(
                "",
                f"names {file}, which {'is not a file' if file.exists() else 'does not exist'}.",
                "Correct the path.",
            )
        elif not os.access(file, os.R_OK):
            yield Problem("", f"names {file}, which this user may not read.", "Change the file's owner, group or mode.")
    except OSError as error:
        yield Problem(
            "", f"names {file}, which cannot be read: {error.strerror}.", "Change the owner or mode of its folders."
        )


def folder(path: Path | None) -> Iterator[Problem]:
    """Check that the folder exists."""
    if path is not None and not path.is_dir():
        yield Problem("", f"names {path}, which is not a folder.", "Create it, or correct the path.")


# --- Hooks --------------------------------------------------------------------------------------------------------

#: The events that hooks can receive.
EVENTS = ("attached", "failed", "paused", "resumed", "stuck")


def hook_command(words: Sequence[str] | None) -> Iterator[Problem]:
    """Check that it names a program by its full path."""
    if words is not None and not (words and words[0].startswith("/") and all(words) and "\0" not in "".join(words)):
        yield Problem(
            "", "must begin with the full path of a program.", 'Write it like ["/usr/local/bin/attachd-hook"].'
        )


def hook_events(names: Sequence[str]) -> Iterator[Problem]:
    """Check that each is an event that attachd has."""
    for name in names:
        if name not in EVENTS:
            yield Problem(
                "", f"lists {name!r}, which is not an event.", f"Choose from {', '.join(EVENTS)}, or write [] for all."
            )


# --- Signing in -------------------------------------------------------------------------------------------------


def auth(kind: str, user: str | None, *, has_token: bool) -> Iterator[Problem]:
    """Check the keys that each kind needs. A token that attachd would not send is a mistake."""
    if kind == "anonymous":
        if has_token:
            yield Problem(
                "token", 'is set, but kind = "anonymous" sends no token.', "Choose another kind, or remove the token."
            )
        return
    if kind == "basic" and not user:
        yield Problem(
            "user", 'is missing; kind = "basic" needs it.', "On Jira Cloud it is the account's e-mail address."
        )
    if user and (":" in user or not user.isprintable()):
        yield Problem("user", "contains “:” or a control character.", "Correct the user name.")
    # An OAuth application without a refresh token acts for itself.
    if not has_token and kind != "oauth2":
        yield Problem("token", f'is missing; kind = "{kind}" needs it.', 'Write token = { file = "token" }.')


#: The keys of kind = "oauth2" alone, and what to write for those that it needs.
OAUTH_KEYS: Mapping[str, str] = {
    "client_id": "Write the id that Atlassian or your Jira gave the application.",
    "client_secret": 'Write client_secret = { file = "client-secret" }.',
    "token_url": "",
    "scope": "",
}


def oauth(kind: str, given: Sequence[str], client_id: str | None, scope: str | None) -> Iterator[Problem]:
    """Check the keys of an OAuth application, which no other kind may have."""
    if kind != "oauth2":
        for name in given:
            yield Problem(name, f'is set, but kind = "{kind}" does not use it.', 'Remove it, or set kind = "oauth2".')
        return
    for name, remedy in OAUTH_KEYS.items():
        if remedy and name not in given:
            yield Problem(name, 'is missing; kind = "oauth2" needs it.', remedy)
    if client_id is not None and not re.fullmatch(r"[!-~]+", client_id):
        yield Problem("client_id", "is empty, or contains a space or a character that is not ASCII.", "Copy it again.")
    if scope is not None and not re.fullmatch(r"[!-~]+( [!-~]+)*", scope):
        yield Problem("scope", "is not a list of scopes.", "Separate them with spaces, or remove the key.")
