"""What people, Jira and the world do to a life. Each deed takes two numbers, so that a life can be written down and cut short."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lives.fake_jira import FakeJira, Mood
from lives.house import LAST_LOOK, House, wait_for
from lives.ledger import Item, Ledger, digest, key_of

ISSUES = ("TEST-1", "TEST-2", "TEST-3", "OPS-4")
#: How long something that ought to happen soon is waited for, in seconds.
SOON = 6.0

Deed = tuple[str, int, int]
Act = Callable[["Life", int, int], None]
#: Every deed by its name.
DEEDS: dict[str, Act] = {}


def deed(act: Act) -> Act:
    """Enter a function in ``DEEDS``."""
    DEEDS[act.__name__] = act
    return act


@dataclass
class Life:
    """What the deeds of one life share."""

    house: House
    jira: FakeJira
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    open_files: list[tuple[Item, IO[bytes]]] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    copies: int = 0

    def content(self, size: int) -> bytes:
        """Bytes that nobody has seen before."""
        return self.chance.randbytes(size)

    def item(self, which: int) -> Item | None:
        """The item with this number, or the later one that has taken its path; -1 is the latest."""
        items = self.ledger.items
        if not items:
            return None
        wanted = items[which % len(items) if which >= 0 else max(0, len(items) + which)]
        return self.ledger.last_at(wanted.path)

    def drop(self, path: str, content: bytes, mtime: float | None = None) -> Item:
        """Written beside the inbox, and renamed into it, over nothing."""
        target = self.house.inbox / path
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            stem, dot, end = path.rpartition(".")
            path = f"{stem}+.{end}" if dot and "/" not in end else path + "+"
            target = self.house.inbox / path
        fresh = self.house.home / "fresh"
        fresh.write_bytes(content)
        if mtime is not None:
            os.utime(fresh, (mtime, mtime))
        item = self.ledger.add(path, content)
        fresh.rename(target)
        return item

    def held_in_inbox(self, item: Item) -> tuple[Item, IO[bytes]] | None:
        """Open a file for writing if it lies in the inbox at this moment; by now the name may be gone, or a pipe's.

        Returned with the item that it is: one that came back from failed may lie where *item* was dropped.
        """
        path = self.house.inbox / item.path
        with suppress(OSError):
            if not path.is_file():
                return None
            file = path.open("r+b", buffering=0)
            if os.readlink(f"/proc/self/fd/{file.fileno()}") == str(path):
                item = self.ledger.at(item.path, file.read()) or item
                file.seek(0)
                return item, file
            file.close()
        return None

    def took(self, item: Item, to: Path) -> Item:
        """The item that was taken from where *item* was dropped, and lies at *to* now."""
        with suppress(OSError):
            return (to.is_file() and self.ledger.at(item.path, to.read_bytes())) or item
        return item


# --- Files ---------------------------------------------------------------------------------------------------------


@deed
def drop(life: Life, issue: int, size: int) -> None:
    life.drop(f"{ISSUES[issue % len(ISSUES)]}/f{len(life.ledger.items)}.bin", life.content(1 + size % 5000))


@deed
def drop_large(life: Life, issue: int, size: int) -> None:
    life.drop(f"{ISSUES[issue % len(ISSUES)]}/l{len(life.ledger.items)}.bin", life.content(5_000_000 + size % 5000))


@deed
def drop_two(life: Life, issue: int, size: int) -> None:
    """Two files at once: they share a request."""
    folder = life.house.home / "pair"
    folder.mkdir()
    key = ISSUES[issue % len(ISSUES)]
    for part in range(2):
        content = life.content(100 + size % 900 + part)
        name = f"p{len(life.ledger.items)}.bin"
        (folder / name).write_bytes(content)
        life.ledger.add(f"{key} pair {life.copies}/{name}", content)
    folder.rename(life.house.inbox / f"{key} pair {life.copies}")
    life.copies += 1


@deed
def drop_same_bytes(life: Life, which: int, how: int) -> None:
    """A second file of equal bytes on purpose: in the same folder, or in another issue's."""
    item = life.item(which)
    if item is None or (content := _bytes(life, item)) is None:
        return
    key = key_of(item.path) if how % 2 else ISSUES[how % len(ISSUES)]
    life.drop(f"{key}/again{len(life.ledger.items)}.bin", content, mtime=1_600_000_000.0 if how % 3 == 0 else None)


@deed
def drop_namesake(life: Life, which: int, how: int) -> None:
    """Another file of the same name and size, where the first one lay or lies."""
    item = life.item(which)
    if item is not None:
        twin = life.drop(item.path, life.content(item.size), mtime=1_600_000_000.0 if how % 2 else None)
        twin.may_stay = item.may_stay


@deed
def drop_where_it_was(life: Life, _a: int, _b: int) -> None:
    """Another file of the same name and size, where an item lay before its folder was renamed."""
    for before, now in life.renamed[-1:]:
        below = next((each for each in reversed(life.ledger.items) if each.path.startswith(now + "/")), None)
        if below is not None:
            life.drop(before + below.path[len(now) :], life.content(below.size))


@deed
def make_empty_folders(life: Life, issue: int, number: int) -> None:
    """An archive without files, which takes a while to look through."""
    above = life.house.inbox / f"{ISSUES[issue % len(ISSUES)]} Archive {life.copies}"
    life.copies += 1
    for each in range(number % 2000):
        (above / str(each)).mkdir(parents=True)


@deed
def drop_deep(life: Life, issue: int, how: int) -> None:
    folders = ["d"] * 40 if how % 2 else ["n" * 60 + str(each) for each in range(5)]
    for name in ("one.bin", "two.bin"):
        item = life.drop("/".join([ISSUES[issue % len(ISSUES)], *folders, name]), life.content(50 + len(name)))
        item.may_stay = how % 2 == 1


@deed
def write_slowly(life: Life, issue: int, size: int) -> None:
    """Written in the inbox, with pauses, by a program that has it open all the while."""
    content = life.content(2000 + size % 1000)
    path = f"{ISSUES[issue % len(ISSUES)]}/s{len(life.ledger.items)}.bin"
    target = life.house.inbox / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb", buffering=0) as file:
        for start in range(0, len(content), 700):
            file.write(content[start : start + 700])
            time.sleep(0.12)
        life.ledger.add(path, content)


@deed
def touch(life: Life, which: int, _how: int) -> None:
    if item := life.item(which):
        with suppress(OSError):
            os.utime(life.house.inbox / item.path)


@deed
def rewrite(life: Life, which: int, how: int) -> None:
    """The same bytes once more: in place, or as a new file renamed over it."""
    item = life.item(which)
    if item is None or (content := _bytes(life, item)) is None:
        return
    if how % 2 and (held := life.held_in_inbox(item)):
        with held[1] as file:
            if held[0] is item:
                file.write(content)
    elif how % 2 == 0:
        fresh = life.house.home / "fresh"
        fresh.write_bytes(content)
        # Not over nothing: had it been moved away meanwhile, this would be a second file.
        path = life.house.inbox / item.path
        if exchange(fresh, path) and life.took(item, fresh) is not item:
            exchange(fresh, path)
        # A new file takes the name next time: a program may have this one open.
        fresh.unlink()


@deed
def swap_bytes(life: Life, which: int, _how: int) -> None:
    """Other bytes of the same size, and the old time put back."""
    item = life.item(which)
    if item and (held := life.held_in_inbox(item)):
        item, file = held
        with file:
            before, content = os.fstat(file.fileno()), life.content(item.size)
            file.write(content)
            os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
            life.ledger.changes(item, content)


@deed
def append(life: Life, which: int, _how: int) -> None:
    item = life.item(which)
    if item and (held := life.held_in_inbox(item)):
        item, file = held
        with file:
            before = file.read()
            more = life.content(100)
            file.write(more)
            life.ledger.changes(item, before + more)


@deed
def reopen(life: Life, which: int, _how: int) -> None:
    """Somebody opens it to write more, and takes his time."""
    item = life.item(which)
    if item and (held := life.held_in_inbox(item)):
        life.open_files.append(held)


@deed
def write_more(life: Life, _a: int, _b: int) -> None:
    """What was opened is written to and closed."""
    for item, file in life.open_files:
        with file:
            file.seek(0)
            before = file.read()
            more = life.content(64)
            file.write(more)
            # Another file may have taken its name.
            if os.fstat(file.fileno()).st_nlink:
                life.ledger.changes(item, before + more)
    life.open_files.clear()


@deed
def become(life: Life, which: int, how: int) -> None:
    """A folder, a pipe or a link takes the name of a file, which is deleted."""
    item = life.item(which)
    if item is None:
        return
    path = life.house.inbox / item.path
    with suppress(OSError):
        away = life.house.home / f"away{life.copies}"
        life.copies += 1
        path.rename(away)
        life.took(item, away).removed = True
        (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/nonexistent"))[how % 3]()


@deed
def remove(life: Life, which: int, _how: int) -> None:
    if item := life.item(which):
        with suppress(OSError):
            away = life.house.home / f"away{life.copies}"
            life.copies += 1
            (life.house.inbox / item.path).rename(away)
            life.took(item, away).removed = True


@deed
def move(life: Life, which: int, issue: int) -> None:
    """To another folder of the inbox."""
    if item := life.item(which):
        path = f"{ISSUES[issue % len(ISSUES)]}/moved{life.copies}-{Path(item.path).name}"
        life.copies += 1
        (life.house.inbox / path).parent.mkdir(exist_ok=True)
        with suppress(OSError):
            (life.house.inbox / item.path).rename(life.house.inbox / path)
            item = life.took(item, life.house.inbox / path)
            item.path = path
            life.ledger.lies(item)


@deed
def rename_folder(life: Life, which: int, how: int) -> None:
    """The folder of an item gets another name: of the same issue, of another one, or of none."""
    item = life.item(which)
    if item is None:
        return
    folder = item.path.partition("/")[0]
    key = key_of(item.path) or folder
    to = (f"{key} Printer {life.copies}", f"OPS-{50 + life.copies}", f"not now {life.copies}", key.lower())[how % 4]
    life.copies += 1
    if _rename_folder(life, folder, to):
        life.renamed.append((folder, to))


@deed
def rename_back(life: Life, _a: int, _b: int) -> None:
    if life.renamed:
        before, now = life.renamed.pop()
        _rename_folder(life, now, before)


def _rename_folder(life: Life, folder: str, to: str) -> bool:
    inbox = life.house.inbox
    if (inbox / to).exists():
        return False
    try:
        (inbox / folder).rename(inbox / to)
    except OSError:
        return False
    for before in {item.path for item in life.ledger.items if item.path.startswith(folder + "/")}:
        path = to + before[len(folder) :]
        if (inbox / path).exists():
            item = life.took(life.ledger.last_at(before), inbox / path)
            item.path = path
            life.ledger.lies(item)
    return True


# --- Failed files --------------------------------------------------------------------------------------------------


@deed
def back_by_hand(life: Life, which: int, _how: int) -> None:
    """A person has looked at the issue, as the note asks, does not see the file there, and moves it back into its folder."""
    _move_one_back(life, not_attached(life), which)


@deed
def back_unlooked(life: Life, which: int, _how: int) -> None:
    """A person moves a failed file back without having looked."""
    _move_one_back(life, _failed(life), which)


def _move_one_back(life: Life, failed: list[Path], which: int) -> None:
    if failed:
        move_back(life, sorted(failed)[which % len(failed)])


def move_back(life: Life, path: Path) -> None:
    """Move a failed file into the folder it came from, over nothing."""
    goal = life.house.inbox / path.relative_to(life.house.failed)
    goal.parent.mkdir(parents=True, exist_ok=True)
    if not goal.exists():
        shutil.move(path, goal)


def not_attached(life: Life) -> list[Path]:
    """The failed files that are not in their issue."""
    jira, root = life.jira, life.house.failed
    return [
        path
        for path in _failed(life)
        if not jira.count(jira.issue(path.relative_to(root).parts[0]), digest(path.read_bytes()))
    ]


@deed
def note_elsewhere(life: Life, _which: int, issue: int) -> None:
    """A person drops a note into another issue's folder, on purpose."""
    notes = sorted(path for path in life.house.files(life.house.failed) if path.name.endswith(".why.txt"))
    if notes:
        content = notes[0].read_bytes()
        life.drop(f"{ISSUES[issue % len(ISSUES)]}/{notes[0].name}", content)


@deed
def await_failed(life: Life, _a: int, _b: int) -> None:
    wait_for(lambda: list(_failed(life)), SOON)


@deed
def retry(life: Life, _a: int, _b: int) -> None:
    life.house.verb("retry", "--all")


@deed
def retry_killed(life: Life, _a: int, _b: int) -> None:
    """Killed as soon as something of it shows in the inbox."""
    goals = [life.house.inbox / path.relative_to(life.house.failed) for path in _failed(life)]
    verb, until = life.house.begin_verb("retry", "--all"), time.monotonic() + SOON
    while verb.poll() is None and not any(map(os.path.lexists, goals)) and time.monotonic() < until:
        pass  # It is a matter of milliseconds.
    verb.kill()
    verb.wait()


def _failed(life: Life) -> list[Path]:
    """The failed files that lay in their issue's folder: a note that somebody also dropped elsewhere is none."""
    lay, root = life.ledger.lay, life.house.failed
    return [
        path
        for path in life.house.files(root)
        if lay.get((digest(path.read_bytes()), key_of(str(path.relative_to(root))) or ""))
    ]


# --- Jira ----------------------------------------------------------------------------------------------------------

_MOODS = (
    Mood(hold="before"),
    Mood(hold="after"),
    Mood(hold="after", status=0),
    Mood(hold="after", status=504),
    Mood(hold="before", commit="no", status=504),
    Mood(commit="yes", status=0),
    Mood(commit="no", status=0),
    Mood(commit="late", late=0.7, status=504),
    Mood(commit="part", status=413),
    Mood(commit="yes", status=200, renamed=True),
    Mood(commit="yes", status=504, renamed=True),
    Mood(commit="no", status=429, headers=(("Retry-After", "1"),)),
    Mood(commit="no", status=500),
)


@deed
def mood(life: Life, which: int, _b: int) -> None:
    life.jira.mood(_MOODS[which % len(_MOODS)])


@deed
def await_upload(life: Life, _a: int, _b: int) -> None:
    life.jira.arrived.wait(SOON)


@deed
def release(life: Life, _a: int, _b: int) -> None:
    life.jira.released.set()


@deed
def store_too_late(life: Life, _a: int, _b: int) -> None:
    """The next upload is stored after the last look: that file may be there twice (README), but no other may suffer."""
    life.jira.mood(Mood(commit="late", late=LAST_LOOK + 1.8, status=504))


@deed
def lag(life: Life, tenths: int, _b: int) -> None:
    life.jira.lag = tenths % 12 / 10


@deed
def reorder(life: Life, _a: int, _b: int) -> None:
    life.jira.reorders = not life.jira.reorders


@deed
def proxy_date(life: Life, how: int, _b: int) -> None:
    life.jira.date_ahead = (-900.0, -300.0, 300.0, 900.0)[how % 4]


@deed
def jira_clock(life: Life, how: int, _b: int) -> None:
    life.jira.clock_ahead = (-300.0, 300.0)[how % 2]


@deed
def wrong_issue(life: Life, issue: int, other: int) -> None:
    """One answer about an issue is another's."""
    first, second = ISSUES[issue % len(ISSUES)], ISSUES[other % len(ISSUES)]
    life.jira.wrong_for[first] = second


@deed
def move_issue(life: Life, issue: int, _b: int) -> None:
    key = ISSUES[issue % len(ISSUES)]
    life.jira.move(key, key.replace("TEST-", "NEW-10").replace("OPS-", "NEW-20"))


@deed
def drop_to_new_key(life: Life, issue: int, size: int) -> None:
    key = ISSUES[issue % len(ISSUES)].replace("TEST-", "NEW-10").replace("OPS-", "NEW-20")
    if any(key in each.keys for each in life.jira.issues):
        life.drop(f"{key}/n{len(life.ledger.items)}.bin", life.content(1 + size % 5000))


@deed
def drop_namesake_to_new_key(life: Life, which: int, _how: int) -> None:
    """Another file of the same name and size, in the folder of the key that an item's issue has by now."""
    item = life.item(which)
    if item and (key := key_of(item.path)):
        life.drop(f"{life.jira.issue(key).keys[-1]}/{item.path.partition('/')[2]}", life.content(item.size))


@deed
def attach_namesake(life: Life, which: int, _how: int) -> None:
    """Somebody attaches another file of the same name and size by hand, with the same account.

    Where no content can be read, one of them looks like ours (README, known limits), but two can.
    """
    item = life.item(which)
    if item and (key := key_of(item.path)):
        for _ in range(2 if life.jira.kind == "blind" else 1):
            life.jira.attach(key, _sent_name(item), life.content(item.size), by_hand=True)


@deed
def attach_same_bytes(life: Life, which: int, _how: int) -> None:
    """Somebody attaches the same bytes under another name by hand."""
    item = life.item(which)
    if item and (key := key_of(item.path)) and (content := _bytes(life, item)) is not None:
        life.jira.attach(key, f"other {len(life.jira.issues)}.bin", content, by_hand=True)


def _sent_name(item: Item) -> str:
    return "-".join(item.path.split("/")[1:])


@deed
def spoil(life: Life, which: int, _how: int) -> None:
    """Jira's disk holds as many other bytes by now instead of those of an item."""
    if item := life.item(which):
        with life.jira.lock:
            for each in (a for issue in life.jira.issues for a in issue.attachments):
                if each.sha256 == item.sha256:
                    each.content = life.content(item.size)


@deed
def refuse(life: Life, issue: int, _b: int) -> None:
    life.jira.refuses.add(ISSUES[issue % len(ISSUES)])


@deed
def welcome(life: Life, _a: int, _b: int) -> None:
    life.jira.refuses.clear()
    life.jira.denied.clear()
    life.jira.accepts_account = True


@deed
def deny(life: Life, issue: int, _b: int) -> None:
    life.jira.denied.add(ISSUES[issue % len(ISSUES)])


@deed
def token_expires(life: Life, _a: int, _b: int) -> None:
    life.jira.accepts_account = False


# --- The administrator ---------------------------------------------------------------------------------------------


@deed
def pause(life: Life, _a: int, _b: int) -> None:
    life.house.verb("pause")


@deed
def resume(life: Life, _a: int, _b: int) -> None:
    life.house.verb("resume")


@deed
def reload(life: Life, _a: int, _b: int) -> None:
    life.house.first.send(signal.SIGHUP)


@deed
def ask(life: Life, which: int, _b: int) -> None:
    """Verbs that only look, and never fail with a traceback."""
    item = life.item(which)
    for words in (("status", "--json"), ("why", str(life.house.inbox / (item.path if item else "x")))):
        life.house.verb(*words)


@deed
def kill(life: Life, _a: int, _b: int) -> None:
    life.house.first.stop(signal.SIGKILL)


@deed
def stop(life: Life, _a: int, _b: int) -> None:
    life.house.first.stop()


@deed
def start(life: Life, _a: int, _b: int) -> None:
    life.house.first.start()


@deed
def freeze(life: Life, _a: int, _b: int) -> None:
    life.house.first.send(signal.SIGSTOP)


@deed
def thaw(life: Life, _a: int, _b: int) -> None:
    life.house.first.send(signal.SIGCONT)


@deed
def backup(life: Life, _a: int, _b: int) -> None:
    (life.house.home / "copy").unlink(missing_ok=True)
    life.house.verb("backup", str(life.house.home / "copy"))


@deed
def restore(life: Life, _a: int, _b: int) -> None:
    if (life.house.home / "copy").exists():
        life.house.first.stop()
        life.house.verb("restore", str(life.house.home / "copy"))
        life.house.first.start()


#: After these the service no longer knows what it has sent.
FORGETTING = frozenset({"lose_journal", "restore", "start_second"})


@deed
def lose_journal(life: Life, _a: int, how: int) -> None:
    """The state folder is gone: killed or stopped before."""
    life.house.first.stop(signal.SIGKILL if how % 2 else signal.SIGTERM)
    for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
        (life.house.first.state / name).unlink(missing_ok=True)
    life.house.first.start()


@deed
def lose_index(life: Life, _a: int, _b: int) -> None:
    """The journal of a service that was killed comes out of a backup, which leaves out what SQLite makes again."""
    life.house.first.stop(signal.SIGKILL)
    (life.house.first.state / "journal.db-shm").unlink(missing_ok=True)


@deed
def correct_url(life: Life, _a: int, _b: int) -> None:
    """The service began with a wrong address, under which nothing was ever sent."""
    life.house.first.stop()
    life.house.first.configure("http://127.0.0.1:9")
    life.house.first.start()
    wait_for(lambda: False, 0.5)
    life.house.first.stop()
    life.house.first.configure(life.house.jira_url)
    life.house.first.start()


# --- The world -----------------------------------------------------------------------------------------------------


@deed
def set_clock(life: Life, how: int, _b: int) -> None:
    life.house.set_clock((-7200, 7200, -300, 300, -86400 * 400)[how % 5])


@deed
def sleep(life: Life, days: int, _b: int) -> None:
    """The machine sleeps; the rest of the world does not."""
    if life.house.has_own_clock:
        life.house.sleep(days % 8 * 86400)
        life.jira.later += days % 8 * 86400


@deed
def fill(life: Life, kibibytes: int, _b: int) -> None:
    """Somebody else fills the small disk: but for so much, or altogether."""
    life.house.fill(kibibytes % 64 * 1024)


@deed
def free(life: Life, _a: int, _b: int) -> None:
    life.house.free()


@deed
def done_goes(life: Life, _a: int, _b: int) -> None:
    """The share of done is away."""
    with suppress(OSError):
        life.house.done.rename(life.house.away)


@deed
def done_comes_back(life: Life, _a: int, _b: int) -> None:
    life.house.done_comes_back()


@deed
def ignore_file(life: Life, issue: int, how: int) -> None:
    """A person hides something in an issue's folder, with more stars than are good."""
    patterns = (
        "*a" * 24 + "b\n",
        "[z-a]*\n",
        "\\\n",
        "!(\n",
        "**/" * 200 + "x\n",
        "".join(f"*{n}*x*\n" for n in range(4000)),
    )
    folder = life.house.inbox / f"{ISSUES[issue % len(ISSUES)]} hides {life.copies}"
    life.copies += 1
    folder.mkdir()
    (folder / ".attachdignore").write_text(patterns[how % len(patterns)])
    item = life.drop(f"{folder.name}/{'a' * 60}{life.copies}", life.content(77))
    item.may_stay = True


@deed
def remove_lock(life: Life, _a: int, _b: int) -> None:
    with suppress(OSError):
        (life.house.inbox / ".attachd" / "lock").unlink()


@deed
def swap_marker(life: Life, _a: int, _b: int) -> None:
    """A backup tool puts a copy in the place of `.attachd`."""
    ours, copy = life.house.inbox / ".attachd", life.house.home / f"attachd-{life.copies}"
    life.copies += 1
    with suppress(OSError):
        shutil.copytree(ours, copy)
        ours.rename(life.house.home / f"attachd-{life.copies}-old")
        copy.rename(ours)


@deed
def rename_marker(life: Life, _a: int, _b: int) -> None:
    """A dropper tidies up: `.attachd` gets another name."""
    life.copies += 1
    with suppress(OSError):
        (life.house.inbox / ".attachd").rename(life.house.inbox / f".attachd.{life.copies}")


@deed
def start_second(life: Life, _a: int, _b: int) -> None:
    """Another host's service on the same share."""
    life.house.second.start(expect_running=False)


@deed
def stop_second(life: Life, _a: int, how: int) -> None:
    life.house.second.stop(signal.SIGKILL if how % 2 else signal.SIGTERM)


@deed
def settle(life: Life, _a: int, _b: int) -> None:
    """Wait until nothing lies in the inbox, or for some seconds."""
    wait_for(lambda: not any(life.house.files(life.house.inbox)), 3.0)


@deed
def rest(life: Life, tenths: int, _b: int) -> None:
    """Let some time pass: what happens in it is not for people to see."""
    time.sleep(tenths % 10 / 10)


@deed
def await_uploads(life: Life, number: int, _b: int) -> None:
    """Wait until Jira was sent something more, for some seconds."""
    before = life.jira.uploads
    wait_for(lambda: life.jira.uploads >= before + max(1, number % 3), LAST_LOOK + 1.0)


def exchange(one: Path, other: Path) -> bool:
    """Have two names change their files at once; False where one of them is not there (renameat2(2), RENAME_EXCHANGE)."""
    return _LIBC.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


_LIBC = ctypes.CDLL(None, use_errno=True)


def _bytes(life: Life, item: Item) -> bytes | None:
    """What an item holds, wherever it lies by now."""
    for root in (life.house.inbox, life.house.done, life.house.failed):
        for path in life.house.files(root):
            with suppress(OSError):
                content = path.read_bytes()
                if digest(content) == item.sha256:
                    return content
    return None
