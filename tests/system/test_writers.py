"""Writers of many habits: whatever way a file gets into the inbox, its finished content is attached, once.

Each writer is a process of its own that goes on when the test says so. That a file was left alone meanwhile is proven by
another one that was dropped later into the same folder, and is attached before the writer goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until

QUIET_SECONDS = 0.25
MIB = 1 << 20


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()


# --- One service for all, an issue for each -------------------------------------------------------------------------


class Issue:
    """An issue's folder in the inbox of a running service, and what has become of the files dropped there."""

    def __init__(self, place: Place, jira: Jira, key: str) -> None:
        self.place, self.jira, self.key = place, jira, key
        self.folder, self.done = place.inbox / key, place.done / key
        self.canaries = itertools.count(1)
        self.folder.mkdir()

    def outlasts_quiet(self) -> None:
        """Return when a file that is dropped now has been attached: all that lay still before was looked at since."""
        name = f"canary-{next(self.canaries)}.txt"
        self.place.drop(f"{self.key}/{name}", f"{self.key} {name}".encode())
        wait_until((self.done / name).exists)

    def filed(self) -> dict[str, bytes]:
        """What lies in done, without the canaries."""
        found = {path: path.read_bytes() for path in self.done.rglob("*") if path.is_file()}
        named = {str(path.relative_to(self.done)): what for path, what in found.items()}
        return {name: what for name, what in named.items() if not name.startswith("canary-")}

    def attached(self) -> Counter[str]:
        """How often the issue has each content (as SHA-256), without the canaries."""
        mine = [a for a in self.jira.attachments() if a["issue"] == self.key]
        return Counter(a["sha256"] for a in mine if not a["filename"].startswith("canary-"))

    def holds(self, expected: dict[str, bytes]) -> None:
        """Wait until these files have been filed; assert that the issue has each once, and that nothing is left."""
        wait_until(lambda: self.filed().keys() == expected.keys())
        assert self.filed() == expected
        assert self.attached() == Counter(map(sha256, expected.values()))
        assert [path for path in self.folder.rglob("*") if not path.is_dir()] == []

    def states(self) -> dict[str, str]:
        """What the journal says of the files that lie in the folder."""
        with contextlib.closing(sqlite3.connect(f"file:{self.place.state}/journal.db?mode=ro", uri=True)) as journal:
            found = journal.execute("SELECT path, state FROM file WHERE folder_key = ? AND generation = 0", [self.key])
            return {os.fsdecode(path).partition("/")[2]: state for path, state in found}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Issue]]:
    """A daemon that runs for all tests of this module; gives a fresh issue at each call."""
    home = tmp_path_factory.mktemp("place")
    jira = Jira(tmp_path_factory.mktemp("jira"))
    place = Place(home, jira.url)
    text = place.config.read_text().replace("empty_seconds = 0.0", "empty_seconds = 3600.0")
    place.config.write_text(text.replace("quiet_seconds = 0.0", f"quiet_seconds = {QUIET_SECONDS}")
                            .replace("unproven = 0.0", f"unproven = {QUIET_SECONDS}"))  # fmt: skip
    numbers = itertools.count(1)
    daemon = place.start(stderr=subprocess.DEVNULL)
    try:
        # It has begun: a test may pause an issue before anything else, and until there is a journal that is refused.
        Issue(place, jira, f"TEST-{next(numbers)}").outlasts_quiet()
        yield lambda: Issue(place, jira, f"TEST-{next(numbers)}")
    finally:
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
        jira.close()
    assert code == 0


@pytest.fixture
def issue(service: Callable[[], Issue]) -> Issue:
    return service()


# --- Writers --------------------------------------------------------------------------------------------------------

PRELUDE = """
import mmap, os, random, sys, time
folder = sys.argv[1]
def content(size, seed=1):
    return random.Random(seed).randbytes(size)
def at(name):
    return os.path.join(folder, name)
def pause():
    print("paused", flush=True)
    sys.stdin.readline()
"""


class Writer:
    """A process that runs a script; it stops at each ``pause()`` until the test lets it go on."""

    def __init__(self, folder: Path, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def pauses(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "paused\n"

    def goes_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self) -> str:
        told, _ = self.process.communicate()
        assert self.process.returncode == 0
        return told


@contextlib.contextmanager
def writing(issue: Issue, script: str) -> Iterator[Writer]:
    writer = Writer(issue.folder, script)
    try:
        yield writer
        writer.ends()
    finally:
        if writer.process.poll() is None:
            writer.process.kill()
            writer.process.communicate()


def written_with_pauses(issue: Issue, script: str) -> None:
    """Run a script that pauses once; the pause lasts longer than ``quiet_seconds``."""
    with writing(issue, script) as writer:
        writer.pauses()
        issue.outlasts_quiet()
        assert issue.attached() == Counter(), "nothing is taken before its writer has ended"
        writer.goes_on()


def fed_with_a_pause(
    issue: Issue, command: list[str | Path], whole: bytes, size: int, begun: Callable[[], object]
) -> None:
    """Run a program that writes what it reads; after *size* bytes its input pauses for longer than ``quiet_seconds``."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
        assert program.stdin is not None
        program.stdin.write(whole[:size])
        program.stdin.flush()
        wait_until(begun)
        issue.outlasts_quiet()
        assert issue.attached() == Counter(), "nothing is taken before its writer has ended"
        program.stdin.write(whole[size:])
    assert program.returncode == 0


@pytest.fixture
def leases(tmp_path: Path) -> None:
    """Without them (fcntl(2), F_SETLEASE) nobody knows of a writer that pauses."""
    (tmp_path / "leased").touch()
    descriptor = os.open(tmp_path / "leased", os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        pytest.skip("the file system of the tests has no leases")
    finally:
        os.close(descriptor)


# --- Written in place -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("leases")
def test_cp_of_a_big_file_that_comes_slowly(issue: Issue) -> None:
    whole = content(24 * MIB)
    target = issue.folder / "big.bin"
    fed_with_a_pause(
        issue,
        ["cp", "/dev/stdin", target],
        whole,
        MIB,
        lambda: target.exists() and target.stat().st_size == MIB,
    )

    issue.holds({"big.bin": whole})


IN_PLACE = {
    "appends slowly": """
with open(at("file.bin"), "ab") as file:
    file.write(content(200_000)[:70_000])
    file.flush()
    pause()
    file.write(content(200_000)[70_000:])
""",
    "preallocates, then fills": """
with open(at("file.bin"), "wb") as file:
    os.posix_fallocate(file.fileno(), 0, 200_000)
    file.write(content(200_000)[:70_000])
    file.flush()
    pause()
    file.write(content(200_000)[70_000:])
""",
    "writes through a mapping that outlives the descriptor": """
file = os.open(at("file.bin"), os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 200_000)
mapping = mmap.mmap(file, 200_000)
os.close(file)
mapping[:70_000] = content(200_000)[:70_000]
pause()
mapping[70_000:] = content(200_000)[70_000:]
mapping.close()
""",
    "writes its end first": """
with open(at("file.bin"), "wb") as file:
    file.seek(70_000)
    file.write(content(200_000)[70_000:])
    file.flush()
    pause()
    file.seek(0)
    file.write(content(200_000)[:70_000])
""",
    "syncs in place, and gives the file its old time and mode at the end": """
with open(at("file.bin"), "wb") as file:
    file.write(content(200_000)[:70_000])
    file.flush()
    pause()
    file.write(content(200_000)[70_000:])
    file.truncate()
os.utime(at("file.bin"), (1_600_000_000, 1_600_000_000))
os.chmod(at("file.bin"), 0o640)
""",
}


@pytest.mark.usefixtures("leases")
@pytest.mark.parametrize("habit", IN_PLACE)
def test_a_writer_that_keeps_the_file_open_and_pauses(issue: Issue, habit: str) -> None:
    written_with_pauses(issue, IN_PLACE[habit])

    issue.holds({"file.bin": content(200_000)})


#: Opens, writes and closes; tells the longest time between two writes.
CYCLES = """
longest, last = 0.0, None
for number in range(12):
    with open(at("file.bin"), "ab") as file:
        file.write(content(120_000)[number * 10_000:][:10_000])
    now = time.monotonic()
    longest, last = max(longest, now - (last or now)), now
    time.sleep(0.03)
print(longest)
"""


def test_a_writer_that_opens_and_closes_again_and_again(service: Callable[[], Issue]) -> None:
    """Its pauses are shorter than ``quiet_seconds``; where the machine was too busy for that, it begins again."""
    for _ in range(5):
        issue = service()
        longest = float(Writer(issue.folder, CYCLES).ends())
        if longest < QUIET_SECONDS / 2:
            issue.holds({"file.bin": content(120_000)})
            return
    pytest.skip("the machine is too busy for a writer that keeps its time")


def test_a_scanner_that_makes_an_empty_file_first(issue: Issue) -> None:
    written_with_pauses(
        issue,
        """
open(at("scan.pdf"), "wb").close()
pause()
with open(at("scan.pdf"), "wb") as file:
    file.write(content(50_000))
""",
    )

    issue.holds({"scan.pdf": content(50_000)})


# --- Written elsewhere, then put in place ---------------------------------------------------------------------------

TEMPORARY = {
    "a program's": ("report.pdf.tmp", "report.pdf"),
    "a hidden one": (".report.doc.upload", "report.doc"),
    "rsync's": (".report.log.Ab12Cd", "report.log"),
    "a browser's": ("report.zip.crdownload", "report.zip"),
    "an SFTP client's": ("report.gz.filepart", "report.gz"),
}


def test_files_that_get_their_names_when_they_are_complete(issue: Issue) -> None:
    """Their temporary ones are left alone, also when these were closed long ago."""
    names = dict(TEMPORARY.values())
    written_with_pauses(
        issue,
        f"""
names = {names!r}
for number, temporary in enumerate(names):
    with open(at(temporary), "wb") as file:
        file.write(content(30_000, number)[:9_000])
pause()
for number, (temporary, name) in enumerate(names.items()):
    with open(at(temporary), "ab") as file:
        file.write(content(30_000, number)[9_000:])
    os.rename(at(temporary), at(name))
""",
    )

    issue.holds({name: content(30_000, number) for number, name in enumerate(names.values())})


def test_a_browser_that_holds_the_name_with_an_empty_file(issue: Issue) -> None:
    written_with_pauses(
        issue,
        """
open(at("load.iso"), "wb").close()
with open(at("load.iso.part"), "wb") as file:
    file.write(content(40_000))
    file.flush()
    pause()
os.rename(at("load.iso.part"), at("load.iso"))
""",
    )

    issue.holds({"load.iso": content(40_000)})


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("options", [[], ["--inplace"], ["--delay-updates"]])
def test_rsync(issue: Issue, tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    files = {"one.bin": content(5 * MIB), "below/two.bin": content(2 * MIB, 2)}
    for name, what in files.items():
        (source / name).write_bytes(what)

    subprocess.run(["rsync", "-rt", *options, f"{source}/", f"{issue.folder}/"], check=True)

    issue.holds(files)


def test_a_hard_link_into_place(issue: Issue) -> None:
    made = issue.place.home / "made.bin"
    made.write_bytes(content(30_000))

    os.link(made, issue.folder / "linked.bin")

    issue.holds({"linked.bin": content(30_000)})
    assert made.read_bytes() == content(30_000)


def test_a_folder_that_is_moved_in_with_one_rename(service: Callable[[], Issue]) -> None:
    issue = service()
    files = {f"{above}{number}.bin": content(3_000, number) for number, above in enumerate(["", "a/", "a/b/", "c d/"])}
    outside = issue.place.home / "outside"
    for name, what in files.items():
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(what)
    issue.folder.rmdir()

    outside.rename(issue.folder)

    issue.holds(files)


@pytest.mark.usefixtures("leases")
def test_tar_x_whose_archive_comes_slowly(issue: Issue) -> None:
    files = {f"logs/{number}/data.bin": content(300_000, number) for number in range(4)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, what in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(what), 1_600_000_000
            tar.addfile(member, io.BytesIO(what))
    whole = archive.getvalue()
    middle = len(whole) // 8  # In the middle of the first file.
    unpacking: list[str | Path] = ["tar", "-x", "-f", "-", "-C", issue.folder]
    fed_with_a_pause(issue, unpacking, whole, middle, (issue.folder / "logs/0/data.bin").exists)

    issue.holds(files)


# --- Saved over what is there ---------------------------------------------------------------------------------------

#: Writes the new content under another name and renames it over the old one.
SAFE_SAVE = """
with open(at("safe.txt.new"), "wb") as file:
    file.write(content(9_000, 2))
    os.fsync(file.fileno())
os.rename(at("safe.txt.new"), at("safe.txt"))
"""
#: Renames the old one to a backup, writes a new one under its name, removes the backup.
BACKUP_SAVE = """
os.rename(at("backup.txt"), at("backup.txt~"))
with open(at("backup.txt"), "wb") as file:
    file.write(content(9_000, 3))
    os.fsync(file.fileno())
os.unlink(at("backup.txt~"))
"""
#: Empties the old one and writes it again.
PLAIN_SAVE = """
with open(at("plain.txt"), "wb") as file:
    file.write(content(9_000, 4))
"""


def test_a_file_that_is_saved_again_while_it_waits_is_attached_as_it_was_saved_last(issue: Issue) -> None:
    names = ["safe.txt", "backup.txt", "plain.txt"]
    assert issue.place.run("pause", "--issue", issue.key).returncode == 0
    for name in names:
        issue.place.drop(f"{issue.key}/{name}", content(9_000, 1))
    wait_until(lambda: issue.states() == dict.fromkeys(names, "READY"))

    with writing(issue, SAFE_SAVE + BACKUP_SAVE + PLAIN_SAVE):
        pass
    assert issue.place.run("resume", "--issue", issue.key).returncode == 0

    issue.holds({name: content(9_000, 2 + number) for number, name in enumerate(names)})


def test_a_file_that_is_saved_again_after_it_was_attached_is_attached_twice(issue: Issue) -> None:
    issue.place.drop(f"{issue.key}/safe.txt", content(9_000, 1))
    issue.holds({"safe.txt": content(9_000, 1)})

    with writing(issue, SAFE_SAVE):
        pass

    issue.holds({"safe.txt": content(9_000, 1), "safe (2).txt": content(9_000, 2)})
