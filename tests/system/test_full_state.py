"""A disk of the state folder that is full: nobody dies of it, and everybody says so."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until
from web.test_page import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")

#: A journal whose process was killed, so that its log and its index were left.
KILLED = """
import os, sys
from pathlib import Path
from attachd.journal import database
journal = database.open_journal(Path(sys.argv[1]))
for number in range(50):
    with journal.transaction() as connection:
        database.put(connection, f"folder.{number}", "x" * 1000)
os.kill(os.getpid(), 9)
"""
READ = """
import sys
from pathlib import Path
from attachd.journal import database
journal = database.open_for_reading(Path(sys.argv[1]))
print(journal.value("SELECT count(*) FROM meta"))
journal.close()
"""
CHANGE = """
import sys
from pathlib import Path
from attachd.journal import database
from attachd.errors import Mistake
try:
    with database.changing(Path(sys.argv[1])) as connection:
        database.put(connection, "much", "x" * 1000000)
except Mistake as mistake:
    print(mistake.exit_code)
"""
START = """
import sys
from pathlib import Path
from attachd.journal import database
from attachd.errors import Mistake
try:
    with database.open_journal(Path(sys.argv[1])).transaction() as connection:
        database.put(connection, "much", "x" * 1000000)
except Mistake as mistake:
    print(mistake.exit_code)
"""


@pytest.fixture(params=[1024, 4096])
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of ext4 with blocks of this size: smaller ones than a page are usual on small disks."""
    image, folder = tmp_path / "image", tmp_path / "state"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(8 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", str(request.param), image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Take all but so many bytes of a disk."""
    kept = folder / "kept"
    kept.write_bytes(bytes(leave))
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
        os.fsync(file.fileno())
    kept.unlink()


def runs(code: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, state], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("leave", [0, 9 * 1024, 16 * 1024])
def test_a_journal_on_a_full_disk_is_read_and_nobody_dies_of_a_signal(small: Path, leave: int) -> None:
    assert runs(KILLED, small).returncode == -9
    # As after a restore, or a copy of the folder: the index is made again.
    (small / "journal.db-shm").unlink()
    fill(small, leave)

    read, changed, started = runs(READ, small), runs(CHANGE, small), runs(START, small)

    assert (read.returncode, int(read.stdout)) == (0, 50), read.stderr
    assert (changed.returncode, changed.stdout) == (0, "75\n"), changed.stderr
    assert started.returncode in (0, 1), started.stderr
    assert started.stdout == "75\n" or "OperationalError: database or disk is full" in started.stderr


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def serves(address: str) -> bool:
    try:
        return bool(fetched(address))
    except OSError:
        return False


@pytest.mark.parametrize("small", [1024], indirect=True)
def test_a_full_disk_under_the_running_service_is_said_everywhere_and_waited_for(
    small: Path, tmp_path: Path, jira: Jira
) -> None:
    home = tmp_path / "place"
    home.mkdir()
    place, listen = Place(home, jira.url), f"127.0.0.1:{free_port()}"
    place.configure(jira.url, f'[web]\nlisten = "{listen}"\n', f'inbox = "inbox"\nstate = "{small}"')
    with (home / "log").open("wb") as log:
        daemon = place.start(stdout=log, stderr=log)
        try:
            place.drop("TEST-1/before.txt", b"before")
            wait_until(lambda: len(jira.attachments()) == 1 and place.is_emptied(), 30)
            wait_until(lambda: serves(f"http://{listen}/readyz"), 30)
            fill(small)
            dropped = place.drop("TEST-1/during.txt", b"during")
            wait_until(lambda: "journal-disk" in fetched(f"http://{listen}/readyz"), 30)

            said = {
                "status": place.run("status").stdout,
                "why": place.run("why", dropped).stdout,
                "check": place.run("check", "--offline").stdout,
            }
            wait_until(lambda: "disk of the state folder" in (place.inbox / "_STATUS.txt").read_text(), 30)
            metrics = fetched(f"http://{listen}/metrics")
            (small / "filling").unlink()
            wait_until(lambda: len(jira.attachments()) == 2 and place.is_emptied(), 60)
            wait_until(lambda: "journal-disk" not in fetched(f"http://{listen}/readyz"), 30)
            after = place.run("status").stdout
        finally:
            daemon.terminate()
            code = daemon.wait(60)

    assert code == 0
    for verb, text in said.items():
        assert f"the disk of the state folder {small} is full (" in text, verb
    assert "locks: " not in "".join(line for line in said["check"].splitlines() if line.startswith("failed"))
    assert 'attachd_paused{reason="journal-disk",scope="site"} 1.0' in metrics
    assert "disk of the state folder" not in after
    told = (home / "log").read_text()
    assert told.count("journal.full") == 1
    assert told.count("journal.writable") == 1
    assert "Traceback" not in told
