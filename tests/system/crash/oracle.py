"""What must be true: at the moment of a death, and when all is quiet again.

Three witnesses, none of them the program: what was dropped, what lies in the folders, and what the stand-in stored. The
numbers are those of the invariants in ``docs/crash-matrix.md``.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from installation import Place
from system.crash.scene import TOKEN, Scene, rows

#: Beside a file, of our own making, and no file of anybody.
_OURS = (".why.txt", ".link.txt", "_WHY.txt", "_STATUS.txt")


@dataclass(frozen=True, slots=True)
class Lying:
    """A file found below one of the folders."""

    path: str
    digest: str
    temporary: bool


def lying(folder: Path) -> list[Lying]:
    """What lies below a folder, but for our own notes."""
    found = []
    for above, folders, names in os.walk(folder):
        if ".attachd" in folders:
            folders.remove(".attachd")
        for name in names:
            if not name.endswith(_OURS):
                path = os.path.join(above, name)
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                found.append(Lying(os.path.relpath(path, folder), digest, name.startswith(".attachd-")))
    return found


def at_death(scene: Scene) -> list[str]:
    """What is wrong with the folders as they are, before anything was recovered."""
    place, wrong = scene.place, []
    here = {name: lying(getattr(place, name)) for name in ("inbox", "done", "failed")}
    wanted = Counter(each.digest for each in scene.expected)
    whole = Counter(each.digest for each in (*here["inbox"], *here["done"], *here["failed"]) if not each.temporary)
    for digest, count in wanted.items():
        if whole[digest] < count:
            wrong.append(f"A1 lost: of {count} files {digest[:8]} only {whole[digest]} are in a folder")
    for name, found in here.items():
        wrong += [
            f"A3 {name}/{each.path} holds what nobody dropped"
            for each in found
            if not each.temporary and each.digest not in wanted and each.digest not in scene.strange
        ]
    attached = _attached(scene)
    for each in here["done"]:
        issue = each.path.partition("/")[0]
        if not each.temporary and each.digest in wanted and not attached[issue, each.digest]:
            wrong.append(f"A2 done/{each.path} is not attached")
    return wrong


def _attached(scene: Scene) -> Counter[tuple[str, str]]:
    return Counter((each["issue"], each["sha256"]) for issue in scene.issues for each in scene.jira.on(issue))


def when_quiet(scene: Scene, code: int) -> list[str]:
    """What is wrong when the last recovery has ended with *code*."""
    return [*_folders(scene), *_site(scene), *_journal(scene, code), *secrets(scene.place)]


def _folders(scene: Scene) -> list[str]:
    place, wrong = scene.place, []
    here = {name: lying(getattr(place, name)) for name in ("inbox", "done", "failed")}
    wrong += [f"B1 inbox/{each.path} has no verdict" for each in here["inbox"]]
    wrong += [f"B6 {name}/{each.path} was left over" for name in here for each in here[name] if each.temporary]
    ends: dict[str, Counter[tuple[str, str]]] = {
        name: Counter((each.path.partition("/")[0], each.digest) for each in here[name] if not each.temporary)
        for name in ("done", "failed")
    }
    for issue, digest in {(each.issue, each.digest) for each in scene.expected}:
        wanted = Counter(e.end for e in scene.expected if (e.issue, e.digest) == (issue, digest))
        done, failed = ends["done"][issue, digest], ends["failed"][issue, digest]
        if done + failed != wanted.total() + scene.strange.get(digest, 0):
            wrong.append(f"B1 {digest[:8]} of {issue}: {done} in done, {failed} in failed, of {dict(wanted)}")
        elif done < wanted["done"] or failed < wanted["failed"]:
            wrong.append(f"B3 {digest[:8]} of {issue}: {done} in done, {failed} in failed, of {dict(wanted)}")
    noted = [each.path for each in here["failed"] if not (place.failed / f"{each.path}.why.txt").is_file()]
    return wrong + [f"B3 failed/{path} has no note" for path in noted]


def _site(scene: Scene) -> list[str]:
    wrong, known = [], {each.digest for each in scene.expected}
    done = Counter((each.path.partition("/")[0], each.digest) for each in lying(scene.place.done) if not each.temporary)
    attached = _attached(scene)
    for (issue, digest), count in attached.items():
        if digest not in known and digest not in scene.strange:
            wrong.append(f"B4 {issue} has an attachment {digest[:8]} that nobody dropped")
        elif digest in known and count > done[issue, digest]:
            wrong.append(f"B2 twice: {issue} has {digest[:8]} {count} times, and done {done[issue, digest]} times")
    wrong += [
        f"B2 lost: done has {digest[:8]} of {issue} {count} times, and the issue {attached[issue, digest]} times"
        for (issue, digest), count in done.items()
        if count > attached[issue, digest] and digest in known
    ]
    for issue in scene.issues:
        files = sum(each.issue == issue for each in scene.expected)
        if (posts := scene.jira.uploads(issue)) > 4 * files + 4:
            wrong.append(f"B7 {posts} uploads to {issue} for {files} files")
    return wrong


def _journal(scene: Scene, code: int) -> list[str]:
    place = scene.place
    wrong = [] if code in (0, 3) else [f"B7 the last recovery ended with {code}"]
    if (said := rows(place, "PRAGMA integrity_check")) != [("ok",)]:
        wrong.append(f"B6 the journal is damaged: {said[0][0]}")
    unfinished = rows(place, "SELECT path, state FROM file WHERE finished_at IS NULL")
    wrong += [f"B6 the journal has {path!r} as {state}" for path, state in unfinished]
    if unfinished:
        wrong += [f"   {kind} holds: {reason}" for kind, reason in rows(place, "SELECT kind, reason FROM pause")]
    for issue in scene.issues if scene.remembers else ():
        finished = rows(place, "SELECT count(*) FROM file WHERE folder_key = ? AND state IN ('DONE', 'FAILED')", issue)[
            0
        ][0]
        if finished < (files := sum(each.issue == issue for each in scene.expected)):
            wrong.append(f"B5 the history of {issue} has {finished} verdicts for {files} files")
    return wrong


def links(scene: Scene, how: str) -> list[str]:
    """What is wrong with the notes of addresses: one beside each file in done, and none beside another.

    One that cannot be written is done without: where a call was refused, it may lack.
    """
    done = scene.place.done
    files = sorted(each.path for each in lying(done))
    noted = sorted(str(path.relative_to(done)) for path in done.rglob("*.link*.txt"))
    lacking = [path for path in files if f"{path}.link.txt" not in noted and how != "fail"]
    wrong = [f"B11 done/{path} has no note of its address" for path in lacking]
    wrong += [f"B11 done/{path} is a note of nothing" for path in noted if path.removesuffix(".link.txt") not in files]
    return wrong + [
        f"B11 done/{path} does not name its issue"
        for path in noted
        if f"/browse/{path.partition('/')[0]}\r\n" not in (done / path).read_bytes().decode()
    ]


def told(scene: Scene, _how: str) -> list[str]:
    """What is wrong with what a webhook got: each verdict at least once, and no other."""
    place, wrong = scene.place, []
    heard = [each for each in scene.jira.ask("hook") if (each.get("file") or {}).get("issue") in scene.issues]
    said = {(each["event"], each["file"]["issue"], each["file"]["file"]) for each in heard}
    there = {
        (event, path.partition("/")[0], path)
        for event, folder in (("attached", place.done), ("failed", place.failed))
        for path in (each.path for each in lying(folder))
    }
    wrong += [f"B12 {path} is {event}, and the webhook was not told" for event, _, path in there - said]
    wrong += [f"B12 the webhook got an event that {path} is {event}" for event, _, path in said - there]
    ids = {(each["id"], each["event"], each["file"]["id"]) for each in heard}
    if len(ids) != len({number for number, _, _ in ids}):
        wrong.append("B12 one id was given to two events")
    return wrong


def secrets(place: Place) -> list[str]:
    """Where the token stands, apart from its own file."""
    patterns = (TOKEN.encode(), b64encode(f"demo@example.com:{TOKEN}".encode()))
    wrong = []
    for above, _, names in os.walk(place.home):
        wrong += [
            f"B9 the token is in {path.relative_to(place.home)}"
            for path in (Path(above, name) for name in names)
            if path != place.home / "token" and path.is_file() and any(p in path.read_bytes() for p in patterns)
        ]
    return wrong


def tracebacks(place: Place) -> list[str]:
    """Ends that nobody planned: where in the program, and the last line."""
    log = place.home / "log"
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    begun, where, found = False, "", []
    for line in lines:
        if line.startswith("Traceback"):
            begun = True
        elif begun and (at := re.match(r' +File ".*/attachd/([^"]+)", line (\d+)', line)):
            where = f"{at[1]}:{at[2]}"
        elif begun and line and not line[0].isspace():
            found.append(f"{where} {line}".strip())
            begun, where = False, ""
    return found
