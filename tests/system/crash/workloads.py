"""The lives that are lived: what people drop, what the site does, and what happens between a death and the next start."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from system.crash import oracle
from system.crash import scene as scenes
from system.crash.scene import Scene

#: Larger than a body that is sent as one buffer (4 MiB): it is streamed, and its checksum is committed before its end.
STREAMED = 5 * 1024 * 1024
FIXED_MTIME = 1_700_000_000


@dataclass(frozen=True)
class Workload:
    """One kind of life. Its docstring's place is ``what``: a line of the matrix."""

    name: str
    what: str
    lay: Callable[[Scene], object]
    settings: str = ""
    #: What happens while it is dead.
    between: Callable[[Scene], object] = lambda scene: None
    #: Starts before the last, which see the world as ``between`` has left it; ``mend`` puts it right for the others.
    mend: Callable[[Scene], object] | None = None
    #: done and failed lie on another device; where the power is cut, it is that device's.
    devices: bool = False
    #: Where the power is cut, it is that of the inbox, done and failed alone, as on a NAS, and not of the journal's disk.
    apart: bool = False
    #: The verb that is lived, and what is given to it.
    words: Callable[[Scene], tuple[str, ...]] = lambda scene: ("once",)
    #: What is done to it while it lives, in a process of its own that is given its process id.
    actor: Callable[[Scene, int], object] | None = None
    #: Each life begins with a new journal.
    fresh: bool = False
    #: What has to be true of this kind besides, when all is quiet.
    also: Callable[[Scene, str], list[str]] = lambda scene, how: []

    def elsewhere(self, *, cut: bool) -> tuple[str, ...]:
        """The folders that do not lie beside the configuration and the journal."""
        if self.devices:
            return ("done", "failed")
        return ("inbox", "done", "failed") if self.apart and cut else ()


def _one(scene: Scene) -> None:
    scene.drop(f"{scene.issue()}/a.txt", scene.content(0))


def _many(scene: Scene) -> None:
    for which in range(12):
        scene.drop(f"{scene.issue(which % 3)}/part {which}.txt", scene.content(which))


def _large(scene: Scene) -> None:
    scene.drop(f"{scene.issue()}/large.bin", scene.content(0, STREAMED))


def _nested(scene: Scene) -> None:
    scene.drop(f"{scene.issue()}/x/y/a.txt", scene.content(0))
    scene.drop(f"{scene.issue()}/Prüf bericht.pdf", scene.content(1), name="Prüf bericht.pdf")
    scene.drop(f"{scene.issue()}/empty.txt", b"")


def _clash(scene: Scene) -> None:
    """The names are taken in done, once by an older file and once by a folder."""
    done = scene.place.done / scene.issue()
    done.mkdir()
    (done / "a.txt").write_bytes(older := scene.content(7))
    (done / "b.txt").mkdir()
    scene.strange[scenes.hashlib.sha256(older).hexdigest()] += 1
    scene.drop(f"{scene.issue()}/a.txt", scene.content(0))
    scene.drop(f"{scene.issue()}/b.txt", scene.content(1))


def _twins(scene: Scene) -> None:
    """Two files of one stored name, size and content: two attachments, no more and no less, although both are in doubt."""
    scene.drop(f"{scene.issue()}/x/a.txt", scene.content(0))
    scene.drop(f"{scene.issue()}/x-a.txt", scene.content(0))
    scene.fault("reset", commit=True)
    scene.fault("reset", point="last-byte")


def _namesake(scene: Scene) -> None:
    """Another file of the same name is on the issue already, by the same account; ours never arrives at first."""
    scene.put_on_issue("a.txt", scene.content(7, 701))
    scene.drop(f"{scene.issue()}/a.txt", scene.content(0))
    scene.fault("status", status=500, commit=False)


def _refused(scene: Scene) -> None:
    """Refused in so many words, one after another has been accepted."""
    scene.drop(f"{scene.issue()}/a.txt", scene.content(0))
    scene.drop(f"{scene.issue(1)}/no.txt", scene.content(1), end="either")
    body = '{"errorMessages": ["No."], "errors": {}}'
    scene.fault("status", 1, status=400, body=body, content_type="application/json", times=8)


def _returned(scene: Scene) -> None:
    """What failed in an earlier life is moved back, with its note."""
    inbox, failed, issue = scene.place.inbox, scene.place.failed, scene.issue()
    content = scene.content(0)
    path = scene.drop(f"{issue}/again.txt", content)
    body = '{"errorMessages": ["No."], "errors": {}}'
    # As often as it is asked: on a busy machine the answer may be waited for in vain, and what is in doubt is sent again.
    scene.fault("status", status=400, body=body, content_type="application/json", times=-1)
    code = scenes.until_quiet(scene.place)
    scene.jira.clear_faults()
    assert code == 3, (
        f"it was to be refused, and not to end with {code}: {scenes.rows(scene.place, 'SELECT * FROM pause')}"
    )
    assert not path.exists()
    (failed / issue / "again.txt").rename(inbox / issue / "again.txt")
    (failed / issue / "again.txt.why.txt").rename(inbox / issue / "again.txt.why.txt")


def _arrived(scene: Scene) -> None:
    """Stored, and the connection is reset: it must be found, and not sent again."""
    _many(scene)
    scene.fault("reset", 0, commit=True)
    scene.fault("status", 1, status=500, commit=True)


def _absent(scene: Scene) -> None:
    """Not stored, and the connection is reset after the last byte: it must be sent again."""
    _one(scene)
    scene.fault("reset", point="last-byte")


def _late(scene: Scene) -> None:
    """Stored a tenth of a second after the connection has ended."""
    _one(scene)
    scene.fault("late", delay=0.1, status=None)


def _half(scene: Scene) -> None:
    """Of a request half is stored, and all is refused; where a death has left a file alone, it is refused rightly."""
    for which in range(6):
        scene.drop(f"{scene.issue()}/part {which}.txt", scene.content(which), end="either")
    scene.fault("half")


def _renamed(scene: Scene) -> None:
    """Stored under another name, and the connection is reset: only the content tells."""
    _one(scene)
    scene.fault("rename", name="other.txt")
    scene.fault("reset", 1, commit=True, name="something else.txt")
    scene.drop(f"{scene.issue(1)}/b.txt", scene.content(1))


def _login(scene: Scene) -> None:
    """Stored, and the answer says at once that the token is no good any more."""
    _one(scene)
    scene.fault("login200")


def _page(scene: Scene) -> None:
    """A login page instead of an answer, with 200; and a redirect."""
    _one(scene)
    scene.fault("html200", times=1)
    scene.drop(f"{scene.issue(1)}/b.txt", scene.content(1))
    scene.fault("redirect", 1, times=1)


def _marked(scene: Scene) -> None:
    _one(scene)
    (scene.place.inbox / scene.issue() / "a.txt.ready").touch()
    scene.strange[scenes.hashlib.sha256(b"").hexdigest()] += 0


def _two_devices(scene: Scene) -> None:
    _many(scene)
    _large(scene)


def _copied(scene: Scene) -> None:
    scenes.copied(scene.place.inbox)


def _replaced(scene: Scene) -> None:
    """What lies there is exchanged for something else of the same size and time, unless it has its verdict."""
    _fixed(scene)
    path = scene.place.inbox / scene.issue() / "a.txt"
    if path.exists():
        path.unlink()
        kept = scene.expected[0]
        scene.drop(f"{scene.issue()}/a.txt", scene.content(5))
        os.utime(path, (FIXED_MTIME, FIXED_MTIME))
        # The first content is gone by somebody's hand; if it was delivered before that, it is in the issue alone.
        scene.expected.remove(kept)
        scene.strange[kept.digest] += 0


def _fixed(scene: Scene) -> None:
    for path in (scene.place.inbox / scene.issue()).glob("*"):
        os.utime(path, (FIXED_MTIME, FIXED_MTIME))


def _one_fixed(scene: Scene) -> None:
    _one(scene)
    _fixed(scene)


def _unmount(scene: Scene) -> None:
    """The inbox is not there: an empty folder is seen in its place."""
    scene.place.inbox.rename(scene.place.home / "share")
    scene.place.inbox.mkdir()


def _mount(scene: Scene) -> None:
    # Whatever a service does whose guard is broken: it lies in the way no longer.
    scene.place.inbox.rename(tempfile.mkdtemp(prefix="under the mount point ", dir=scene.place.home))
    (scene.place.home / "share").rename(scene.place.inbox)


def _lose_journal(scene: Scene) -> None:
    for path in scene.place.state.glob("journal.db*"):
        path.unlink()
    scene.remembers = False


def _copy(scene: Scene) -> str:
    return str(scene.place.home / f"copy-{scene.number}.db")


def _restorable(scene: Scene) -> None:
    """Attached after the copy was made, and in the inbox again, as in a snapshot that is older than the move."""
    assert scenes.verb(scene.place, "backup", _copy(scene)) == 0
    _many(scene)
    assert scenes.until_quiet(scene.place) == 0
    for which in range(12):
        below = f"{scene.issue(which % 3)}/part {which}.txt"
        (scene.place.done / below).rename(scene.place.inbox / below)


def _restore_again(scene: Scene) -> None:
    assert scenes.verb(scene.place, "restore", _copy(scene)) == 0


def _wait_for(condition: Callable[[], object], leader: int, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        os.kill(leader, 0)
        time.sleep(0.01)


def _reload_and_stop(scene: Scene, leader: int) -> None:
    """SIGHUP as soon as the first file has left, with a configuration that has changed; SIGTERM when all have."""
    log = scene.place.home / "log"
    _wait_for(lambda: log.exists() and "service.started" in log.read_text(), leader)
    config = scene.place.config.read_text()
    scene.place.config.write_text(config.replace("rescan_seconds = 1.0", "rescan_seconds = 0.9"))
    os.kill(leader, signal.SIGHUP)
    _wait_for(lambda: scene.place.is_emptied() and "config.reloaded" in log.read_text(), leader)
    os.kill(leader, signal.SIGTERM)
    scene.place.config.write_text(config)


def _rewrite(scene: Scene, leader: int) -> None:
    """Somebody appends to the file while it is sent."""
    path = scene.place.inbox / scene.issue() / "large.bin"
    time.sleep(0.2 + (scene.number % 20) * 0.01)
    try:
        with path.open("r+b") as file:  # no new one where it is gone already
            file.seek(0, os.SEEK_END)
            file.write(b"more")
    except FileNotFoundError:
        pass


ALL = {
    each.name: each
    for each in (
        Workload("one", "one file", _one),
        Workload("first", "one file, a journal and a marker that are not there yet", _one, fresh=True),
        Workload("many", "twelve files for three issues, in shared requests", _many),
        Workload("large", "a file that is streamed (5 MiB)", _large),
        Workload("nested", "a nested file, one with umlauts, an empty one", _nested),
        Workload("clash", "names that are taken in done, by a file and by a folder", _clash),
        Workload("twins", "two files of one stored name and content, both in doubt, of which one was stored", _twins),
        Workload(
            "namesake", "an answer of 500, nothing stored, where another file of that name is attached", _namesake
        ),
        Workload("refused", "one accepted, one refused", _refused),
        Workload("returned", "a failed file moved back with its note", _returned),
        Workload("arrived", "stored, but reset or 500 instead of an answer", _arrived),
        Workload("absent", "not stored, and reset after the last byte", _absent),
        Workload("late", "stored 0.1 s after the connection has ended", _late),
        Workload("half", "three of six files stored, and a 400", _half),
        Workload("renamed", "stored under another name, once with an answer and once without", _renamed),
        Workload("login", "stored, and the token called bad in the same answer", _login),
        Workload("page", "a login page with 200, and a redirect", _page),
        Workload("marked", "a file with a ready marker", _marked, settings='[settle]\nready_suffix = ".ready"'),
        Workload(
            "linked",
            "twelve files, each with a note of its issue's address in done",
            _many,
            settings="[folders]\nlink_notes = true",
            also=oracle.links,
        ),
        Workload(
            "hooked",
            "one accepted, one refused, each told to a webhook",
            _refused,
            settings='[hooks]\nurl = "{site}/__standin__/hook"',
            also=oracle.told,
        ),
        Workload("devices", "done and failed on another device", _two_devices, devices=True),
        Workload(
            "apart", "the power of the folders' disk alone is cut, that of the journal's stays", _many, apart=True
        ),
        Workload("copied", "the inbox is a copy after the death: new inodes", _many, between=_copied),
        Workload("replaced", "other content of the same size and time after the death", _one_fixed, between=_replaced),
        Workload(
            "unmounted",
            "the inbox is not mounted at the first start after the death",
            _one,
            between=_unmount,
            mend=_mount,
        ),
        Workload("lost", "the journal is gone after the death", _many, between=_lose_journal),
        Workload("backup", "the journal is copied", _one, words=lambda scene: ("backup", _copy(scene))),
        Workload(
            "restore",
            "a journal is put back that does not know what was attached since; and once more after the death",
            _restorable,
            words=lambda scene: ("restore", _copy(scene)),
            between=_restore_again,
        ),
        Workload(
            "reload", "run, SIGHUP with a change, SIGTERM", _many, words=lambda scene: ("run",), actor=_reload_and_stop
        ),
    )
}
