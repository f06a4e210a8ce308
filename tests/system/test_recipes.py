"""The recipes, as they stand in docs/recipes.md: a real sshd puts files into the inbox, and attachd takes them away."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until
from web.test_page import free_port

RECIPES = (Path(__file__).parent.parent.parent / "docs/recipes.md").read_text("utf-8")
SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None or os.geteuid() != 0, reason="needs root and sshd (scripts/check installs openssh-server as root)"
)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder as sshd wants one for a chroot: root's all the way down, and writable by nobody else."""
    made = Path(tempfile.mkdtemp(prefix="attachd-sftp-", dir="/var/lib"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def recipe(chroot: Path) -> str:
    found = re.search(r"(?ms)^# /etc/ssh/sshd_config.d/attachd.conf\n(.*?)^```", RECIPES)
    assert found
    return found[1].replace("Match Group attachd-sftp", "Match User root").replace("/srv/attachd", str(chroot))


@pytest.fixture
def sftp(root: Path, tmp_path: Path) -> Iterator[list[str]]:
    """A client's command, to an sshd with the recipe."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    keys = tmp_path / "authorized"
    keys.write_bytes((tmp_path / "user.pub").read_bytes())
    port = free_port()
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {keys}\nStrictModes no\n"
        f"PermitRootLogin yes\nPidFile none\nUsePAM no\nSubsystem sftp internal-sftp\n{recipe(root)}"
    )
    with (tmp_path / "sshd.log").open("wb") as log:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path}/known", f"IdentityFile={tmp_path}/user"]
    client = ["sftp", "-q", "-P", str(port), *(word for each in options for word in ("-o", each)), "root@127.0.0.1"]
    try:
        wait_until(lambda: "Server listening" in (tmp_path / "sshd.log").read_text())
        yield client
    finally:
        server.terminate()
        server.wait(20)


def batch(client: list[str], *commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [client[0], "-b", "-", *client[1:]],
        input="\n".join(commands), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_what_comes_over_sftp_is_the_groups_and_is_attached(
    root: Path, sftp: list[str], place: Place, jira: Jira, tmp_path: Path
) -> None:
    for name in ("inbox", "done", "failed"):
        (root / name).mkdir()
        (root / name).chmod(0o2770)
    place.configure(jira.url, folders=f'inbox = "{root}/inbox"\nstate = "state"')
    (tmp_path / "report.pdf").write_bytes(b"over sftp")

    put = batch(
        sftp,
        "mkdir TEST-1",
        f"put {tmp_path}/report.pdf TEST-1/report.pdf.filepart",
        "rename TEST-1/report.pdf.filepart TEST-1/report.pdf",
        f"-put {tmp_path}/report.pdf ../outside",
    )

    assert put.returncode == 0, put.stderr
    modes = {name: stat.S_IMODE((root / "inbox/TEST-1" / name).stat().st_mode) for name in ("", "report.pdf")}
    assert modes[""] == 0o2770, "its group may take out of it what lies there"
    assert modes["report.pdf"] & 0o077 == 0o040, "its group may read it, and nobody else"
    ended = place.run("once")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [(each["issue"], each["filename"]) for each in jira.attachments()] == [("TEST-1", "report.pdf")]
    assert (root / "done/TEST-1/report.pdf").read_bytes() == b"over sftp"
